"""What Novu's API says: the `data` envelope of a success, and the shape every error really has.

The error shape is the observed one, not the one of the published specification: `statusCode`, `timestamp`, `path`,
`message` (a sentence or a list of them) and mostly `error`; a 500 carries `errorId` instead, a 429 neither.
"""

import json
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

Headers = tuple[tuple[str, str], ...]
INTERNAL_ERROR = "Internal server error, contact support and provide them with the errorId"


class Answer(NamedTuple):
    """A finished HTTP answer."""

    status: int
    body: bytes
    headers: Headers = ()

    def adding(self, *headers: tuple[str, str]) -> "Answer":
        """The same answer with more headers."""
        return self._replace(headers=self.headers + headers)


class Refusal(Exception):
    """Novu's HTTP exception: ends the call with `status` and `message`."""

    def __init__(self, status: int, message: str | list[str], headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers

    def adding(self, *headers: tuple[str, str]) -> "Refusal":
        """The same refusal with more headers; the stored one stays as it was."""
        return Refusal(self.status, self.message, self.headers + headers)

    def answer(self, path: str) -> Answer:
        """The error body, rendered for this very call as Novu's exception filter does."""
        return Answer(self.status, encode(self._shape(path)), self.headers)

    def _shape(self, path: str) -> dict[str, Any]:
        shape = {"statusCode": self.status, "timestamp": now(), "path": path, "message": self.message}
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return shape | {"errorId": uuid.uuid4().hex}
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return shape
        return shape | {"error": HTTPStatus(self.status).phrase}


def success(data: Any, status: int = 200) -> Answer:
    """Data in Novu's envelope."""
    return Answer(status, encode({"data": data}))


def page(data: list[Any], number: int, size: int, total: int) -> Answer:
    """A page is its own envelope."""
    return Answer(200, encode({"page": number, "pageSize": size, "hasMore": total > (number + 1) * size, "data": data}))


def encode(value: Any) -> bytes:
    """JSON as Node writes it, without blanks."""
    return json.dumps(value, separators=(",", ":")).encode()


def now() -> str:
    """The present in JavaScript's ISO form."""
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """A moment in JavaScript's ISO form."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
