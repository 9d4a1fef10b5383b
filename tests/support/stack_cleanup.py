"""Let the work of a test's stack end before its invariants are checked."""

from temporalio.client import Client

from tests.support.stack import Stack
from tests.support.waits import eventually


async def no_pending_cancels(stack: Stack) -> None:
    """Wait until the cancels of a test's retractions are done, if a dispatcher is left to do them."""

    async def none() -> bool:
        return not await stack.rows(
            "select from dispatcher.recipient where cancel_at is not null union all"
            " select from notify.ent_notification"
            " where notification_status = 'RETRACTED' and error_details -> 'retraction' is null"
        )

    if any(process.popen.poll() is None for process in stack.processes):
        await eventually(none, f"every retraction done; {stack.log_tails()}", 30)


async def none_open(stack: Stack) -> None:
    """Wait until no workflow of the stack is open, if a dispatcher is left to end them."""
    living = [process for process in stack.processes if process.popen.poll() is None]
    if not living:
        return
    client = await Client.connect(stack.temporal_address)
    query = f"ExecutionStatus = 'Running' and TaskQueue in {(await stack.queues()).all_names}"

    async def none() -> bool:
        return (await client.count_workflows(query)).count == 0

    try:
        await eventually(none, "no open workflow", 5)
    except AssertionError:
        # The ways of the test's own dispatchers, proxies perhaps, are gone already: one without a detour finishes.
        for process in living:
            process.kill()
        await stack.running()
        await eventually(none, f"no open workflow; {stack.log_tails()}", 120)
