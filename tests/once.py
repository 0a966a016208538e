"""The tests that need not run on each Python: they find the same on all.

Each runs on the newest Python, as all tests do. `make check` runs them all; only the gate, which
runs both, leaves them out of its second run: `-m "not once"`.
"""

# Simulations of many requests, kills, and tests that read documents and sources.
FILES = {
    f"test_{name}"
    for name in (
        *("add_a_feature", "architecture", "asvs", "attackers", "cost", "crash", "differential"),
        *("migration_kills", "model", "outbox_faults", "packaging", "powercut", "server_kills"),
        "source",
    )
}
# What the features do runs on each Python on SQLite, and on PostgreSQL on one. These use every
# module for PostgreSQL, as the tests of PostgreSQL alone do.
ON_POSTGRESQL = {
    f"test_{name}"
    for name in (
        *(
            "database_check",
            "database_status",
            "doctor",
            "exports",
            "imports",
            "jobs",
            "key_commands",
        ),
        *("login", "mail", "outbox", "protect_asgi", "races", "replay", "sessions"),
    )
}


def runs_once(item):
    """Return whether one Python may run a test for all."""
    name = item.module.__name__
    engine = item.callspec.params.get("engine") if hasattr(item, "callspec") else None
    return name in FILES or (engine == "postgresql" and name not in ON_POSTGRESQL)
