"""`dispatcher dev`: the local stack in the foreground. Its data stays in a folder between two starts.

The usual ports are used where they are free. Ctrl-C or SIGTERM ends it and its children. Children of an earlier
`dispatcher dev` that was killed are ended at the next start.
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio

from dispatcher.devstack import processes, stack, stale_processes, variables
from dispatcher.install.options import Say
from dispatcher.models.errors import ConfigurationError, DispatcherError

USUAL_PORTS = stack.Ports(postgres=5433, temporal=7233, ui=8233, novu=3999)
LOG_POLL_SECONDS = 0.2


async def dev(
    data: Path, *, env_file: Path | None, dispatcher: bool, say: Say, show: Callable[[stack.Stack], None]
) -> None:
    """Run until a signal; `show` is called once, when every server is ready.

    Raises DispatcherError if a server ends by itself.
    """
    if env_file is not None:
        variables.refuse_foreign(env_file)
    folder = data_folder(data)
    with stale_processes.lock_folder(folder):
        stale_processes.end_stale(folder, say)
        async with stack.until_signal(), stack.run_stack(folder, ports=choose_ports(), keep=True, say=say) as local:
            with ExitStack() as children:
                pids = local.pids
                if dispatcher:
                    say("starting the dispatcher")
                    pids["dispatcher"] = children.enter_context(stack.run_dispatcher(local)).pid
                if env_file is not None:
                    variables.write(env_file, local.variables)
                show(local)
                say("ready; Ctrl-C stops everything")
                await follow_log(local, pids, say)
    say(f"stopped; the data stays in {folder}")


def data_folder(data: Path) -> Path:
    """Return the data folder, created if missing; ConfigurationError if it contains files of another program."""
    folder = data.resolve()
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            stack.open_path_to_postgres(folder)
        if any(folder.iterdir()) and not (folder / stale_processes.LOCK_FILE).exists():
            raise ConfigurationError(f"--data {data} contains other files: give an empty or a new folder")
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--data {data} cannot be used: {error.strerror}") from None
    return folder


def choose_ports() -> stack.Ports:
    """Return the usual ports; a port in use is replaced by a free one."""
    return stack.Ports(
        *(
            free_or_other(port)
            for port in (USUAL_PORTS.postgres, USUAL_PORTS.temporal, USUAL_PORTS.ui, USUAL_PORTS.novu)
        )
    )


def free_or_other(port: int | None) -> int:
    """Return `port` if no process listens on it, otherwise a free one."""
    if port is None or processes.accepts_connections(port):
        return processes.free_port()
    try:
        with socket.socket() as probe:
            # As the servers do: closing connections of an earlier server do not make the port busy.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        return processes.free_port()
    return port


async def follow_log(local: stack.Stack, pids: dict[str, int], say: Say) -> None:
    """Copy the dispatcher's log to `say` until cancelled; DispatcherError if a child ends by itself."""
    local.log.touch()
    with local.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(0, 2)
        while True:
            for line in log:
                say(line.rstrip("\n"))
            for name, pid in pids.items():
                if stale_processes.has_exited(pid):
                    raise DispatcherError(f"{name} (pid {pid}) ended by itself: see its log in {local.folder}")
            await anyio.sleep(LOG_POLL_SECONDS)
