"""Each setting's variable, its value with secrets masked, and the source that set it."""

import re
from datetime import timedelta
from typing import NamedTuple

from pydantic import SecretStr

from dispatcher.app.event_loop import installed_loop
from dispatcher.config.conninfo import masked
from dispatcher.config.durations import format_duration
from dispatcher.config.setting_sources import ACCEPTED_NOT_USED, FoundSetting, merge_sources
from dispatcher.config.settings import Settings, variable_names

_SECRET = re.compile(r"API_KEY|KEY_DATA|GRPC_META|CODEC_AUTH")  # secrets among Temporal's variables


class Origin(NamedTuple):
    """One variable, its value, and the source that set it. `event_loop` is no variable: the installation decides it."""

    variable: str
    value: str
    source: str


def setting_origins(settings: Settings) -> list[Origin]:
    """Return every setting, then the variables of Temporal and XNovu that are set, then the event loop."""
    return [_own(settings, field) for field in Settings.model_fields] + _others(settings) + [_event_loop()]


def display_value(field: str, value: object) -> str:
    """Return the value of `field` as one would write it in a .env file; secrets are masked."""
    match value:
        case SecretStr():
            return masked(value) if field.endswith("database_url") else "***"
        case timedelta():
            bare_milliseconds = field == "reconnect_delay"  # XNovu's variable is a bare number
            return str(value // timedelta(milliseconds=1)) if bare_milliseconds else format_duration(value)
        case tuple():
            return ",".join(map(str, value))
        case bool():
            return str(value).lower()
        case None if field == "ledger_retention":
            return "off"
        case _:
            return "" if value is None else str(value)


def _own(settings: Settings, field: str) -> Origin:
    variable = variable_names(field)[0]
    found = settings.origins.found.get(field)
    if found is None:
        source = "default"
    else:
        source = found.source if found.variable == variable else f"{found.source} as {found.variable}"
    return Origin(variable, display_value(field, getattr(settings, field)), source)


def _event_loop() -> Origin:
    loop = installed_loop()
    return Origin("event_loop", loop, "package uvloop" if loop == "uvloop" else "Python; uvloop is not installed")


def _others(settings: Settings) -> list[Origin]:
    winners = {
        name: settings.origins.found[field].variable
        for field in settings.origins.found
        for name in variable_names(field)
    }
    return [
        Origin(name, "***" if _SECRET.search(name) else found.value, _source(found, winners))
        for name, found in sorted(merge_sources(settings.origins.sources).items())
        if winners.get(name) != name and (name in winners or name in ACCEPTED_NOT_USED or name.startswith("TEMPORAL_"))
    ]


def _source(found: FoundSetting, winners: dict[str, str]) -> str:
    if winner := winners.get(found.variable):
        return f"{found.source}; not used: {winner} comes first"
    if reason := ACCEPTED_NOT_USED.get(found.variable):
        return f"{found.source}; accepted, not used: {reason}"
    return found.source
