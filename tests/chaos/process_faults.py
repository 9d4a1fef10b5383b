"""Faults of dispatcher processes and of what an operator does to their work."""

import asyncio
import os
import signal
from pathlib import Path
from random import Random

from temporalio.client import Client
from temporalio.service import RPCError

from tests.chaos.environment import ChaosEnvironment
from tests.chaos.injections import injection, met
from tests.support.waits import last_value


def state_of(pid: int) -> str:
    """Return what the kernel says of a process: T is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


@injection("kill -9")
async def kill(environment: ChaosEnvironment, dice: Random) -> str:
    """End a dispatcher without warning."""
    slot = dice.choice(environment.slots)
    async with slot.lock:
        process = slot.process.popen
        met(process.poll() is None, "it was not running")
        slot.ended_by_us.add(process.pid)
        slot.process.kill()
        met(process.returncode == -signal.SIGKILL, f"it ended with {process.returncode}")
        await asyncio.sleep(dice.uniform(0, 2))
        environment.start(slot)
        return f"slot {slot.number}, pid {process.pid}, then {slot.pid}"


@injection("SIGSTOP past the lease")
async def pause(environment: ChaosEnvironment, dice: Random) -> str:
    """Stop a dispatcher until others have taken its rows, then let it go on."""
    slot = dice.choice(environment.slots)
    async with slot.lock:
        pid, seconds = slot.pid, dice.uniform(7, 10)
        met(slot.process.popen.poll() is None, "it was not running")
        os.kill(pid, signal.SIGSTOP)
        try:

            async def stopped() -> bool:
                return state_of(pid) == "T"

            met(await last_value(stopped, 2, every=0.05), "it did not stop")
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return f"slot {slot.number}, pid {pid}, {seconds:.1f} s"


@injection("SIGTERM and restart")
async def term(environment: ChaosEnvironment, dice: Random) -> str:
    """Ask a dispatcher to go, and start another in its place."""
    slot = dice.choice(environment.slots)
    async with slot.lock:
        pid, began = slot.pid, environment.seconds()
        met(slot.process.popen.poll() is None, "it was not running")
        slot.ended_by_us.add(pid)
        started = '"started"' in slot.process.read_log()
        code = await slot.process.stop(30)
        if started and code:
            environment.findings.append(f"{slot.process.log.name} left with {code} after SIGTERM")
        environment.start(slot)
        return f"slot {slot.number}, pid {pid}, gone after {environment.seconds() - began:.1f} s with {code}"


@injection("workflow terminated")
async def terminate(environment: ChaosEnvironment, dice: Random) -> str:
    """End a running workflow as an operator can."""
    client = await Client.connect(environment.stack.temporal_address)

    async def ended() -> str:
        for (workflow_id,) in await environment.rows(
            "select distinct workflow_id from dispatcher.delivery where lease_until is not null limit 20"
        ):
            try:
                await client.get_workflow_handle(workflow_id).terminate("chaos")
            except RPCError:
                continue
            return workflow_id
        return ""

    workflow_id = await last_value(ended, 15, every=0.05)
    met(workflow_id, "nothing ran")
    return workflow_id
