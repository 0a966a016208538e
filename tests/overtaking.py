"""Act once while a password is hashed."""


def _overtake(monkeypatch, passwords, name, act):
    method = getattr(passwords, name)

    def overtaken(*arguments, **options):
        result = method(*arguments, **options)
        monkeypatch.setattr(passwords, name, method)
        act()
        return result

    monkeypatch.setattr(passwords, name, overtaken)


def after_the_check(monkeypatch, client, act):
    """Call `act` when the next password was verified, before anything is written."""
    _overtake(monkeypatch, client.app.core.passwords, "verify", act)


def during_the_hash(monkeypatch, client, act):
    """Call `act` while the next new password is hashed, after all other checks."""
    _overtake(monkeypatch, client.app.core.passwords, "hash", act)
