"""PostgreSQL's statements: the server takes each, finds rows by an index, and prunes at once."""

import re

import pytest
from cluster import why_none
from conftest import CHEAP
from engines import PostgreSQLEngine

from authapi import Settings, create_app
from authapi.database.statements import SQL

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

from authapi.database.postgresql import PostgreSQLDatabase
from authapi.database.postgresql.binding import positional
from authapi.database.statements import load

FILES = sorted({path.stem for path in SQL.glob("queries/*.sql")})
STATEMENTS = [
    (name, statement)
    for name in FILES
    for statement in load(name, "postgresql")
    if statement != "create_ledger"
]
# The index by which each statement of a request finds its rows.
INDEXES = {
    "audit.of_user": "audit_log_user_id",
    "audit.prune": "audit_log_created_at",
    "limits.clear": "limits_key",
    "limits.give_back": "limits_key",
    "limits.prune": "limits_kept_until",
    "limits.states": "limits_key",
    "one_time_tokens.by_link": "one_time_tokens_link_hash",
    "one_time_tokens.consume": "one_time_tokens_pkey",
    "one_time_tokens.end_of_user": "one_time_tokens_user_id",
    "one_time_tokens.is_outdated": "one_time_tokens_user_id",
    "one_time_tokens.newest": "one_time_tokens_user_id",
    "one_time_tokens.prune": "one_time_tokens_expires_at",
    "one_time_tokens.take_try": "one_time_tokens_pkey",
    "replaced_sessions.forget": "replaced_sessions_replaced_by",
    "replaced_sessions.has": "replaced_sessions_id_hash",
    "sessions.authenticate": "sessions_id_hash",
    "sessions.authenticate_all": "sessions_id_hash",
    "sessions.of_user": "sessions_user_id",
    "sessions.prune": "sessions_expires_at",
    "sessions.renew": "sessions_id_hash",
    "sessions.revoke": "sessions_id_hash",
    "sessions.revoke_all_but": "sessions_user_id",
    "sessions.revoke_unused": "sessions_user_id",
    "sessions.rotate": "sessions_id_hash",
    "users.by_email": "users_email_key",
    "users.by_id": "users_pkey",
    "users.by_session": "sessions_id_hash",
    "users.by_username": "users_username_key",
    "users.change_password": "users_pkey",
    "users.is_lookalike": "users_username_key",
    "users.lock": "users_pkey",
}
# Parameters that are text, or of the type of what they stand beside; psycopg sends ints as bigint.
UNTYPED = {
    *("checksum", "detail", "email", "email_key", "event", "id_hash", "ip", "kept", "key", "kid"),
    *("lookalike", "methods", "name", "new_hash", "new_id_hash", "password_hash", "replaced_by"),
    *("request_id", "session_id", "user_agent", "username", "username_key", "verified_hash"),
    *("purpose", "data", "nonce", "binding", "link_hash", "code_hash"),
    *("channel", "kind", "address", "language", "error"),
    *("id_hashes", "user_ids", "rows", "after_key", "keys", "pattern", "first", "last", "place"),
}
# Statements that PostgreSQL alone has.
OWN = {
    "sessions": {"authenticate_all": {"id_hashes", "user_ids"}},
    "users": {"lock": {"id"}},
}
ROWS = """
INSERT INTO users (username, username_key, email, email_key)
SELECT n, n, n || '@', n || '@' FROM generate_series(1, 10000) AS n;
INSERT INTO username_lookalikes SELECT n || 'x', n FROM generate_series(1, 10000) AS n;
INSERT INTO sessions
       (id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent)
SELECT lpad(n::text, 64, '0'), CASE WHEN n > 10000 THEN 1 ELSE n END, 0, 0, 0, n, '', ''
  FROM generate_series(1, 20000) AS n;
INSERT INTO replaced_sessions
SELECT lpad(n::text, 64, 'a'), lpad(n::text, 64, '0'), n FROM generate_series(1, 10000) AS n;
INSERT INTO one_time_tokens
       (purpose, user_id, version, data, kid, nonce, link_hash, created_at, expires_at)
SELECT 'reset', n, 1, '', '', '', n, n, n FROM generate_series(1, 10000) AS n;
INSERT INTO limits SELECT n, n, n, n FROM generate_series(1, 10000) AS n;
INSERT INTO audit_log (created_at, event, user_id, ip, user_agent, request_id)
SELECT n, 'x', n, '', '', '' FROM generate_series(1, 10000) AS n;
ANALYZE;
"""


FEW = """
INSERT INTO users (username, username_key, email, email_key) VALUES ('a', 'a', 'a', 'a');
INSERT INTO sessions
       (id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent)
SELECT lpad(n::text, 64, '0'), 1, 0, 0, 0, n, '', '' FROM generate_series(1, 3) AS n;
REINDEX TABLE sessions;
ANALYZE;
"""


@pytest.fixture(name="engine")
def _engine(cluster):
    return PostgreSQLEngine(cluster)


@pytest.fixture(name="new")
def _new(engine):
    """Return a database without rows."""
    app = create_app(Settings(**engine.settings(**CHEAP)))
    engine.prepare(app.core.database)
    yield app.core.database
    app.close()


@pytest.fixture(name="database")
def _database(new):
    """Return a database of 10,000 users, one of whom has 10,000 sessions."""
    new.run(lambda connection: connection.execute(ROWS.encode(), prepare=False))
    return new


def prepared(name, statement):
    """Return a statement as PREPARE takes it, and an EXECUTE of it without values."""
    text, names = positional(load(name, "postgresql")[statement].sql)
    types = ", ".join("unknown" if each in UNTYPED else "bigint" for each in names)
    nulls = ", ".join(["NULL"] * len(names))
    if not names:
        return b"PREPARE one AS " + text, b"EXECUTE one"
    return f"PREPARE one ({types}) AS ".encode() + text, f"EXECUTE one ({nulls})".encode()


def test_the_server_takes_each_statement(database):
    """Each statement is PostgreSQL's SQL, with the types of its parameters known."""
    for name, statement in STATEMENTS:
        prepare, _ = prepared(name, statement)

        def run(connection, prepare=prepare):
            connection.execute(prepare, prepare=False)
            connection.execute(b"DEALLOCATE one", prepare=False)

        database.run(run)


@pytest.mark.parametrize(
    "common", ["audit", "jobs", "limits", "one_time_tokens", "outbox", "sessions", "users"]
)
def test_both_engines_have_each_statement(common):
    """What features call is there on both engines, with the same parameters."""
    mine, others = (
        {name: set(positional(each.sql)[1]) for name, each in load(common, engine).items()}
        for engine in ("postgresql", "sqlite")
    )

    assert mine == others | OWN.get(common, {})


def plan_of(database, key):
    """Return the server's plan of a statement for any values, as it keeps it."""
    prepare, execute = prepared(*key.split("."))

    def explain(connection):
        connection.execute(b"SET plan_cache_mode = force_generic_plan", prepare=False)
        connection.execute(b"SET enable_seqscan = off", prepare=False)  # of a small table
        connection.execute(prepare, prepare=False)
        rows = connection.execute(b"EXPLAIN " + execute, prepare=False).fetchall()
        connection.execute(b"DEALLOCATE one", prepare=False)
        return "\n".join(line for (line,) in rows)

    return database.run(explain)


def test_indexes(database):
    """Among many rows, each statement uses the index of its key."""
    for key, index in INDEXES.items():
        plan = plan_of(database, key)
        assert re.search(rf"\b{index}\b", plan), (key, plan)
        assert "Seq Scan" not in plan, (key, plan)


@pytest.mark.parametrize("key", ["sessions.authenticate", "sessions.revoke"])
def test_index_of_a_new_database(new, key):
    """A plan that the server made while there were few rows is still good when there are many."""
    new.run(lambda connection: connection.execute(FEW.encode(), prepare=False))

    assert "sessions_id_hash" in plan_of(new, key)


@pytest.mark.parametrize("name", ["sessions", "limits", "audit", "one_time_tokens"])
def test_two_nodes_prune_at_once(database, cluster, name):
    """Two nodes that prune at the same moment delete different rows, and neither waits."""
    key = {"audit": "until"}.get(name, "now")
    other = PostgreSQLDatabase(cluster.url)
    values = {key: 10_000, "at_most": 100}

    with database.transaction(), other.transaction(patience=0.1):
        if name == "audit":  # entries of users are kept for 90 days before the newest
            for each in (database, other):
                each.run(
                    lambda connection: connection.execute(
                        b"SET session_replication_role = replica", prepare=False
                    )
                )
        deleted = [each.statements(name).prune(**values) for each in (database, other)]

    assert deleted == [100, 100]
    other.close()
