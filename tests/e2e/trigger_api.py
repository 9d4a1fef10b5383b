"""A client of the trigger API, and what its tests read of an answer and of the database."""

from typing import Any

from dispatcher.install import render_grants
from tests.support.stack import RUN_ROLE, Stack

TOKEN = "0123456789abcdef0123456789abcdef"
API = {"DISPATCHER_HTTP_API": "true", "DISPATCHER_HTTP_TOKEN": TOKEN, "DISPATCHER_SWEEP_INTERVAL": "1s"}
RIGHT = {"authorization": f"Bearer {TOKEN}"}
ASK = "/api/trigger-async"


async def granted(stack: Stack) -> None:
    await stack.connection.execute(render_grants("notify.ent_notification", RUN_ROLE, operator=True).encode())


async def answer_of(asked: Any, code: int = 200) -> dict[str, Any]:
    answer = await asked
    assert answer.status_code == code, answer.text
    return answer.json()


async def actions(stack: Stack) -> list[Any]:
    return await stack.rows("select actor, action, notification_ids, detail::jsonb from dispatcher.action order by id")
