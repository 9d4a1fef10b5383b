"""A look into a database from outside the code under test."""

from dataclasses import dataclass
from typing import Any

import psycopg


@dataclass
class Database:
    """One test's database: run SQL in it, and count its NOTIFYs."""

    url: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    async def connect(self, **parameters: Any) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        return await psycopg.AsyncConnection.connect(self.url, autocommit=True, **parameters)

    async def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, each on its own, and return the rows of the last one."""
        async with await self.connect() as connection:
            cursor = connection.cursor()
            for statement in statements:
                await cursor.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []

    async def count_notifies(self, *statements: str) -> int:
        """Count the NOTIFYs of the statements. A last NOTIFY of ours marks the end."""
        async with await self.connect() as listener, await self.connect() as producer:
            await listener.execute("listen dispatcher")
            for statement in statements:
                await producer.execute(statement.encode())
            if producer.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                await producer.execute("rollback")
            await producer.execute("notify dispatcher, 'the end'")
            heard = 0
            async for notify in listener.notifies(timeout=20):
                if notify.payload == "the end":
                    return heard
                assert notify.payload == ""
                heard += 1
        raise AssertionError("the listener heard nothing at all")

    async def catalogue(self) -> set[tuple[Any, ...]]:
        """Return every catalogue row of ours and the host's with its writer: equal means that nothing was touched."""
        return set(
            await self.run(
                """
                with place as (
                    select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'),
                  relation as (select oid from pg_class where relnamespace in (select oid from place))
                select 'schema', oid, xmin::text from pg_namespace where oid in (select oid from place)
                union all select 'relation', oid, xmin::text from pg_class where oid in (select oid from relation)
                union all select 'column', attrelid, attnum || xmin::text from pg_attribute
                  where attrelid in (select oid from relation)
                union all select 'function', oid, xmin::text from pg_proc where pronamespace in (select oid from place)
                union all select 'trigger', oid, xmin::text from pg_trigger
                union all select 'index', indexrelid, xmin::text from pg_index
                  where indrelid in (select oid from relation)
                union all select 'constraint', oid, xmin::text from pg_constraint
                union all select 'type', oid, xmin::text from pg_type where typnamespace in (select oid from place)
                """
            )
        )

    async def definitions(self) -> list[tuple[Any, ...]]:
        """Return the installed objects as the server describes them, independent of installer and time."""
        return await self.run(
            """
            select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = pronamespace
              where nspname = 'dispatcher'
            union all select pg_get_triggerdef(oid) || tgenabled::text from pg_trigger where not tgisinternal
            union all select indexdef from pg_indexes where schemaname in ('dispatcher', 'notify')
            union all select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
              || coalesce(column_default, '') from information_schema.columns where table_schema = 'dispatcher'
            order by 1
            """
        )
