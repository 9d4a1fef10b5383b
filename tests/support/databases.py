"""Databases to play in: one with XNovu's tables, ours and what the invariants need, and fresh clones of it."""

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from house import RUN_ROLE
from invariants import PREPARE

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import create_dev_schema, install, render_grants

TEMPLATE = "e2e_template"
counter = itertools.count()


async def make_template(server: PostgresServer, name: str = TEMPLATE) -> str:
    """Create the server's first database, to be cloned, and the role of `dispatcher run`; return its name."""
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as admin:
        await admin.execute(f"create database {name}".encode())
        await admin.execute(f"create role {RUN_ROLE} login".encode())
    url = server.url(name)
    await create_dev_schema(url)
    await install(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(render_grants("notify.ent_notification", RUN_ROLE).encode())
        await connection.execute(PREPARE)
    return name


@asynccontextmanager
async def cloned(server: PostgresServer, template: str) -> AsyncGenerator[str]:
    """Hand out the URL of a fresh clone."""
    name = f"e2e_{next(counter)}"
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as admin:
        await admin.execute(f"create database {name} template {template}".encode())
        # A clone is another installation: what it sends must not be taken for the template's.
        async with await psycopg.AsyncConnection.connect(server.url(name), autocommit=True) as connection:
            await connection.execute("update dispatcher.installation set id = gen_random_uuid()")
        yield server.url(name)
        await admin.execute(f"drop database {name} with (force)".encode())
