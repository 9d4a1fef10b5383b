"""One line for each event: our own loggers (structlog) and those of libraries use the same pipeline.

Every line has `level`, `timestamp` (UTC), `component` and `event`, a name that programs can match. Further fields
follow; an exception is the field `raised`. Lines are limited in length, and free of control characters and secrets. If
the reader is gone or does not read, or a value cannot be formatted, the line is lost and the program goes on.
"""

import io
import json
import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from dispatcher.telemetry.redaction import escaped, redact, redact_text

MAX_LINE_CHARS = 10_000  # bytes; Heroku's log router splits longer lines
WRITE_TIMEOUT_MILLISECONDS = 50
_FIRST_KEYS = ("timestamp", "level", "component", "event")
# These write much at info, and at debug they would write request headers.
_QUIET = ("httpx", "httpcore", "uvicorn.access", "asyncio", "psycopg.pool", "hpack")


def get_logger(component: str) -> FilteringBoundLogger:
    """Return the logger of the module `component`. May be called at import, before `configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger(f"dispatcher.{component}", component=component))


def configure(format: str, level: str, *, stream: TextIO | None = None) -> None:  # noqa: A002  (the setting's name)
    """Write all logs of the process to `stream`: stderr, or stdout for commands that run until they are stopped.

    `format` is a value of DISPATCHER_LOG_FORMAT, `level` one of DISPATCHER_LOG_LEVEL.
    """
    target = stream or sys.stderr
    terminal = _is_terminal(target)
    number = logging.getLevelNamesMapping()[level.upper()]
    style = ("console" if terminal else "json") if format == "auto" else format
    handler = _SafeHandler(_non_blocking(target))
    handler.setFormatter(_formatter(style, colors=terminal and not os.environ.get("NO_COLOR")))
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def add_handler(handler: logging.Handler) -> None:
    """Pass every record of level info and above to `handler` too, even if the log is written from a higher level only.

    In a record of our own loggers, `record.msg` is the mapping with the event's fields.
    """
    root = logging.getLogger()
    for writer in root.handlers:
        writer.setLevel(root.level)
    root.addHandler(handler)
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


def _is_terminal(stream: TextIO | None) -> bool:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode must not lose lines
    return stream is not None and stream.isatty()  # None: the descriptor was closed before the process started


class _SafeHandler(logging.StreamHandler[Any]):
    """Writes lines; a line that cannot be formatted or written is lost."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the standard library's name)
        """Do nothing: the reader is gone, or `str()` of a value raised; printing here could raise again."""


class _NonBlockingStream:
    """A stream whose reader may stop reading. A line that does not fit into the pipe is lost, never cut.

    The first such line waits up to `WRITE_TIMEOUT_MILLISECONDS`, further ones not until the reader reads again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._reader_keeps_up = True
        self._unwritten = b""

    def write(self, line: str) -> None:
        """Write a line, unless the rest of the one before it is still unwritten."""
        self._unwritten = self._push(self._unwritten)
        if not self._unwritten:
            self._unwritten = self._push(line.encode(self._encoding, "backslashreplace"))

    def _push(self, data: bytes) -> bytes:
        """Write as much as fits and return the rest. Waits a moment for a reader that has kept up so far."""
        while data:
            self._reader_keeps_up = bool(self._poll.poll(WRITE_TIMEOUT_MILLISECONDS if self._reader_keeps_up else 0))
            if not self._reader_keeps_up:
                break
            data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
        return data


def _non_blocking(stream: TextIO) -> TextIO | _NonBlockingStream:
    """Return a stream that writes to `stream` without blocking; a stream in memory is returned as it is."""
    try:
        return _NonBlockingStream(stream)
    except (AttributeError, OSError, ValueError):
        return stream


def _formatter(style: str, *, colors: bool) -> logging.Formatter:
    clean = str if style == "json" else escaped
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level, _library_record],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _dyno(os.environ.get("DYNO")),
            _exception,
            _redacted(clean),
            _bounded(_renderer(style, colors=colors)),
        ],
    )


def _renderer(style: str, *, colors: bool) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    if style == "logfmt":
        return structlog.processors.LogfmtRenderer(key_order=_FIRST_KEYS, bool_as_flag=False)
    return structlog.dev.ConsoleRenderer(colors=colors)


def _library_record(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Give a library's record our keys. Its sentence goes into `message`, because programs match `event`."""
    record: logging.LogRecord = event["_record"]
    return {**event, "event": "library", "component": record.name, "message": event["event"]}


def _dyno(name: str | None) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**event, "dyno": name} if name else event

    return add


def _exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the text field `raised`, if there is an exception."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if error is None and given:
        error = sys.exc_info()[1]
    return event if error is None else {**event, "raised": describe_error(error)}


def describe_error(error: BaseException, depth: int = 0) -> str:
    """Return type, message, the six innermost frames and the causes of `error` in one text."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    # Each part is redacted alone: hiding the rest of a message must not hide the frames and the causes.
    text = f"{error_code(error)}: {redact_text(str(error))[:1_500]}" + (f" [{places}]" if places else "")
    if depth >= 3:
        return text
    inner = error.exceptions[:3] if isinstance(error, BaseExceptionGroup) else ()
    text += "".join(f" | {describe_error(one, depth + 1)}" for one in inner)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{text} <- {describe_error(cause, depth + 1)}" if cause else text


def error_code(error: BaseException) -> str:
    """Return the error's class, and its SQLSTATE if PostgreSQL raised it. Neither contains data of a row."""
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def _redacted(clean: Callable[[str], str]) -> Processor:
    def apply(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        first = {key: event[key] for key in _FIRST_KEYS if key in event}
        redacted: dict[str, Any] = redact({**first, **event}, clean)
        return {re.sub(r"[^\w.-]", "_", key): value for key, value in redacted.items()}

    return apply


def _bounded(render: Processor) -> Processor:
    """Render an event. If the line is too long, render its first keys and the beginning of the rest as `truncated`."""

    def apply(logger: WrappedLogger, method: str, event: EventDict) -> str:
        line = str(render(logger, method, dict(event)))
        if len(line.encode(errors="replace")) <= MAX_LINE_CHARS:
            return line
        first = {key: str(event.get(key, ""))[:200] for key in _FIRST_KEYS}
        rest = json.dumps(event, default=str)[: MAX_LINE_CHARS // 3]  # ASCII; escaping it again at most doubles it
        return str(render(logger, method, first | {"truncated": rest}))

    return apply
