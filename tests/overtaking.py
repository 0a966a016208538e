"""What happens between a request's check and its write: a test runs something just there."""

from authapi.database.sqlite import SQLiteDatabase


def after_the_check(monkeypatch, client, act):
    """Call `act` once, when the next password was verified and before anything is written."""
    passwords = client.app.core.passwords
    verify = passwords.verify

    def overtaken(*arguments, **options):
        verdict = verify(*arguments, **options)
        monkeypatch.setattr(passwords, "verify", verify)
        act()
        return verdict

    monkeypatch.setattr(passwords, "verify", overtaken)


def before_the_write(monkeypatch, client, statement):
    """Run a statement while the next transaction waits for its turn to write."""
    patiently = SQLiteDatabase._patiently

    def overtaken(database, begin, deadline):
        client.query(statement)
        return patiently(database, begin, deadline)

    monkeypatch.setattr(SQLiteDatabase, "_patiently", overtaken)
