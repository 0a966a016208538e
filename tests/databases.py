"""Database files for tests: made by this release or an older one, and looked into from outside."""

import sqlite3
from contextlib import closing

from authapi.database.migrations import migrations
from authapi.database.sqlite import SQLiteDatabase, migrate

MIGRATIONS = migrations("sqlite")


def opened(path, until=None):
    """Open a database file, and migrate it as a release with so many migrations would."""
    database = SQLiteDatabase(path)
    migrate(database, MIGRATIONS[:until])
    return database


def insert_user(database, name, password_hash="x"):
    """Add a user to the schema of any release; the name is the address too."""
    database.connection.execute(
        "INSERT INTO users (username, username_key, email, email_key, password_hash)"
        " VALUES (:name, :name, :name, :name, :password_hash)",
        {"name": name, "password_hash": password_hash},
    )


def rows(path, statement):
    """Run a statement on a database file, as another program does."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()
