"""Builds the settings from the environment and a `.env` file.

Each variable is accepted under our own name and under that of XNovu, so that an XNovu `.env` works unchanged. An error
names the variable that is wrong and never repeats its value.
"""

import socket
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from dispatcher.config.setting_sources import (
    ENV_FILE,
    ENVIRONMENT,
    FoundSetting,
    SettingOrigins,
    SettingSource,
    explain_errors,
    find_setting,
    find_unknown_settings,
    merge_sources,
    nearest_setting,
    read_sources,
)
from dispatcher.config.settings import Settings, variable_names
from dispatcher.models.errors import ConfigurationError

ALL_INTERFACES = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  (a token protects all but bare health)


class UnknownSettings(ConfigurationError):
    """A `DISPATCHER_*` variable is no setting. `names`: all of them. `settings`: what the other variables give."""

    def __init__(self, names: list[str], nearest: str, settings: Settings) -> None:
        super().__init__(f"{names[0]} is not a setting: did you mean {nearest}?")
        self.names = names
        self.settings = settings


def load(env_file: Path | None = ENV_FILE, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of `environ` (by default this process's environment) over those of `env_file`.

    Raises ConfigurationError, in one line, for a value that is not valid, and UnknownSettings for an unknown
    `DISPATCHER_*` variable.
    """
    sources = read_sources(env_file, environ)
    known = {name for field in Settings.model_fields for name in variable_names(field)}
    settings = build_settings(sources)
    if unknown := find_unknown_settings(merge_sources(sources), known):
        raise UnknownSettings(unknown, nearest_setting(unknown[0], known), settings)
    return settings


def build_settings(sources: tuple[SettingSource, ...]) -> Settings:
    """Return the settings that `sources` hold, strongest source first; ConfigurationError for a value not valid."""
    found = {
        field: setting for field in Settings.model_fields if (setting := find_setting(variable_names(field), sources))
    }
    if "http_host" not in found and (port := found.get("http_port")) and is_port_of_platform(port):
        found["http_host"] = FoundSetting(port.variable, port.source, ALL_INTERFACES)
    try:
        settings = Settings.model_validate({field: setting.value for field, setting in found.items()})
    except ValidationError as error:
        raise ConfigurationError(explain_errors(error, Settings.model_fields, found)) from None
    settings._origins = SettingOrigins(sources, found)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (frozen for all other callers)
    return settings


def is_port_of_platform(port: FoundSetting) -> bool:
    """Return whether a platform set the port with `PORT`. Its router connects from outside, so not over loopback."""
    return port.variable == "PORT" and port.source == ENVIRONMENT
