"""What a `PostgresStore` asks: one statement for each change, which is a transaction by itself.

`$1` is the change's token. Who changes something notes the token, with the answer, in the same
statement; it is one row with a column `answer`, or no row where nothing was to be changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pocketflow_async.infrastructure.store.kept import EMERGENCY, ENTRY, EVENT, RUN

NOW: Final = "extract(epoch FROM statement_timestamp())::float8"
"""The server's clock: the same for all processes."""
_LIVE: Final = f"(until IS NULL OR until > {NOW})"
_FREE: Final = f"(owner IS NULL OR lease_until <= {NOW})"


def _columns(names: Sequence[str]) -> str:
    return ", ".join(names)


def _noted(source: str, answer: str = "NULL::bytea") -> str:
    return f"""noted AS (
        INSERT INTO outcomes (token, answer, at) SELECT $1::uuid, {answer}, {NOW} FROM {source}
    ) SELECT {answer} AS answer FROM {source}"""


def _kept(keys: int, guard: str = "") -> str:
    """Return what keeps values, given as arrays from parameter *keys* on."""
    return f"""kept AS (
        INSERT INTO state (key, value, until)
        SELECT given.key, given.value, NULL
        FROM {guard} unnest(${keys}::text[], ${keys + 1}::bytea[]) AS given (key, value)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, until = NULL
    )"""


def _told(seq: int, run: str) -> str:
    """Return what adds events, given as arrays from parameter *seq* on."""
    return f"""told AS (
        INSERT INTO events ({_columns(EVENT)})
        SELECT run.run_id, given.seq, given.type, given.data, coalesce(nullif(given.at, 0), {NOW})
        FROM {run} run, unnest(
            ${seq}::bigint[], ${seq + 1}::text[], ${seq + 2}::text[], ${seq + 3}::float8[]
        ) AS given (seq, type, data, at)
    )"""


def _written(place: int, run: str) -> str:
    """Return what adds lines of a journal, given as arrays from parameter *place* on."""
    types = ("bigint", "text", "text", "bigint", "text", "bytea", "text", "float8")
    arrays = [f"${number}::{kind}[]" for number, kind in enumerate(types, place)]
    return f"""lines AS (
        INSERT INTO entries ({_columns(ENTRY)})
        SELECT run.run_id, given.place, given.node_id, given.phase, given.attempt, given.key,
            given.output, given.error, coalesce(nullif(given.at, 0), {NOW})
        FROM {run} run, unnest({_columns(arrays)})
            AS given (place, node_id, phase, attempt, key, output, error, at)
    )"""


RECALL: Final = "SELECT answer FROM outcomes WHERE token = $1::uuid"
SWEEP: Final = f"""
    WITH old AS (DELETE FROM outcomes WHERE at < {NOW} - 3600)
    DELETE FROM state WHERE until <= {NOW}"""

GET: Final = f"SELECT key, value FROM state WHERE key = ANY($1::text[]) AND {_LIVE}"
KEYS: Final = f"""
    SELECT key FROM state
    WHERE key >= $1 AND ($2::text IS NULL OR key < $2) AND {_LIVE} ORDER BY key"""
PUT: Final = f"""
    WITH kept AS (
        INSERT INTO state (key, value, until)
        SELECT given.key, given.value, {NOW} + $4::float8
        FROM unnest($2::text[], $3::bytea[]) AS given (key, value)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, until = excluded.until
    ), {_noted("(SELECT 1) one")}"""
PUT_IF_ABSENT: Final = f"""
    WITH kept AS (
        INSERT INTO state (key, value, until) VALUES ($2, $3::bytea, {NOW} + $4::float8)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, until = excluded.until
        WHERE state.until <= {NOW} RETURNING key
    ), {_noted("kept")}"""
ADD: Final = f"""
    WITH kept AS (
        INSERT INTO state (key, value, until) VALUES ($2, convert_to($3::text, 'UTF8'), NULL)
        ON CONFLICT (key) DO UPDATE SET
            value = CASE WHEN state.until <= {NOW} THEN excluded.value ELSE
                convert_to((convert_from(state.value, 'UTF8')::numeric + $3::text::numeric)::text,
                    'UTF8') END,
            until = CASE WHEN state.until <= {NOW} THEN NULL ELSE state.until END
        WHERE state.until <= {NOW} OR encode(state.value, 'escape') ~ '^-?[0-9]+$'
        RETURNING value
    ), {_noted("kept", "value")}"""
TAKE: Final = f"""
    WITH gone AS (DELETE FROM state WHERE key = $2 RETURNING value, until),
    live AS (SELECT value FROM gone WHERE {_LIVE}), {_noted("live", "value")}"""
DELETE: Final = f"""
    WITH gone AS (DELETE FROM state WHERE key = $2 RETURNING until),
    live AS (SELECT 1 FROM gone WHERE {_LIVE}), {_noted("live")}"""

GET_EMERGENCY: Final = f"SELECT {_columns(EMERGENCY)} FROM emergencies WHERE controller_id = $1"
SET_EMERGENCY: Final = f"""
    WITH kept AS (
        INSERT INTO emergencies AS old (controller_id, {_columns(EMERGENCY)})
        VALUES ($2, {_columns([f"${number}" for number in range(3, 3 + len(EMERGENCY))])})
        ON CONFLICT (controller_id) DO UPDATE SET
            {_columns([f"{column} = excluded.{column}" for column in EMERGENCY])}
        WHERE old.version = excluded.version - 1 RETURNING controller_id
    ), {_noted("kept")}"""

_GIVEN: Final = tuple(
    column for column in RUN if column not in ("created_at", "updated_at", "lease_until")
)
CREATED: Final = _GIVEN
"""Columns of a new run, as parameters from the third on; the second is the lease, or NULL."""
_AFTER: Final = 3 + len(_GIVEN)
CREATE: Final = f"""
    WITH made AS (
        INSERT INTO runs (lease_until, created_at, updated_at, {_columns(_GIVEN)})
        VALUES (coalesce({NOW} + $2::float8, 0), {NOW}, {NOW},
            {_columns([f"${number}" for number in range(3, _AFTER)])})
        ON CONFLICT (run_id) DO NOTHING RETURNING run_id, created_at
    ), {_written(_AFTER, "made")}, {_told(_AFTER + 8, "made")}, {_kept(_AFTER + 12, "made,")},
    {_noted("made", "convert_to(created_at::text, 'UTF8')")}"""
GET_RUN: Final = f"SELECT {_columns(RUN)} FROM runs WHERE run_id = $1"
RUNS: Final = f"""
    SELECT {_columns(RUN)} FROM runs
    WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR workflow_id = $2)
        AND ($3::text IS NULL OR kind = $3) ORDER BY number DESC LIMIT $4"""
ABANDONED: Final = f"""
    SELECT {_columns(RUN)} FROM runs WHERE status = $1 AND {_FREE} ORDER BY number LIMIT $2"""
CLAIM: Final = f"""
    WITH mine AS (
        UPDATE runs SET owner = $3, fence = fence + 1, lease_until = {NOW} + $4::float8,
            updated_at = {NOW}
        WHERE run_id = $2 AND {_FREE} RETURNING fence
    ), {_noted("mine", "convert_to(fence::text, 'UTF8')")}"""
RENEW: Final = f"""
    UPDATE runs SET lease_until = {NOW} + $4::float8
    WHERE run_id = $1 AND owner = $2 AND fence = $3 RETURNING fence"""
APPEND: Final = f"""
    WITH held AS (
        UPDATE runs SET places = places + cardinality($7::bigint[]),
            seq = seq + cardinality($15::bigint[]), updated_at = {NOW},
            status = coalesce($21, status), result = coalesce($22, result),
            error = CASE WHEN $23::text = '' THEN NULL ELSE coalesce($23::text, error) END,
            owner = CASE WHEN $24::boolean THEN NULL ELSE owner END,
            lease_until = CASE WHEN $24::boolean THEN 0 ELSE lease_until END
        WHERE run_id = $2 AND owner = $3 AND fence = $4
            AND places = coalesce($5::bigint, places) AND seq = coalesce($6::bigint, seq)
        RETURNING run_id
    ), {_written(7, "held")}, {_told(15, "held")}, {_kept(19, "held,")}, {_noted("held")}"""
GET_ENTRIES: Final = f"SELECT {_columns(ENTRY)} FROM entries WHERE run_id = $1 ORDER BY place"
GET_EVENTS: Final = f"""
    SELECT {_columns(EVENT)} FROM events WHERE run_id = $1 AND seq > $2 ORDER BY seq"""
