"""The tables of a `PostgresStore`, and how older ones are upgraded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pocketflow_async.infrastructure.store.errors import StoreUnavailable

UPGRADES: Final[Sequence[str]] = (
    """
    CREATE TABLE state (
        key TEXT COLLATE "C" PRIMARY KEY, value BYTEA NOT NULL, until FLOAT8
    );
    CREATE INDEX state_until ON state (until) WHERE until IS NOT NULL;
    CREATE TABLE emergencies (
        controller_id TEXT COLLATE "C" PRIMARY KEY, state TEXT NOT NULL, reason TEXT, at TEXT,
        version BIGINT NOT NULL, reducing BOOLEAN NOT NULL,
        metadata TEXT NOT NULL, limits TEXT NOT NULL
    );
    CREATE TABLE runs (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run_id TEXT COLLATE "C" NOT NULL UNIQUE, kind TEXT NOT NULL, workflow_id TEXT NOT NULL,
        definition_hash TEXT NOT NULL, definition TEXT, inputs TEXT, status TEXT NOT NULL,
        owner TEXT, fence BIGINT NOT NULL, lease_until FLOAT8 NOT NULL,
        created_at FLOAT8 NOT NULL, updated_at FLOAT8 NOT NULL,
        bot_id TEXT, strategy_id TEXT, trace TEXT, result TEXT, error TEXT,
        seq BIGINT NOT NULL, places BIGINT NOT NULL
    ) WITH (fillfactor = 70);
    CREATE INDEX runs_status ON runs (status, number);
    CREATE INDEX runs_workflow ON runs (workflow_id, number);
    CREATE TABLE entries (
        run_id TEXT COLLATE "C" NOT NULL, place BIGINT NOT NULL, node_id TEXT NOT NULL,
        phase TEXT NOT NULL, attempt BIGINT NOT NULL, key TEXT, output BYTEA, error TEXT,
        at FLOAT8 NOT NULL, PRIMARY KEY (run_id, place)
    );
    CREATE TABLE events (
        run_id TEXT COLLATE "C" NOT NULL, seq BIGINT NOT NULL, type TEXT NOT NULL,
        data TEXT NOT NULL, at FLOAT8 NOT NULL, PRIMARY KEY (run_id, seq)
    );
    CREATE TABLE outcomes (
        token UUID PRIMARY KEY, answer BYTEA, at FLOAT8 NOT NULL
    );
    CREATE INDEX outcomes_at ON outcomes (at);
    """,
)
"""What makes each version of the tables out of the one before; the first out of nothing.

`outcomes` has a row for each change of the last hour, kept with the change: who has not heard
whether its change was kept finds it there, or that it was not.
"""


# Not to_regclass: within a transaction it goes on saying that a table is not there which another
# process has made since.
_HAS_SCHEMA: Final = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"
_HAS_TABLE: Final = """
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'store_version'"""


def quoted(name: str) -> str:
    """Return *name* as PostgreSQL reads it unchanged."""
    return '"' + name.replace('"', '""') + '"'


async def prepare(connection: Any, schema: str, where: str) -> None:
    """Bring the tables up to date; many processes may do so at once.

    Raises:
        StoreUnavailable: They are newer than this program, or something else's.
    """
    if await _version(connection, schema) == len(UPGRADES):
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", schema)
        # Looked at once more: another process may have done it by now.
        version = await _version(connection, schema)
        if version > len(UPGRADES):
            raise StoreUnavailable(
                where,
                f"is of version {version}, and this program knows {len(UPGRADES)}",
                "Upgrade pocketflow-async here too",
            )
        if not version:
            if not await connection.fetchval(_HAS_SCHEMA, schema):
                await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
            await connection.execute("CREATE TABLE store_version (version BIGINT NOT NULL)")
            await connection.execute("INSERT INTO store_version VALUES (0)")
        for upgrade in UPGRADES[version:]:
            await connection.execute(upgrade)
        await connection.execute("UPDATE store_version SET version = $1", len(UPGRADES))


async def _version(connection: Any, schema: str) -> int:
    if not await connection.fetchval(_HAS_TABLE, schema):
        return 0
    return int(await connection.fetchval("SELECT version FROM store_version"))
