"""Facts of the HTTP port that tests wait for."""

from typing import Any

import httpx

from tests.support.waits import eventually


async def answers(http: httpx.AsyncClient, path: str, code: int, *, within: float = 30, **holds: Any) -> Any:
    """Wait until `path` answers so, with these values; return the answer."""
    last: list[Any] = []

    async def so() -> Any:
        answer = await http.get(path)
        last[:] = [answer.status_code, answer.text[:2000]]
        told = answer.json()
        return told if answer.status_code == code and holds.items() <= told.items() else None

    return await eventually(so, f"{path} {code} {holds}, but {last}", within)


def metrics_of(text: str) -> dict[str, float]:
    """Return the samples of an exposition."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def subscribed(http: httpx.AsyncClient, so: dict[str, int]) -> bool:
    """Return whether /status shows these subscriptions."""
    return (await http.get("/status")).json()["components"]["subscriptions"] == so
