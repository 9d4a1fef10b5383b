"""What a request to the trigger API may say, checked before anything is done."""

import re
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MAX_IDS = 500
MAX_BIGINT = 2**63 - 1

Id = Annotated[int, Field(strict=True, ge=1, le=MAX_BIGINT)]


class CancelBody(BaseModel):
    """The body of a cancellation. `reason` is for the record."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=1000, pattern=r"^[^\x00]*$")


class TriggerBody(CancelBody):
    """The body of a trigger."""

    notification_id: Id | None = Field(default=None, alias="notificationId")
    notification_ids: list[Id] = Field(default=[], alias="notificationIds", max_length=MAX_IDS)
    returns_at_once: bool = Field(default=True, alias="async", strict=True)
    resend: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _names_something(self) -> "TriggerBody":
        if (self.notification_id is None) is (not self.notification_ids):
            raise ValueError("give notificationId, or notificationIds with at least one id")
        return self

    @property
    def ids(self) -> list[int]:
        """The notifications, each once."""
        return list(dict.fromkeys(self.notification_ids)) or [self.notification_id or 0]


Body = TypeVar("Body", bound=CancelBody)


def parse_id(text: str) -> int:
    """Return the id that a path names."""
    if re.fullmatch(r"[0-9]{1,19}", text) is None or not 0 < int(text) <= MAX_BIGINT:
        raise HTTPException(400, "the notification's id should be a number, as in the table")
    return int(text)


async def parse_body(request: Request, shape: type[Body]) -> Body:
    """Return what the request says; nothing at all means nothing special."""
    try:
        return shape.model_validate_json(await request.body() or b"{}")
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too early") from None
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"])
        raise HTTPException(400, f"{where}: {first['msg']}" if where else first["msg"]) from None


def parse_workflow_name(name: str) -> int:
    """Return the id of the notification that a workflow sends."""
    match = re.fullmatch(r"notification-([0-9]{1,19})(-[0-9a-f]{12}-[0-9]+)?", name)
    if match is None:
        raise HTTPException(400, "workflowId should be notification-<id>")
    return parse_id(match[1])


def is_cross_site(request: Request) -> bool:
    """Return whether a browser says that the page of another site sent this.

    Such a page has no token; should one ever come from somewhere else than a header, this still holds.
    """
    site, origin = request.headers.get("sec-fetch-site", "none"), request.headers.get("origin")
    return site not in ("none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    )
