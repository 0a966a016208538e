"""What happens between a request's check and its write: a test runs something just there."""


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
