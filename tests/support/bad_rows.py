"""Rows that can never be sent, with the reason that each of them gets, and a database that fails."""

from typing import Any
from uuid import uuid4

from tests.support.stack import Stack

BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no workflow": ({"workflow": "none"}, "notification_workflow_id is not set"),
    "unpublished workflow": ({"workflow": "draft"}, "not published or is deactivated"),
    "deactivated workflow": ({"workflow": "off"}, "not published or is deactivated"),
    "workflow unknown to Novu": ({"workflow": "unknown-to-novu"}, "workflow_not_found"),
    "workflow inactive at Novu": ({"workflow": "inactive"}, "not active"),
    "no recipients": ({"recipients": []}, "recipients are empty"),
    "a NULL recipient": ({"recipients": [uuid4(), None]}, "recipients hold a NULL"),
    "payload is an array": ({"payload": "[1]"}, "payload is not a JSON object"),
    "payload is a scalar": ({"payload": '"text"'}, "payload is not a JSON object"),
    "payload is JSON null": ({"payload": "null"}, "payload is not a JSON object"),
    "overrides are an array": ({"overrides": "[]"}, "overrides is not a JSON object"),
    "6,000 levels of JSON": ({"payload": '{"a":' * 6000 + "1" + "}" * 6000}, "nested too deeply"),
    "5,000 digits": ({"payload": '{"n": ' + "7" * 5000 + "}"}, "payload cannot be read"),
    "600 KiB": ({"payload": '{"x": "' + "x" * 600 * 1024 + '"}'}, "the limit is 524288"),
}


async def insert(stack: Stack, columns: dict[str, Any]) -> int:
    """Insert one of the rows above; their workflow is named by what is wrong with it."""
    columns = dict(columns)
    kind = columns.pop("workflow", None)
    if kind == "draft":
        columns["workflow"] = await stack.workflow("a-draft", publish="DRAFT")
    elif kind == "off":
        columns["workflow"] = await stack.workflow("switched-off", deactivated=True)
    elif kind in ("unknown-to-novu", "inactive"):
        columns["workflow"] = await stack.workflow(kind)
    row = await stack.notify(**columns)
    if kind == "none":
        await stack.rows("update notify.ent_notification set notification_workflow_id = null where id = %s", row)
    return row


OUTCOMES_FAIL = """
create function notify.boom() returns trigger language plpgsql security definer as $$ begin
  if exists (select from notify.ent_notification where notification_status = 'PROCESSING') then
    raise exception using message = 'boom',
      detail = (select string_agg(n::text, '') from notify.ent_notification n where notification_status = 'PROCESSING');
  end if;
  return null;
end $$;
create trigger boom before update on notify.ent_notification for each statement execute function notify.boom()
"""
"""No outcome can be written, and that is no row's fault. The error's DETAIL repeats the rows, as PostgreSQL's can."""
OUTCOMES_FAIL_NO_MORE = "drop trigger boom on notify.ent_notification"
