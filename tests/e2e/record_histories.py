"""Records workflow histories for `tests/e2e/test_replay.py`: `python -m tests.e2e.record_histories`."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from temporalio.client import Client

from dispatcher.devstack.fake_novu.process import run_fake_novu
from tests.faults.crash_rounds import open_folder, servers
from tests.support.databases import STACK_TEMPLATE, cloned
from tests.support.stack import Stack, open_stack

HISTORIES = Path(__file__).with_name("histories")


async def record(stack: Stack) -> dict[str, str]:
    """Return the workflow ids of a single run, a batch, one that was tried again and one that was given up."""
    workflows: dict[str, str] = {}
    await stack.running()
    await stack.final(single := await stack.notify())
    person = uuid4()
    await stack.novu.add_fault("status", status=503, recipient=str(person), times=1)
    await stack.final(retried := await stack.notify(recipients=[person]))
    stranger = uuid4()
    await stack.novu.add_fault("status", status=503, recipient=str(stranger))
    await stack.final(given_up := await stack.notify(recipients=[stranger]), within=60)
    for name, row in {"single": single, "retried": retried, "given-up": given_up}.items():
        statement = "select workflow_id from dispatcher.delivery where notification_id = %s"
        workflows[name] = await stack.value(statement, row)
    await stack.burst(20)
    await stack.all_sent(22)
    workflows["batch"] = await stack.value("select max(workflow_id) from dispatcher.delivery where batch is not null")
    return workflows


async def main() -> None:
    """Record into the folder beside this file."""
    with open_folder() as folder:
        async with (
            servers(folder) as (database, server),
            run_fake_novu() as novu,
            cloned(database, STACK_TEMPLATE) as url,
            open_stack(url, server.address, novu, folder) as stack,
        ):
            workflows = await record(stack)
            client = await Client.connect(server.address)
            for kind, workflow_id in workflows.items():
                handle = client.get_workflow_handle(workflow_id)
                await handle.result()
                history = json.loads((await handle.fetch_history()).to_json())
                (HISTORIES / f"{kind}.json").write_text(json.dumps(anonymous(history), indent=1) + "\n")


def anonymous(value: Any) -> Any:
    """Leave out which process and host it was, and where the code lay."""
    if isinstance(value, dict):
        return {key: anonymous(each) for key, each in cast(dict[str, Any], value).items() if key != "stackTrace"}
    if isinstance(value, list):
        return [anonymous(each) for each in cast(list[Any], value)]
    return re.sub(r"^\d+@.*", "recorder", value) if isinstance(value, str) else value


if __name__ == "__main__":
    HISTORIES.mkdir(exist_ok=True)
    asyncio.run(main())
