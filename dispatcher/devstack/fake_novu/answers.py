"""Novu's answers: the `data` envelope of a success, and the shape of its errors.

The error shape is the observed one, which differs from the published specification: `statusCode`, `timestamp`, `path`,
`message` and mostly `error`; a 500 has `errorId` instead, a 429 has neither. Version 3.19.0 adds `ctx`, and `errors`
where it refuses fields; 2.0.0 lists their sentences in `message`.
"""

import json
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

Headers = tuple[tuple[str, str], ...]
UNEXPLAINED = ("Unauthorized", "Payload Too Large", "Service Unavailable")
"""Messages that are only the status in words. 3.19.0 sends no `error` beside them."""
INTERNAL_ERROR = "Internal server error, contact support and provide them with the errorId"


class Answer(NamedTuple):
    """A complete HTTP answer."""

    status: int
    body: bytes
    headers: Headers = ()

    def adding(self, *headers: tuple[str, str]) -> "Answer":
        """Return the same answer with more headers."""
        return self._replace(headers=self.headers + headers)


class Refusal(Exception):
    """An HTTP exception of Novu: ends the call with `status` and `message`."""

    def __init__(
        self, status: int, message: str | list[str], headers: Headers = (), errors: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.errors = errors
        self.status = status
        self.message = message
        self.headers = headers

    def adding(self, *headers: tuple[str, str]) -> "Refusal":
        """Return a copy with more headers; a stored refusal stays unchanged."""
        return Refusal(self.status, self.message, self.headers + headers, self.errors)

    def answer(self, path: str, *, legacy: bool = False) -> Answer:
        """Return the answer for this call; its time stamp is the current time, as Novu's exception filter sets it."""
        return Answer(self.status, encode(self._legacy_shape(path) if legacy else self._shape(path)), self.headers)

    def _shape(self, path: str) -> dict[str, Any]:
        shape = self._legacy_shape(path)
        if self.errors is not None or self.message in UNEXPLAINED:
            shape.pop("error", None)
        kept = () if self.status in (422, 429) else ("error", "statusCode")
        shape["ctx"] = {name: shape[name] for name in kept if name in shape}
        return shape if self.errors is None else shape | {"errors": self.errors}

    def _legacy_shape(self, path: str) -> dict[str, Any]:
        shape = {"statusCode": self.status, "timestamp": now(), "path": path, "message": self.message}
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return shape | {"errorId": uuid.uuid4().hex}
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return shape
        return shape | {"error": HTTPStatus(self.status).phrase}


def success(data: Any, status: int = 200) -> Answer:
    """Return `data` in Novu's envelope."""
    return Answer(status, encode({"data": data}))


def page(data: list[Any], number: int, size: int, total: int, **more: Any) -> Answer:
    """Return a page of a list, whose envelope has the page's fields, and `more`, beside `data`."""
    fields = {"page": number, "pageSize": size, "hasMore": total > (number + 1) * size}
    return Answer(200, encode(fields | more | {"data": data}))


def encode(value: Any) -> bytes:
    """Return JSON as Node writes it, without blanks."""
    return json.dumps(value, separators=(",", ":")).encode()


def now() -> str:
    """Return the current time in JavaScript's ISO form."""
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """Return a UTC time in JavaScript's ISO form."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
