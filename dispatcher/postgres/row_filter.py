"""Which rows an operator means, as a frozen object and as the SQL condition that finds them. Connects to nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString, cast

from psycopg import sql

from dispatcher.postgres.statements import REFUSED, UNSUCCESSFUL_STATUSES

CONDITIONS: dict[str, LiteralString] = {
    "ids": "n.id = any(%(ids)s)",
    # An installed enum may lack PARTIAL; then the status is FAILED, and the outcome says PARTIAL.
    "statuses": "(n.notification_status::text = any(%(statuses)s) or 'PARTIAL' = any(%(statuses)s)"
    " and n.notification_status::text = 'FAILED' and n.error_details ->> 'outcome' = 'PARTIAL')",
    "enterprise": "n.enterprise_id::text = %(enterprise)s",
    "enterprises": "n.enterprise_id::text = any(%(enterprises)s)",
    "workflow": "w.workflow_key = %(workflow)s",
    "error": "strpos(lower(coalesce(d.last_error, n.error_details ->> 'error')), lower(%(error)s)) > 0",
    "dead": "d.dead_lettered_at is not null and (n.notification_status::text in {unsuccessful} or {refused})",
}
"""One SQL condition for each field of `RowFilter`; the fields' times are added in `RowFilter.condition`."""


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Rows that fulfil every field that is set. Empty fields exclude nothing.

    `since` (included) and `until` (excluded) limit the creation time; a timedelta counts back from the database's now.
    `error`: text that the last error contains, in any case. `dead`: only dead letters.
    """

    ids: tuple[int, ...] = ()
    statuses: tuple[str, ...] = ()
    enterprise: str | None = None
    enterprises: tuple[str, ...] = ()
    workflow: str | None = None
    error: str | None = None
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    dead: bool = False

    @property
    def is_set(self) -> bool:
        """Whether the filter excludes any row."""
        return self != RowFilter()

    def condition(self) -> sql.Composable:
        """Return the SQL condition. It names only fields that are set, so that each question gets its own plan."""
        parts: list[sql.Composable] = [
            sql.SQL(text).format(unsuccessful=UNSUCCESSFUL_STATUSES, refused=REFUSED)
            for name, text in CONDITIONS.items()
            if getattr(self, name)
        ]
        for name, sign in (("since", ">="), ("until", "<")):
            if (moment := getattr(self, name)) is not None:
                back = "now() - " if isinstance(moment, timedelta) else ""
                parts.append(sql.SQL(cast("LiteralString", f"n.created_at {sign} {back}%({name})s")))
        return sql.SQL(" and ").join(parts) if parts else sql.SQL("true")

    def parameters(self) -> dict[str, Any]:
        """Return the statement parameters that the condition refers to."""
        return {
            "ids": list(self.ids),
            "statuses": list(map(str, self.statuses)),
            "enterprise": self.enterprise,
            "enterprises": list(self.enterprises),
            "workflow": self.workflow,
            "error": self.error,
            "since": self.since,
            "until": self.until,
        }
