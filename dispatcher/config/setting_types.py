"""The types of setting values that are written as text: durations, sizes, lists, log levels."""

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator

from dispatcher.config.durations import parse_duration
from dispatcher.config.sizes import Size, parse_size

_LEVELS = {"warn": "warning", "fatal": "critical", "verbose": "debug", "silly": "debug", "trace": "debug"}


def _parse_duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _parse_duration_or_off(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "off" else _parse_duration(value)


def _parse_size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _split_list(value: object) -> object:
    return tuple(dict.fromkeys(value.replace(",", " ").split())) if isinstance(value, str) else value


def _parse_log_level(value: object) -> object:
    return _LEVELS.get(value.lower(), value.lower()) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
DurationOrOff = Annotated[timedelta | None, BeforeValidator(_parse_duration_or_off)]
"""None means off."""
Bytes = Annotated[int, BeforeValidator(_parse_size), AfterValidator(Size)]
Uuids = Annotated[tuple[UUID, ...], BeforeValidator(_split_list)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_parse_log_level)]
