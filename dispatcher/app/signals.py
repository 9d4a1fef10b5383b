"""SIGTERM and SIGINT: the event that stops the process, and the watchdog that ends it after 24 s."""

import asyncio
import os
import signal
import threading

from dispatcher.telemetry.logs import get_logger

MAX_STOP_SECONDS = 24.0
"""Platforms kill 30 s after SIGTERM. If a part hangs, the watchdog ends the process before that."""

log = get_logger("signals")


def stop_signal() -> asyncio.Event:
    """Return the event that SIGTERM or SIGINT sets. The first signal starts the watchdog.

    It does not use `loop.add_signal_handler`, because the watchdog has to start even while the event loop is blocked.
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
    """End the process at once. The leases of its rows expire, and another node rescues them."""
    log.warning("stopped_by_watchdog", seconds=MAX_STOP_SECONDS)
    os._exit(0)
