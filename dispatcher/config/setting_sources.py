"""Where settings come from: the environment first, then a `.env` file; and which variable names are known.

Knows the names that XNovu used and converts their units. Reads only: it changes neither the environment nor the file.
No error repeats a value.
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
    "SUBSCRIPTION_MAX_RETRIES": "the listener never stops reconnecting; the sweep finds notifications meanwhile",
    "SUBSCRIPTION_HEALTH_CHECK_INTERVAL": "the listener checks its connection at a fixed interval",
}


# Variables of XNovu whose value is a number of milliseconds without a unit.
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
# Variables that Kubernetes sets in every pod of a namespace with a service named "dispatcher" or "dispatcher-…".
_KUBERNETES = re.compile(
    r"(DISPATCHER(?:_\w+?)??)_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)"
)


class SettingSource(NamedTuple):
    """One source of variables: its name and its values. Variables with an empty value count as unset: left out."""

    name: str
    values: Mapping[str, str]


class FoundSetting(NamedTuple):
    """A variable, the name of the source that held it, and its value in our units."""

    variable: str
    source: str
    value: str


class SettingOrigins(NamedTuple):
    """Every source as it was read, strongest first, and for each field of `Settings` the variable that filled it."""

    sources: tuple[SettingSource, ...]
    found: Mapping[str, FoundSetting]


def read_sources(env_file: Path | None, environ: Mapping[str, str] | None = None) -> tuple[SettingSource, ...]:
    """Return the sources, strongest first. Only the default file `.env` may be missing.

    Raises ConfigurationError for any other file that is missing, and for a file that cannot be read.
    """
    environment = SettingSource(ENVIRONMENT, _filled(os.environ if environ is None else environ))
    if env_file is None or (env_file == ENV_FILE and not env_file.exists()):
        return (environment,)
    if not env_file.exists():
        raise ConfigurationError(f"{env_file} does not exist: give the path of an existing environment file")
    # Imported here: commands that find no file start 0.1 s faster without it.
    from pydantic_settings import BaseSettings, DotEnvSettingsSource  # noqa: PLC0415

    try:
        values = DotEnvSettingsSource(BaseSettings, env_file=env_file, case_sensitive=True).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{env_file} cannot be read as an environment file: {type(error).__name__}") from None
    return environment, SettingSource(str(env_file), _filled(values))


def find_setting(names: Sequence[str], sources: Sequence[SettingSource]) -> FoundSetting | None:
    """Return the first of `names` that is set in the strongest source that has any of them, or None."""
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
    # XNovu allows larger batches than one workflow takes here.
    return str(min(int(value), 100)) if name == "POLL_BATCH_SIZE" and value.isdecimal() else value


def merge_sources(sources: Sequence[SettingSource]) -> dict[str, FoundSetting]:
    """Return each variable once, from the strongest source that has it, with its value unchanged."""
    return {
        name: FoundSetting(name, place.name, value)
        for place in reversed(sources)
        for name, value in place.values.items()
    }


def names_of(field: FieldInfo) -> list[str]:
    """Return the names of the variables that can fill `field`, strongest first."""
    return [str(name) for name in cast(AliasChoices, field.validation_alias).choices]


def explain_errors(error: ValidationError, fields: Mapping[str, FieldInfo], found: Mapping[str, FoundSetting]) -> str:
    """Return which variables are wrong and why, with their description and an example; never their values."""
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


def find_unknown_settings(present: Collection[str], known: Collection[str]) -> list[str]:
    """Return the `DISPATCHER_*` variables that are no settings, sorted: typing errors, or of a newer version."""
    unknown = sorted(set(present) - set(known))
    return [
        name for name in unknown if name.startswith("DISPATCHER_") and not is_kubernetes_service_variable(name, present)
    ]


def nearest_setting(name: str, known: Collection[str]) -> str:
    """Return the setting whose name is most like `name`."""
    return difflib.get_close_matches(name, [own for own in known if own.startswith("DISPATCHER_")], 1, 0)[0]


def is_kubernetes_service_variable(name: str, present: Collection[str]) -> bool:
    """Return whether Kubernetes set `name` to describe a service.

    Kubernetes also sets `…_SERVICE_HOST` of the same service, so a mistyped setting does not look like one.
    """
    match = _KUBERNETES.fullmatch(name)
    return match is not None and f"{match[1]}_SERVICE_HOST" in present


def _filled(values: Mapping[str, str | None]) -> dict[str, str]:
    # A newline that was pasted with a key would make every request with that key fail.
    return {name: value.strip() for name, value in values.items() if value and value.strip()}
