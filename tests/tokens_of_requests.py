"""Shared by the tests of session tokens: requests with several tokens, and their answers."""

from conftest import USER, deletes_cookie

RENEWED_AFTER = 3_600  # seconds, as the settings have it
FOREIGN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"
PROVED = {"password": USER["password"]}
CHANGED = {"current_password": USER["password"], "new_password": "another one"}

GOOD, BAD, SPARED = (200, None, False), (401, "invalid_token", True), (401, "invalid_token", False)


def bearing(token, *cookies):
    """Headers with a bearer token, and cookies beside it."""
    return {"Authorization": f"Bearer {token}", **carrying(*cookies)}


def carrying(*tokens):
    """Headers with so many session cookies."""
    return {"Cookie": "; ".join(f"jwt={token}" for token in tokens)} if tokens else {}


def outcome(answer):
    """Return an answer's result, and whether it deletes the session cookie."""
    return answer.status_code, answer.json.get("error"), deletes_cookie(answer)
