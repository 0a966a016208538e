"""Identity: what applications take for proof of who a user is."""

import json
import subprocess
import sys
import time

import pytest
from conftest import OTHER, token_of

SITE = """
import sys
from wsgiref.util import setup_testing_defaults

from authapi import Settings, protect
from django import conf, http, urls

def whoami(request):
    return http.JsonResponse({request.user.username: request.user.is_superuser})

conf.settings.configure(
    ALLOWED_HOSTS=["*"],
    AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions")],
    LOGGING_CONFIG=None,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.RemoteUserMiddleware",
    ],
    ROOT_URLCONF=(urls.path("whoami", whoami),),
    SECRET_KEY="of the test",
)

from django.core.wsgi import get_wsgi_application

site = get_wsgi_application()

from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
User.objects.create_superuser("victim")
url, *tokens = sys.argv[1:]
app = protect(site, Settings(database_url=url))
for token in tokens:
    environ = {"PATH_INFO": "/whoami", "HTTP_COOKIE": f"jwt={token}"}
    setup_testing_defaults(environ)
    print(b"".join(app(environ, lambda *_: None)).decode())
"""


def test_remote_user_middleware(make_client, clock, tmp_path):
    """With Django's RemoteUserMiddleware a name makes nobody another user, or its superuser."""
    pytest.importorskip("django")
    url = f"sqlite:///{tmp_path}/authapi.db"
    clock.now = time.time()  # the other process has no clock of ours
    client = make_client(database_url=url)
    first = token_of(client.register(username="victim"))
    second = token_of(client.post("/register", OTHER))

    output = subprocess.check_output([sys.executable, "-c", SITE, url, first, second], text=True)

    assert [json.loads(line) for line in output.splitlines()] == [{"1": False}, {"2": False}]
