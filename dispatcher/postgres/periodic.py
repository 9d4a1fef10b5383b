"""Runs a job again and again until it is cancelled, with one rule for each kind of error.

The loops of claim, delivery, install and `web` use it. A job is a coroutine function that does one round.
"""

import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio

from dispatcher.models.errors import DispatcherError
from dispatcher.postgres.pool import CONNECTION_ERRORS, LOCK_ERRORS, lock_reason
from dispatcher.telemetry import health
from dispatcher.telemetry.labels import Component
from dispatcher.telemetry.logs import error_code, get_logger

JITTER = 0.2
"""A pause is shortened by up to this fraction, so that nodes that were started together do not run together."""

log = get_logger("periodic")


async def run_every(
    seconds: float,
    job: Callable[[], Awaitable[object]],
    *,
    component: Component | None,
    failure_event: str,
    first_pause: float | None = None,
    end_pause: Callable[[], Awaitable[object]] = anyio.sleep_forever,
) -> NoReturn:
    """Run `job`, pause for `seconds`, and repeat. The first pause may differ. `end_pause` ends a pause by returning.

    A lock that another transaction keeps: `component` fails with the remedy, and `lock_timeout` is logged once.
    A lost connection: the component `postgres` fails, and `database_unreachable` is logged once per loss.
    A `DispatcherError`: `component` fails with its sentence, which names the remedy.
    Any other error: `component` fails, and `failure_event` is logged with the stack, once for equal errors in a row.
    A job without an error: `postgres` and `component` are healthy. No error ends the loop.
    """
    pause = seconds if first_pause is None else first_pause
    last_error: str | None = None
    while True:
        last_error = await _run_guarded(job, component, failure_event, last_error)
        with anyio.move_on_after(pause * random.uniform(1 - JITTER, 1)):  # noqa: S311
            await end_pause()
        pause = seconds


async def _run_guarded(
    job: Callable[[], Awaitable[object]], component: Component | None, failure_event: str, last_error: str | None
) -> str | None:
    """Run `job` once. Return its error in one text, None when it had none; what equals `last_error` is not logged."""
    try:
        await job()
    except LOCK_ERRORS as error:
        found, failed, reason = "locked", component, lock_reason(error)
        log_change(last_error, found, "lock_timeout", error)
    except CONNECTION_ERRORS as error:
        found, failed, reason = "lost", "postgres", f"{type(error).__name__}: {error}"
        log_change(last_error, found, "database_unreachable", error)
    except DispatcherError as error:
        found = reason = str(error)
        failed = component
    except Exception as error:  # a bug or a bad row must not end the loop: no other part does this job
        found, failed, reason = f"{type(error).__name__}: {error}", component, error_code(error)
        if last_error != found:
            log.exception(failure_event)
    else:
        health.report_ok("postgres")
        if component is not None:
            health.report_ok(component)
        return None
    if failed is not None:
        health.report_failure(failed, reason)
    return found


def log_change(last_error: str | None, found: str, event: str, error: BaseException) -> None:
    """Log `event` unless the job's last round ended in the same way."""
    if last_error != found:
        log.warning(event, error=str(error))
