"""Temporal's sandbox loads only light modules: no database, no Novu, no settings, no alerts."""

import subprocess
import sys
from datetime import timedelta

import pytest
from temporalio import exceptions, workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutType
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from dispatcher.delivery.workflows import FIRST_RETRY, NotificationDelivery, retry_delay
from dispatcher.models.workflow_contract import BATCH_QUEUE_SUFFIX, WORKFLOW, batch_queue

HEAVY = ("psycopg", "psycopg_pool", "novu_py", "httpx", "pydantic_settings", "sentry_sdk")
OURS = tuple(f"dispatcher.{name}" for name in ("config", "postgres", "novu", "temporal", "alerting"))
CORE = (
    "models.call_result",
    "models.claims",
    "models.errors",
    "models.notification",
    "models.workflow_contract",
    "decisions.backoff",
    "decisions.call_planning",
    "decisions.cancellation",
    "decisions.classification",
    "decisions.final_status",
    "decisions.identity",
    "decisions.unknown_outcomes",
    "decisions.validation",
    "delivery.workflows",
)


def loaded(program: str) -> set[str]:
    """Return the modules that a fresh interpreter has after `program`, beside those it starts with."""
    script = f"import sys; before = set(sys.modules); {program}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def test_workflows_and_decisions_import_nothing_heavy():
    modules = loaded("import " + ", ".join(f"dispatcher.{name}" for name in CORE))
    assert modules.isdisjoint((*HEAVY, *OURS, "structlog", "dispatcher.telemetry.logs"))


def test_activities_import_neither_psycopg_nor_novu():
    assert loaded("import dispatcher.delivery.activities").isdisjoint((*HEAVY, *OURS))


def test_no_module_imports_sentry_before_it_is_configured():
    assert "sentry_sdk" not in loaded("import dispatcher.app.run, dispatcher.app.web")


def test_package_itself_imports_nothing():
    assert loaded("import dispatcher") == {"dispatcher"}


async def test_sandbox_accepts_the_workflow():
    definition = workflow._Definition.must_from_class(NotificationDelivery)  # pyright: ignore[reportPrivateUsage]
    assert definition.name == WORKFLOW
    SandboxedWorkflowRunner().prepare_workflow(definition)


def test_batch_queue_is_named_after_the_queue_and_has_no_batch_queue():
    assert batch_queue("mail") == "mail" + BATCH_QUEUE_SUFFIX
    assert batch_queue(batch_queue("mail")) == batch_queue("mail")


def activity_error(cause: BaseException | None) -> ActivityError:
    """Return how a regular activity's failure reaches the workflow."""
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="",
        activity_id="",
        retry_state=None,
    )
    error.__cause__ = cause
    return error


WISH = ApplicationError("busy", next_retry_delay=timedelta(seconds=30))
TIMED_OUT = exceptions.TimeoutError("slow", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])


@pytest.mark.parametrize(
    ("failure", "wait"),
    [
        (WISH, timedelta(seconds=30)),  # a local activity's error arrives bare
        (activity_error(WISH), timedelta(seconds=30)),
        (activity_error(TIMED_OUT), FIRST_RETRY),
        (activity_error(None), FIRST_RETRY),
        (ApplicationError("broken"), FIRST_RETRY),
        (ApplicationError("at once", next_retry_delay=timedelta(0)), timedelta(0)),
    ],
    ids=["bare", "inside", "time-out", "without a cause", "without a wish", "at once"],
)
def test_workflow_waits_as_long_as_novu_asked(failure: FailureError, wait: timedelta):
    assert retry_delay(failure) == wait
