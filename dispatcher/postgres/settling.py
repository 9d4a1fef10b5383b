"""Writes the outcomes and the final statuses of a run's rows.

A row that another transaction has locked, or whose status the table refuses, holds up no other row of the run.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from psycopg.rows import TupleRow

from dispatcher.decisions.call_planning import Member
from dispatcher.models.notification import Notification, RecipientState, Status
from dispatcher.postgres.array_parameters import final_arrays, ids_and_fences, outcome_arrays
from dispatcher.postgres.pool import Pool
from dispatcher.postgres.refused_rows import RefusedRow, RefusedRows
from dispatcher.telemetry import metrics

LOCK_PAUSES_SECONDS = (0.05, 0.2)
"""Pauses before the second and the third try to write a status to rows that another transaction has locked. Most
transactions of producers last less."""


class SettlingStore(RefusedRows):
    """Settles rows. `labels`: of the outbox's status column; empty if it is no enum."""

    def __init__(self, pool: Pool, queries: Mapping[str, bytes], labels: frozenset[str]) -> None:
        super().__init__(pool, queries)
        self._labels = labels

    async def settle(self, members: Sequence[Member], rows: Sequence[Notification]) -> list[Notification]:
        """Write the outcomes of `members` and the final status of `rows`. Return the rows whose status was written.

        The returned rows are counted in the metrics. A row that another transaction keeps locked is `locked` and has no
        final status; its run has to come back for it. A row whose status the table refuses is `released`.
        """
        ended: list[Notification] = []
        to_settle = rows
        for pause in (*LOCK_PAUSES_SECONDS, None):
            locked_by_id = await self._settle_free(members, to_settle)
            ended += [row for row in to_settle if locked_by_id.get(row.id) is False]
            to_settle = [row for row in to_settle if locked_by_id.get(row.id)]
            if not to_settle or pause is None:
                break
            members = ()
            await asyncio.sleep(pause)
        for row in to_settle:
            row.locked, row.final_status = True, None
        for row in ended:
            metrics.count_final(row)
        return ended

    async def _settle_free(self, members: Sequence[Member], rows: Sequence[Notification]) -> dict[int, bool]:
        """Settle the rows that nobody else has locked. Return whether a row is locked, by its id."""
        fences = {row.id: row.fence for row in (*(member.notification for member in members), *rows)}

        async def settle_part(ids: Sequence[int]) -> list[TupleRow]:
            part = set(ids)
            ours = [member for member in members if member.notification.id in part]
            return await self._settle_once(ours, [row for row in rows if row.id in part])

        found = await self._run_halving(settle_part, list(fences))
        await self._refuse_statuses(found.refused, members, rows)
        return {**dict(found.results), **dict.fromkeys(found.not_tried, True)}

    async def _settle_once(self, members: Sequence[Member], rows: Sequence[Notification]) -> list[TupleRow]:
        return await self._fetch(
            "settle",
            **ids_and_fences([*(member.notification for member in members), *rows]),
            **outcome_arrays(members),
            **final_arrays(rows, self._stored_status),
        )

    async def _refuse_statuses(
        self, refused: Sequence[RefusedRow], members: Sequence[Member], rows: Sequence[Notification]
    ) -> None:
        """Give up rows whose status the table refuses. The outcomes of their recipients are written all the same.

        Raises the error of a row of which only outcomes were to be written: it is no rule of the table.
        """
        by_id = {row.id: row for row in rows}
        for row, error in refused:
            if row.id not in by_id:
                raise error
        ids = {row.id for row, _ in refused}
        if ours := [member for member in members if member.notification.id in ids]:
            await self._settle_once(ours, [])
        purposes = {each: refused_status(by_id[each], self._stored_status) for each in ids}
        await self._record_refused(refused, {each: by_id[each].fence for each in ids}, purposes)
        for each in ids:
            by_id[each].released, by_id[each].final_status = True, None

    def _stored_status(self, status: Status) -> str:
        """Return the label to store: FAILED for PARTIAL if the installed enum lacks it (error_details says PARTIAL)."""
        return (status if not self._labels or status in self._labels else Status.FAILED).value


def refused_status(row: Notification, stored_status: Callable[[Status], str]) -> str:
    """Return how the row's run ended, and that the table refuses the status."""
    final = row.final_status
    if final is None:
        return "the table refuses its status"
    label = stored_status(final.status)
    accepted = sum(recipient.state is RecipientState.ACCEPTED for recipient in row.recipients)
    if accepted:
        whom = "it" if accepted == len(row.recipients) else f"it for {accepted} of {len(row.recipients)} recipients"
        return f"Novu accepted {whom}, but the table refuses the status {label}"
    return f"Novu did not accept it ({final.reason}), and the table refuses the status {label}"
