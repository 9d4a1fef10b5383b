"""Where settings come from: the environment over a `.env` file, and which names are understood.

Knows the names XNovu used and what their values mean here. Reads; changes neither the environment nor the file,
and no error repeats a value.
"""

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo

from dispatcher.models.errors import ConfigurationError

ENV_FILE = Path(".env")
ENVIRONMENT = "environment"

ACCEPTED_NOT_USED = {
    "SUBSCRIPTION_MAX_RETRIES": "the listener never gives up; the sweep finds notifications meanwhile",
    "SUBSCRIPTION_HEALTH_CHECK_INTERVAL": "the listener checks itself at a fixed pace",
}


# XNovu counts in bare milliseconds and allows larger batches than a workflow here carries.
_MILLISECONDS = {
    "POLL_INTERVAL_MS",
    "SCHEDULED_POLL_INTERVAL_MS",
    "FAILED_POLL_INTERVAL_MS",
    "SUBSCRIPTION_RECONNECT_DELAY",
}
_MESSAGE_REPLACEMENTS = [
    (r"^Field required$", "is not set"),
    (r"^String should match pattern .*", "is not understood"),
    (r"^(Value error, |Input (?=should ))", ""),
]
# What Kubernetes puts into every pod that lives beside a service called "dispatcher" or "dispatcher-…".
_KUBERNETES = re.compile(
    r"(DISPATCHER(?:_\w+?)??)_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)"
)


class SettingSource(NamedTuple):
    """One place that holds variables; empty ones count as unset and are not in it."""

    name: str
    values: Mapping[str, str]


class FoundSetting(NamedTuple):
    """A variable, the place that held it, and its value in our units."""

    variable: str
    source: str
    value: str


class SettingOrigins(NamedTuple):
    """Every source as it was read, strongest first, and for each field of `Settings` the variable that filled it."""

    sources: tuple[SettingSource, ...]
    found: Mapping[str, FoundSetting]


def read_sources(env_file: Path | None, environ: Mapping[str, str] | None = None) -> tuple[SettingSource, ...]:
    """Return the places to look in, strongest first. Only the usual `.env` may be missing."""
    environment = SettingSource(ENVIRONMENT, _filled(os.environ if environ is None else environ))
    if env_file is None or (env_file == ENV_FILE and not env_file.exists()):
        return (environment,)
    if not env_file.exists():
        raise ConfigurationError(f"{env_file} does not exist: name an environment file that does")
    # Here, because commands that find no file answer a tenth of a second sooner without it.
    from pydantic_settings import BaseSettings, DotEnvSettingsSource  # noqa: PLC0415

    try:
        values = DotEnvSettingsSource(BaseSettings, env_file=env_file, case_sensitive=True).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{env_file} cannot be read as an environment file: {type(error).__name__}") from None
    return environment, SettingSource(str(env_file), _filled(values))


def find_setting(names: Sequence[str], sources: Sequence[SettingSource]) -> FoundSetting | None:
    """Return the first of `names` in the strongest place that has any: the environment beats the file."""
    for place in sources:
        for name in names:
            if value := place.values.get(name):
                return FoundSetting(name, place.name, _convert_units(name, value))
    return None


def _convert_units(name: str, value: str) -> str:
    if name in _MILLISECONDS:
        if not value.isdecimal():
            raise ConfigurationError(f"{name} should be a whole number of milliseconds")
        return f"{value}ms"
    return str(min(int(value), 100)) if name == "POLL_BATCH_SIZE" and value.isdecimal() else value


def merge_sources(sources: Sequence[SettingSource]) -> dict[str, FoundSetting]:
    """Return every variable once, as it was written."""
    return {
        name: FoundSetting(name, place.name, value)
        for place in reversed(sources)
        for name, value in place.values.items()
    }


def names_of(field: FieldInfo) -> list[str]:
    """Return the variables that fill `field`, strongest first."""
    return [str(name) for name in cast(AliasChoices, field.validation_alias).choices]


def explain_errors(error: ValidationError, fields: Mapping[str, FieldInfo], found: Mapping[str, FoundSetting]) -> str:
    """Say which variables are wrong, how, what they mean and how they would be right; never what they hold."""
    sentences: dict[str, None] = {}
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name, wrong = str(problem["loc"][0]), problem["msg"]
        field = next(field for field in fields if name == field or name in names_of(fields[field]))
        variable = found[field].variable if field in found else names_of(fields[field])[0]
        examples = fields[field].examples
        for pydantic_says, we_say in _MESSAGE_REPLACEMENTS:
            wrong = re.sub(pydantic_says, we_say, wrong)
        example = f" For example: {examples[0]}" if examples else ""
        sentences[f"{variable} {wrong}. {fields[field].description}{example}"] = None
    return " ".join(sentences)


def refuse_unknown_settings(present: Collection[str], known: Collection[str]) -> None:
    """Raise ConfigurationError for a `DISPATCHER_*` variable that nobody reads: most likely a slip of the finger."""
    for name in sorted(set(present) - set(known)):
        if name.startswith("DISPATCHER_") and not is_kubernetes_service_variable(name, present):
            nearest = difflib.get_close_matches(name, [own for own in known if own.startswith("DISPATCHER_")], 1, 0)
            raise ConfigurationError(f"{name} is not a setting: did you mean {nearest[0]}?")


def is_kubernetes_service_variable(name: str, present: Collection[str]) -> bool:
    """Return whether the variable describes a service. Its host always comes along, so that no slip looks like one."""
    match = _KUBERNETES.fullmatch(name)
    return match is not None and f"{match[1]}_SERVICE_HOST" in present


def _filled(values: Mapping[str, str | None]) -> dict[str, str]:
    # A newline that came along when a key was pasted would make every request with it fail.
    return {name: value.strip() for name, value in values.items() if value and value.strip()}
