"""XNovu's `notify` schema with a few seed rows, for local use. A database that has the outbox is never touched."""

from dispatcher.install import preflight
from dispatcher.install.files import dev, literal
from dispatcher.install.options import Options, ignore
from dispatcher.install.session import connected, one_value, own_turn, run

OUTBOX = "select to_regclass('notify.ent_notification')::text"


async def create_dev_schema(url: str) -> bool:
    """Create the schema where `notify.ent_notification` is missing; return whether it was."""
    async with connected(url) as connection:
        await preflight.check_server(connection)
        async with own_turn(connection, Options(), ignore):
            if await one_value(connection, OUTBOX) is not None:
                return False
            async with connection.transaction():
                for file in dev():
                    await run(connection, literal(file.text))
    return True
