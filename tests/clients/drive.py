"""Drives the generated Python client from a registration to a logout.

Run by test_generated_clients.py, in the environment of `make clients`.
"""

import sys

from client import AuthenticatedClient, Client
from client.api.accounts import get_user
from client.api.audit import list_activity
from client.api.login import log_in, log_out
from client.api.registration import register
from client.api.session_list import end_session, list_sessions
from client.models import (
    LoginBody,
    NobodyAnswer,
    RegistrationBody,
    SessionsAnswer,
    SignedInAnswer,
    UsernameTaken,
    ValidationFailed,
)

URL, PASSWORD = sys.argv[1], "first programmer 1843"

guest = Client(base_url=URL)
body = RegistrationBody(username="grace", email="grace@example.com", password=PASSWORD)
registered = register.sync(client=guest, body=body)
assert isinstance(registered, SignedInAnswer)
assert registered.user.username == "grace"

taken = register.sync(client=Client(base_url=URL), body=body)
assert isinstance(taken, UsernameTaken) or taken.error == "username_taken"
body.password = "short"
weak = register.sync(client=Client(base_url=URL), body=body)
assert isinstance(weak, ValidationFailed)
assert weak.errors[0].field == "password"

wrong = LoginBody(username_or_email="grace", password="no")
assert log_in.sync(client=Client(base_url=URL), body=wrong).error == "invalid_credentials"
browser = Client(base_url=URL)
right = LoginBody(username_or_email="grace", password=PASSWORD)
answer = log_in.sync_detailed(client=browser, body=right)
assert answer.status_code == 200
token = browser.get_httpx_client().cookies["jwt"]

user = AuthenticatedClient(base_url=URL, token=token)
listed = list_sessions.sync(client=user)
assert isinstance(listed, SessionsAnswer)
(old,) = [each.id for each in listed.sessions if not each.current]
assert end_session.sync(old, client=user).code == 200
assert list_activity.sync(client=user, limit=1).activity[0].event == "session_revoked"
assert isinstance(log_out.sync(client=user), NobodyAnswer)
assert get_user.sync(client=user).error == "invalid_token"
sys.stdout.write("driven\n")
