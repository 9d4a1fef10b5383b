"""`python -m dispatcher.devstack.fake_novu`: one fake Novu on loopback, until SIGTERM or the end of its parent."""

import argparse
import asyncio
import gc
import json
import os
import socket
from pathlib import Path

import uvicorn

from dispatcher.devstack.fake_novu.api import NovuApi
from dispatcher.devstack.fake_novu.app import build
from dispatcher.devstack.fake_novu.registry import workflow_from
from dispatcher.devstack.fake_novu.settings import VARIANTS, BadControl, Config

PARENT_CHECK_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 61  # as in Novu


def main() -> None:
    """Serve until a signal."""
    options = _arguments().parse_args()
    try:
        novu = _novu(options)
    except (BadControl, OSError) as error:
        raise SystemExit(f"fake Novu: {error}") from error
    # Log entries stay until the end and form no cycles: frequent full collections would only add pauses.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    uvicorn_config = uvicorn.Config(
        build(novu),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(uvicorn_config)
    with _socket(options) as listening, asyncio.Runner(loop_factory=uvicorn_config.get_loop_factory()) as runner:
        runner.run(_serve(server, listening, options.parent_pid))


async def _serve(server: uvicorn.Server, listening: socket.socket, parent: int | None) -> None:
    watch = asyncio.create_task(_stop_with_parent(parent, server)) if parent is not None else None
    await server.serve(sockets=[listening])
    if watch is not None:
        watch.cancel()


async def _stop_with_parent(parent: int, server: uvicorn.Server) -> None:
    """Stop the server when the process `parent` has ended."""
    is_child = os.getppid() == parent
    while (os.getppid() == parent) if is_child else _exists(parent):  # noqa: ASYNC110  (another process sets no event)
        await asyncio.sleep(PARENT_CHECK_SECONDS)
    server.should_exit = True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _socket(options: argparse.Namespace) -> socket.socket:
    if options.fd is not None:
        return socket.socket(fileno=options.fd)
    return socket.create_server((options.host, options.port), backlog=2048)


def _novu(options: argparse.Namespace) -> NovuApi:
    config = Config(variant=options.variant, idempotency=options.idempotency, latency_ms=options.latency_ms)
    config.change(json.loads(options.config))
    novu = NovuApi(config, options.api_key)
    if options.workflows is not None:
        for data in json.loads(options.workflows.read_text()):
            novu.registry.add_workflow(workflow_from(data))
    return novu


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dispatcher.devstack.fake_novu", description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int, help="0 chooses a free port, which is not printed")
    place.add_argument("--fd", type=int, help="a bound socket, inherited from the parent")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0])
    parser.add_argument("--no-idempotency", dest="idempotency", action="store_false")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--config", default="{}", help="JSON object of settings by name")
    parser.add_argument("--workflows", type=Path, help="JSON file with a list of workflows to add")
    parser.add_argument("--parent-pid", type=int, help="exit when this process has ended")
    return parser


if __name__ == "__main__":
    main()
