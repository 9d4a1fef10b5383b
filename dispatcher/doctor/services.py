"""Checks of Temporal and Novu: reachability, login, and the objects that the outbox needs. Sends no notification."""

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from psycopg import sql
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from dispatcher.config.durations import format_duration
from dispatcher.decisions.classification import failure_text, parse_json
from dispatcher.doctor.postgres_connection import fetch_rows
from dispatcher.doctor.postgres_schema import table_of
from dispatcher.doctor.runner import Context, Finding, abbreviated, failed, passed, skipped, unanswered, warned
from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.models.workflow_contract import TaskQueues, batch_queue, installation_of, short_id
from dispatcher.novu.client import body_of, error_text
from dispatcher.novu.http_client import RawJsonClient
from dispatcher.temporal import client as our_temporal

POLLER_TTL_SECONDS = 120
"""A poller that has not polled for this long counts as gone. One poll takes a minute at most."""
REFUSED_LOGIN = re.compile(r"Unauthenticated|PermissionDenied|Unauthorized", re.IGNORECASE)
WORKFLOWS, ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
PAGE_SIZE = 100
MAX_PAGES = 20
NO_HEADERS: Mapping[str, str] = {}
PUBLISHED_WORKFLOW_KEYS = """
select distinct workflow_key from {} where publish_status = 'PUBLISH' and not deactivated order by 1 limit 2000
"""


class WorkflowFault(NamedTuple):
    """A reason why rows of a Novu workflow do not arrive, in doctor's words, with the remedy."""

    said: str
    remedy: str


WORKFLOW_FAULTS: Mapping[str, WorkflowFault] = {
    "missing": WorkflowFault(
        "missing at Novu",
        "create the missing ones in the key's environment, or deactivate them in the workflow table; their rows end as"
        " FAILED",
    ),
    "inactive": WorkflowFault(
        "not active at Novu", "activate the inactive ones at Novu; their rows end as FAILED until then"
    ),
    "error": WorkflowFault(
        "with status ERROR at Novu", "correct the issues that Novu's dashboard shows; their messages may not arrive"
    ),
    "stepless": WorkflowFault(
        "without steps at Novu", "add steps: Novu accepts such rows, which become SENT, and sends nothing"
    ),
}


async def temporal(context: Context) -> Finding:
    """Check the connection to Temporal and the login."""
    began = time.perf_counter()
    try:
        context.temporal = await our_temporal.connect_client(context.settings.temporal_environment)
    except ConfigurationError as error:
        return failed(str(error), "check the TEMPORAL_* variables, and the profile that they name")
    except Unreachable as error:
        words = str(error).removeprefix("TEMPORAL_ADDRESS: ").rpartition(". ")[0]
        if REFUSED_LOGIN.search(words):
            return failed(words, "check TEMPORAL_API_KEY, TEMPORAL_TLS_* and TEMPORAL_NAMESPACE: Temporal refuses them")
        return unanswered(words, "start Temporal, or check TEMPORAL_ADDRESS, TEMPORAL_TLS_* and TEMPORAL_API_KEY")
    address = context.temporal.service_client.config.target_host
    return passed(f"{address} answers in {(time.perf_counter() - began) * 1000:.0f} ms")


async def namespace(context: Context) -> Finding:
    """Check that the namespace exists, or that `run` may create it."""
    name = context.temporal.namespace
    if await our_temporal.namespace_exists(context.temporal, name):
        return passed(name)
    if context.settings.create_namespace:
        return warned(
            f"{name} does not exist yet", "dispatcher run creates it; if the name is wrong, set TEMPORAL_NAMESPACE"
        )
    return failed(f"{name} does not exist", "create it, set TEMPORAL_NAMESPACE, or DISPATCHER_CREATE_NAMESPACE=true")


async def pollers(context: Context) -> Finding:
    """Check that workers poll our task queues."""
    if not await our_temporal.namespace_exists(context.temporal, context.temporal.namespace):
        return skipped("because the namespace does not exist yet")
    [[installation]] = await fetch_rows(context, "select id from dispatcher.installation")
    queues = TaskQueues.of_installation(context.settings.task_queue, installation)
    eager, batch = queues.first_try, batch_queue(queues.first_try)
    found = {
        f"{eager} (workflows)": len(await poller_identities(context, eager, WORKFLOWS)),
        f"{batch} (workflows)": len(await poller_identities(context, batch, WORKFLOWS)),
        f"{batch} (activities)": len(await poller_identities(context, batch, ACTIVITIES)),
    }
    unpolled = [name for name, count in found.items() if not count]
    if unpolled:
        return warned(
            f"no worker polls {', '.join(unpolled)}", "start dispatcher run with this TEMPORAL_TASK_QUEUE and namespace"
        )
    others = {installation_of(each) for each in await poller_identities(context, queues.shared, WORKFLOWS)}
    if foreign := sorted(each for each in others if each not in (None, short_id(installation))):
        return warned(
            f"{queues.shared} is also polled by another installation: {', '.join(foreign)}",
            "nothing, once all processes of both have this version; before, set another TEMPORAL_NAMESPACE or"
            " TEMPORAL_TASK_QUEUE for one of them, because earlier versions take each other's workflows",
        )
    return passed(f"{' + '.join(map(str, found.values()))} on {eager} and its batch queue")


async def poller_identities(context: Context, queue: str, kind: TaskQueueType.ValueType) -> list[str]:
    """Return the workers that have polled the task queue within `POLLER_TTL_SECONDS`, by their identity."""
    request = DescribeTaskQueueRequest(
        namespace=context.temporal.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    answer = await context.temporal.workflow_service.describe_task_queue(request)
    since = time.time() - POLLER_TTL_SECONDS
    return [poller.identity for poller in answer.pollers if poller.last_access_time.seconds > since]


async def novu(context: Context) -> Finding:
    """Check that Novu answers its health check, which needs no key."""
    try:
        context.novu = RawJsonClient()
    except OSError as error:
        return failed(f"certificates cannot be read: {error.strerror}", "check SSL_CERT_FILE and SSL_CERT_DIR")
    context.exits.push_async_callback(context.novu.aclose)
    url = context.settings.novu_api_url
    began = time.perf_counter()
    try:
        answer = await request(context, "GET", "/v1/health-check")
    except (httpx.HTTPError, httpx.InvalidURL, ExceptionGroup) as error:  # ExceptionGroup: a port above 65535
        return unanswered(
            f"{url} does not answer ({error_text(error)})", "check NOVU_API_URL, and that Novu runs there"
        )
    if answer.status_code != 200:
        return unanswered(
            f"{url} answers its health check with HTTP {answer.status_code}", "check that NOVU_API_URL leads to Novu"
        )
    return passed(f"{url} answers in {(time.perf_counter() - began) * 1000:.0f} ms")


async def novu_key(context: Context) -> Finding:
    """Check that Novu accepts the key, and name its environment."""
    answer = await request(
        context, "GET", "/v1/environments/me", context.settings.require_novu_key().get_secret_value()
    )
    if answer.status_code >= 500 or answer.status_code == 429:
        return unanswered(
            f"not known: Novu answers HTTP {answer.status_code} {error_message(answer)}", "run doctor again later"
        )
    if answer.status_code != 200:
        return failed(
            f"Novu refuses the key: HTTP {answer.status_code} {error_message(answer)}",
            "copy the environment's API key from Novu's dashboard into NOVU_SECRET_KEY; NOVU_API_URL has to be of the"
            " same region",
        )
    environment = response_data(answer)
    return passed(f"of the environment {environment.get('name')} ({environment.get('_id')})")


async def workflow_keys(context: Context) -> Finding:
    """Check that Novu has the workflows that the outbox's workflow table publishes."""
    statement = sql.SQL(PUBLISHED_WORKFLOW_KEYS).format(table_of(context).workflow.identifier).as_string()
    ours = [key for (key,) in await fetch_rows(context, statement)]
    theirs = await workflows_at_novu(context)
    if theirs is None:
        return warned(
            "not known: this Novu does not list its workflows", f"check at Novu that it has {abbreviated(ours)}"
        )
    kinds = {
        kind: keys
        for kind in WORKFLOW_FAULTS
        if (keys := [key for key in ours if kind in theirs.get(key, ("missing",))])
    }
    if not kinds:
        return passed(f"all {len(ours)} workflows of the table exist at Novu and are ready")
    words = "; ".join(f"{WORKFLOW_FAULTS[kind].said}: {abbreviated(keys)}" for kind, keys in kinds.items())
    remedy = "; ".join(WORKFLOW_FAULTS[kind].remedy for kind in kinds)
    return failed(words, remedy) if "missing" in kinds else warned(words, remedy)


def workflow_faults(listed: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of `WORKFLOW_FAULTS` that apply to a workflow of Novu's list; a list may lack `steps`."""
    status = listed.get("status")
    found = (("inactive", status == "INACTIVE"), ("error", status == "ERROR"), ("stepless", listed.get("steps") == []))
    return tuple(kind for kind, applies in found if applies)


async def workflows_at_novu(context: Context) -> Mapping[str, tuple[str, ...]] | None:
    """Return the faults of each workflow in the key's environment, by key; None if this Novu does not list them."""
    found = dict[str, tuple[str, ...]]()
    for _ in range(MAX_PAGES):
        path = f"/v2/workflows?limit={PAGE_SIZE}&offset={len(found)}"
        answer = await request(context, "GET", path, context.settings.require_novu_key().get_secret_value())
        if answer.status_code != 200:
            return None
        listed = response_data(answer).get("workflows") or []
        found |= {str(each.get("workflowId")): workflow_faults(each) for each in listed}
        if not listed or len(found) >= int(response_data(answer).get("totalCount", 0)):
            break
    return found


async def idempotency(context: Context) -> Finding:
    """Check whether Novu honours idempotency keys: if so, it echoes them. The empty trigger sent here is refused."""
    key = context.settings.require_novu_key().get_secret_value()
    echo = f"dispatcher-doctor-{uuid4()}"
    answer = await request(context, "POST", "/v1/events/trigger", key, json={}, headers={"idempotency-key": echo})
    if answer.headers.get("idempotency-key") == echo:
        return passed("on: Novu echoes our key")
    if answer.status_code in (400, 422):  # Novu 2.x, 3.x
        return warned(
            f"off: a call with an unknown outcome is looked up for {format_duration(context.settings.lookup_time)}"
            " (DISPATCHER_LOOKUP_TIME) before it is repeated, and a Novu whose worker lags longer sends it twice",
            "for Novu cloud ask its support to switch it on; on your own Novu set IS_API_IDEMPOTENCY_ENABLED=true",
        )
    return warned(f"not known: HTTP {answer.status_code} {error_message(answer)}", "run doctor again")


async def request(
    context: Context, method: str, path: str, key: str = "", *, headers: Mapping[str, str] = NO_HEADERS, **more: Any
) -> httpx.Response:
    """Return Novu's answer to a request; with a non-empty `key` it is authorized."""
    authorized = {"authorization": f"ApiKey {key}"} if key else {}
    url = f"{context.settings.novu_api_url.rstrip('/')}{path}"
    with context.novu.exchange():
        return await context.novu.request(method, url, headers={**headers, **authorized}, **more)


def response_data(answer: httpx.Response) -> Mapping[str, Any]:
    """Return the object under `data` in an answer; empty if the answer has another form."""
    try:
        data = answer.json()["data"]
    except (ValueError, KeyError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}


def error_message(answer: httpx.Response) -> str:
    """Return Novu's message in an error answer, sanitized; empty if it has none."""
    return failure_text(parse_json(body_of(answer)))
