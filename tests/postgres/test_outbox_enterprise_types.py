"""Claims work for an `enterprise_id` of any type, and read new rows in the order of their index, without a sort."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from dispatcher.postgres.outbox import OutboxStore
from tests.support.outbox_fixture import LEASE, OutboxFixture, ids_of

VALUES: dict[str, list[str]] = {
    "uuid": [str(UUID(int=number)) for number in (0, 7, 2**127)],
    "bigint": ["-3", "2", "10"],  # as texts they have another order
    "integer": ["-3", "2", "10"],
    "text": ["", "Ärger", "a'b\\"],
    "character varying(36)": ["10", "9", "zebra"],
    "notify.tenant": ["10", "9", "zebra"],
    "shared_types.publish_status": ["PUBLISH", "DRAFT", "DISCARD"],
}
INDEX = "ent_notification_dispatcher_new_rows"


@pytest.fixture(params=VALUES)
async def enterprises(outbox_fixture: OutboxFixture, request: pytest.FixtureRequest) -> list[str]:
    """Three enterprises of a type that the column has from now on."""
    if request.param == "notify.tenant":
        await outbox_fixture.rows("create domain notify.tenant as varchar(20)")
    change = "alter table notify.ent_notification alter enterprise_id type"
    await outbox_fixture.rows(f"{change} {request.param} using null")
    return VALUES[request.param]


async def write_rows(outbox_fixture: OutboxFixture, enterprises: list[str], rows: int) -> None:
    """Write so many rows of each enterprise, and so many without one."""
    for enterprise in (*enterprises, None):
        await outbox_fixture.many(rows)
        statement = "update notify.ent_notification set enterprise_id = %s where enterprise_id is null and repr is null"
        if enterprise is not None:
            await outbox_fixture.rows(statement.replace(" and repr is null", ""), enterprise)


async def claim_turns(outbox_fixture: OutboxFixture, *, claims: int, limit: int) -> list[str | None]:
    """Return the enterprises of the rows that claims in a backlog take, one claim after the other."""
    taken: list[str | None] = []
    for _ in range(claims):
        ids = ids_of(await outbox_fixture.claim(limit=limit, batch_size=1))
        found = await outbox_fixture.rows(
            "select enterprise_id::text from notify.ent_notification where id = any(%s)", ids
        )
        taken += [enterprise for (enterprise,) in found]
    return taken


async def test_each_enterprise_has_its_turn(outbox_fixture: OutboxFixture, enterprises: list[str]) -> None:
    await write_rows(outbox_fixture, enterprises, 5)
    await outbox_fixture.claim(limit=0)  # a backlog is known from here on
    everybody = sorted([*enterprises, "nobody"])
    for _ in range(2):  # two turns a claim, so that a round of four needs two of them
        turns = await claim_turns(outbox_fixture, claims=2, limit=2)
        assert sorted("nobody" if turn is None else turn for turn in turns) == everybody
    rest = await claim_turns(outbox_fixture, claims=6, limit=2)
    assert len(rest) == 12


async def test_plain_claim_takes_all_enterprises(outbox_fixture: OutboxFixture, enterprises: list[str]) -> None:
    await write_rows(outbox_fixture, enterprises, 2)
    assert sorted(map(str, await claim_turns(outbox_fixture, claims=1, limit=20))) == sorted([*enterprises, "None"] * 2)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's node and all below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explained(
    outbox_fixture: OutboxFixture, outbox: OutboxStore, name: str, next_enterprise: str
) -> dict[str, dict[str, Any]]:
    """Return the plans of a claim's parts, by the part's name."""
    asked = {
        "node": "n",
        "claim": "c",
        "lease": LEASE,
        "limit": 100,
        "capacity": 1000,
        "batch_size": 10,
        "max_tenants": 20,
        "next_enterprise": next_enterprise,
        "all_enterprises": True,
        "enterprises": [],
        "enterprise_ids": [],
    }
    statement = b"explain (format json) " + vars(outbox)["_queries"][name]
    async with outbox_fixture.pool.connection() as connection:
        [[[found]]] = await (await connection.execute(statement, asked)).fetchall()
    return {node["Subplan Name"]: node for node in nodes(found["Plan"]) if "Subplan Name" in node}


@pytest.mark.parametrize("name", ["claim", "claim_fair"])
async def test_new_rows_are_read_in_the_order_of_their_index(
    outbox_fixture: OutboxFixture, enterprises: list[str], name: str
) -> None:
    parts = await explained(outbox_fixture, outbox_fixture.outbox, name, enterprises[1])
    ours = [part for part in ("immediate", "enterprises", "first_turn") if f"CTE {part}" in parts]
    assert ours == (["immediate"] if name == "claim" else ["immediate", "enterprises", "first_turn"])
    for part in ours:
        found = list(nodes(parts[f"CTE {part}"]))
        assert not [node for node in found if "Sort" in node["Node Type"]], part
        scans = [node for node in found if node.get("Relation Name") == "ent_notification"]
        assert scans
        assert {node.get("Index Name") for node in scans} == {INDEX}, part


async def test_enterprises_of_an_allow_list_are_looked_up(outbox_fixture: OutboxFixture) -> None:
    served = UUID(int=5)
    parts = await explained(outbox_fixture, await outbox_fixture.node("listed", served), "claim_fair", str(served))
    for part in ("enterprises", "first_turn"):
        found = list(nodes(parts[f"CTE {part}"]))
        conditions = [node["Index Cond"] for node in found if node.get("Relation Name") == "ent_notification"]
        assert conditions
        assert all("enterprise_id" in condition for condition in conditions)
