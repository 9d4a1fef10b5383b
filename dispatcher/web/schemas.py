"""The bodies and names in requests to the trigger API, and their validation. Each error is an HTTPException 400."""

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
    """The body of a cancellation. `reason` is recorded with the action."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=1000, pattern=r"^[^\x00]*$")


class TriggerBody(CancelBody):
    """The body of a trigger. `async`: do not wait for the end. `resend`: also to recipients that have it already."""

    notification_id: Id | None = Field(default=None, alias="notificationId")
    notification_ids: list[Id] = Field(default=[], alias="notificationIds", max_length=MAX_IDS)
    returns_at_once: bool = Field(default=True, alias="async", strict=True)
    resend: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _has_ids(self) -> "TriggerBody":
        if (self.notification_id is None) is (not self.notification_ids):
            raise ValueError("give notificationId, or notificationIds with at least one id")
        return self

    @property
    def ids(self) -> list[int]:
        """The ids of the notifications, without duplicates."""
        return list(dict.fromkeys(self.notification_ids)) or [self.notification_id or 0]


Body = TypeVar("Body", bound=CancelBody)


def parse_id(text: str) -> int:
    """Return the notification's id in a path."""
    if re.fullmatch(r"[0-9]{1,19}", text) is None or not 0 < int(text) <= MAX_BIGINT:
        raise HTTPException(400, "the notification's id should be a number from 1 to 2^63 - 1")
    return int(text)


async def parse_body(request: Request, shape: type[Body]) -> Body:
    """Return the request's body; an empty body means all defaults."""
    try:
        return shape.model_validate_json(await request.body() or b"{}")
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the body did") from None
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"])
        raise HTTPException(400, f"{where}: {first['msg']}" if where else first["msg"]) from None


def parse_workflow_name(name: str) -> int:
    """Return the notification's id in a workflow's name: ours, or a workflow id of Temporal's."""
    match = re.fullmatch(r"notification-([0-9]{1,19})(-[0-9a-f]{12}-[0-9]+)?", name)
    if match is None:
        raise HTTPException(400, "workflowId should be notification-<id>")
    return parse_id(match[1])


def is_cross_site(request: Request) -> bool:
    """Return whether a browser's headers say that a page of another site sent the request.

    Such a page has no token. This check is a second barrier, for example behind a proxy that adds the token.
    """
    site, origin = request.headers.get("sec-fetch-site", "none"), request.headers.get("origin")
    return site not in ("none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    )
