"""SIGTERM and SIGINT: the wish to stop, and the watchdog that bounds the goodbye."""

import asyncio
import os
import signal
import threading

from dispatcher.telemetry.logs import get_logger

MAX_STOP_SECONDS = 24.0
"""The platform kills after 30 s; whatever hangs, we are gone before."""

log = get_logger("signals")


def stop_signal() -> asyncio.Event:
    """Return what SIGTERM or SIGINT sets; from the first one on, a watchdog bounds the goodbye.

    Not `loop.add_signal_handler`: the watchdog has to start even while something blocks the loop.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    watchdog = threading.Timer(MAX_STOP_SECONDS, force_exit)
    watchdog.daemon = True

    def on_signal(*_: object) -> None:
        if watchdog.ident is None:
            watchdog.start()
            loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


def force_exit() -> None:
    """End the process where it stands; what it holds is left to its leases."""
    log.warning("stopped_by_watchdog", seconds=MAX_STOP_SECONDS)
    os._exit(0)
