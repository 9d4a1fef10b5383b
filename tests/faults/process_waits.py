"""The end of a process, which tests of process faults wait for."""

from tests.support.stack import Process
from tests.support.waits import eventually


async def ended(process: Process, within: float = 25) -> int:
    """Wait for the end of the process; return its exit code."""

    async def gone() -> bool:
        return process.popen.poll() is not None

    await eventually(gone, f"the end of the process; log:\n{process.read_log()[-2000:]}", within)
    assert process.popen.returncode is not None
    return process.popen.returncode
