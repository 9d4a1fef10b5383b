"""Creates XNovu's `notify` schema with a few seed rows, for local use. A database with the outbox is not changed."""

from dispatcher.install import preflight
from dispatcher.install.files import as_sql, dev_schema_files
from dispatcher.install.options import Options, say_nothing
from dispatcher.install.session import connect_exclusive_session, exclusive, one_value, run

OUTBOX = "select to_regclass('notify.ent_notification')::text"


async def create_dev_schema(url: str) -> bool:
    """Create the schema if `notify.ent_notification` is missing. Return whether it was created."""
    async with connect_exclusive_session(url) as connection:
        await preflight.check_server(connection)
        async with exclusive(connection, Options(), say_nothing):
            if await one_value(connection, OUTBOX) is not None:
                return False
            async with connection.transaction():
                for file in dev_schema_files():
                    await run(connection, as_sql(file.text))
    return True
