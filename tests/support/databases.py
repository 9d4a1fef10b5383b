"""Databases for tests: templates with XNovu's tables and ours, and fresh clones of them."""

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import psycopg

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import create_dev_schema, install, render_grants
from tests.support.invariants import PREPARE
from tests.support.stack import RUN_ROLE

STACK_TEMPLATE = "stack_template"
counter = itertools.count()


async def create_database(server: PostgresServer, name: str, template: str = "template1") -> str:
    """Create a database and return its URL."""
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as admin:
        await admin.execute(f"create database {name} template {template}".encode())
    return server.url(name)


async def install_outbox(url: str) -> None:
    """Create XNovu's tables and ours."""
    await create_dev_schema(url)
    await install(url)


async def prepare_invariants(url: str) -> None:
    """Create the tables and triggers that the invariants read."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(PREPARE)


async def make_outbox_template(server: PostgresServer, name: str) -> str:
    """Create a database with XNovu's tables and ours, to be cloned; return its name."""
    await install_outbox(await create_database(server, name))
    return name


async def make_stack_template(server: PostgresServer, name: str = STACK_TEMPLATE) -> str:
    """Create the server's first database, to be cloned, and the role of `dispatcher run`; return its name."""
    url = await create_database(server, name)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"create role {RUN_ROLE} login".encode())
        await install_outbox(url)
        await connection.execute(render_grants("notify.ent_notification", RUN_ROLE).encode())
    await prepare_invariants(url)
    return name


@asynccontextmanager
async def cloned(server: PostgresServer, template: str) -> AsyncGenerator[str]:
    """Hand out the URL of a fresh clone; it is dropped at the end."""
    name = f"{template.removesuffix('_template')}_{next(counter)}"
    url = await create_database(server, name, template)
    # A clone is another installation: what it sends must not be taken for the template's.
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("update dispatcher.installation set id = gen_random_uuid(), bound_to = null")
    yield url
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as admin:
        await admin.execute(f"drop database {name} with (force)".encode())


@asynccontextmanager
async def restored_copy(server: PostgresServer, url: str) -> AsyncGenerator[str]:
    """Hand out the URL of a new database on the same server, restored from a dump; it is dropped at the end."""
    name = f"copy_{next(counter)}"
    copy = await create_database(server, name)
    dump = await anyio.run_process([str(server.binaries / "pg_dump"), url])
    await anyio.run_process([str(server.binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", copy], input=dump.stdout)
    yield copy
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as admin:
        await admin.execute(f"drop database {name} with (force)".encode())
