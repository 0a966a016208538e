"""The JavaScript client in pages: tabs, visibility, slow and hostile answers, another origin."""

import socket
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import Client, running

from tools.api_document import ALL_ON

CLIENT = Path(__file__).parent.parent / "clients" / "js" / "authapi.js"
CONNECTED = "'self' http://auth.example.test:*"
POLICY = f"default-src 'none'; script-src 'self'; connect-src {CONNECTED}; img-src data:"
LOGIN = "await auth.login({usernameOrEmail: 'crispengari', password: 'crispengari'})"

WRONG = """
await auth.login({usernameOrEmail: 'crispengari', password: 'wrong'})
  .catch(({error, retryAfter, requestId}) => [error, retryAfter, requestId.length])
"""

pytest_plugins = ["chromium_fixtures"]
pytestmark = pytest.mark.sqlite("a page knows nothing of the engine")


class Page:
    """A page with a strict policy, and the client that it imports."""

    public = True
    answer_headers = {"Content-Security-Policy": POLICY}  # noqa: RUF012

    def on_get(self, req, resp, name):
        if name == "page":
            resp.content_type = "text/html"
            resp.text = "<!doctype html><link rel=icon href=data:,><title>A page</title>"
        else:
            resp.content_type = "text/javascript"
            resp.data = CLIENT.read_bytes()


class Hostile:
    """Another server, which answers what a test sets."""

    public = True
    status, text = 200, ""

    def on_get(self, req, resp, path):
        resp.status, resp.text = self.status, self.text
        resp.content_type = "text/html"


# The page's clock stands still until a test lets minutes pass.
START = """
let now = Date.now(), behind = 0;
const timers = [];
Date.now = () => now - behind;
globalThis.setInterval = (run, period) => timers.push({run, period, next: now + period});
globalThis.pass = async (minutes) => {
  for (let minute = 0; minute < minutes; minute++) {
    now += 60_000;
    for (const timer of timers) for (; timer.next <= now; timer.next += timer.period) timer.run();
    await navigator.locks.request('authapi ', () => {}); // what was asked is answered
    await Promise.allSettled(answers.splice(0));
    await new Promise((done) => setTimeout(done));
  }
};
const network = fetch, answers = [], targets = [];
globalThis.fetch = (...request) => {
  targets.push(request[0]);
  const answer = network(...request);
  answers.push(answer.then((each) => each.clone().text()));
  return answer;
};
globalThis.setBack = (days) => { behind = days * 86_400_000; };
const {createAuth, AuthError} = await import('/app/authapi.js');
globalThis.createAuth = createAuth;
globalThis.heard = [];
globalThis.auth = createAuth({url: ''});
auth.onChange((user) => heard.push(user && user.username));
globalThis.hold = (path) => {
  const send = fetch, held = Promise.withResolvers(), sent = Promise.withResolvers();
  globalThis.fetch = async (target, init) => {
    const answer = await send(target, init);
    if (target === path) {
      const text = await answer.text();
      answer.json = async () => { await held.promise; return JSON.parse(text); };
      sent.resolve();
    }
    return answer;
  };
  globalThis.release = () => { globalThis.fetch = send; held.resolve(); };
  return sent.promise; // the service has answered, and the page does not know it yet
};
globalThis.asked = (path = '/user') => targets.filter((each) => each === path).length;
globalThis.failure = (promise) => promise.then(() => 'none', (error) => error.error);
"""


@pytest.fixture(name="hostile")
def _hostile():
    return Hostile()


@pytest.fixture(name="url")
def _url(make_app, hostile):
    """Serve the pages beside the service, with a user; return the origin."""
    app = make_app(rate_limits="off")
    Client(app).register()
    app.add_route("/app/{name}", Page())
    app.add_route("/hostile/{path}", hostile)
    with running(app) as port:
        yield f"http://localhost:{port}"


@pytest.fixture(name="tab")
def _tab(context, url):
    """Return a function that opens a tab with a client."""

    def tab():
        page = context.open(f"{url}/app/page")
        page.run(START)
        return page

    return tab


def wait(page, minutes):
    """Let time pass in a page, with its timers and the answers to what they ask."""
    page.run(f"await pass({minutes})")


def hide(page, hidden):
    page.run(
        f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange', {bubbles: true})); undefined"
    )


def test_tabs(tab):
    """A login and a logout reach the listeners of the other tabs."""
    one, two = tab(), tab()

    one.run(LOGIN)
    two.until("heard.length === 1")
    two.run("await auth.logout()")
    one.until("heard.length === 2")

    assert two.run("heard") == one.run("heard") == ["crispengari", None]


def test_tabs_take_turns(tab):
    """A tab that heard of a logout tells of its own login and logout."""
    one, two = tab(), tab()
    one.run(LOGIN)
    two.until("heard.length === 1")
    one.run("await auth.logout()")
    two.until("heard.length === 2")

    two.run(LOGIN)
    one.until("heard.length === 3")
    two.run("await auth.logout()")
    one.until("heard.length === 4")

    assert one.run("heard") == two.run("heard") == ["crispengari", None] * 2


def test_tabs_ask_once(tab):
    """A change in one tab costs one request in each other one, however many there are."""
    first, *others = [tab() for _ in range(6)]

    first.run(LOGIN)
    for each in others:
        each.until("heard.length === 1")
    first.run("await auth.logout()")
    for each in others:
        each.until("heard.length === 2")

    assert [each.run("asked()") for each in others] == [2] * 5
    assert first.run("asked()") == 0


@pytest.mark.parametrize(
    "message",
    [
        "null",
        "'null'",
        "{id: 1}",
        "'<b>'",
        '\'{"id":7,"username":"root"}\'',
        "[[]]",
        "new Date(NaN)",
    ],
)
def test_forged_messages(tab, message):
    """No message of a page is believed: a client asks the service."""
    page = tab()
    page.run(LOGIN)
    page.run("globalThis.before = auth.user; undefined")

    page.run(f"new BroadcastChannel('authapi ').postMessage({message})")

    page.until("asked() === 1")
    page.run("await auth.refresh()")
    assert page.run("auth.user === before && heard.length === 1")


def test_a_slow_answer_after_a_logout(tab):
    """An answer with the user that arrives after a logout does not bring the user back."""
    page = tab()
    page.run(LOGIN)

    page.run("globalThis.sent = hold('/user'); globalThis.slow = auth.refresh(); await sent")
    page.run("await auth.logout(); release()")

    assert page.run("await slow") is None
    assert page.run("heard") == ["crispengari", None]


def test_a_slow_refusal_after_a_login(tab):
    """A 401 that arrives after a login does not log the user out."""
    page = tab()

    page.run(
        "globalThis.sent = hold('/sessions');globalThis.slow = failure(auth.sessions()); await sent"
    )
    page.run(f"{LOGIN}; release()")

    assert page.run("await slow") == "not_authenticated"
    assert page.run("heard") == ["crispengari"]


def test_a_logout_in_another_tab_overtakes_an_answer(tab):
    """An answer with the user that arrives after a logout in another tab is asked for again."""
    one, two = tab(), tab()
    one.run(LOGIN)
    two.until("heard.length === 1")

    two.run("globalThis.sent = hold('/user'); globalThis.slow = auth.refresh(); await sent")
    one.run("await auth.logout()")
    two.run("release()")

    assert two.run("await slow") is None
    assert two.run("heard") == ["crispengari", None]


def test_offline(tab):
    """Without a network nobody is logged out, and the failure has a name."""
    page = tab()
    page.run(LOGIN)
    page.call(
        "Network.emulateNetworkConditions",
        offline=True,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )

    assert page.run("await failure(auth.refresh())") == "network_error"
    assert page.run("await failure(auth.logout())") == "network_error"
    assert page.run("auth.user.username") == "crispengari"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (502, "<html><h1>Bad gateway</h1>"),
        (200, "<html>Sign in to the network"),
        (401, '{"error": "invalid_token"}'),
        (200, '{"code": "401", "error": "invalid_token"}'),
        (200, '{"__proto__": {"polluted": 1}, "code": 404}'),
        (200, "null"),
        (200, "[]"),
        (200, '"text"'),
        (500, ""),
    ],
)
def test_answers_of_others(tab, hostile, status, text):
    """What is not the service's answer is a failure with a name, and logs nobody out."""
    hostile.status, hostile.text = status, text
    page = tab()
    page.run(
        "globalThis.auth = createAuth({url: '/hostile'}); globalThis.known = [];"
        "auth.onChange((user) => known.push(user))"
    )

    error = page.run(
        "await auth.refresh().catch(({error, status, message}) => ({error, status, message}))"
    )

    assert error == {
        "error": "unexpected_answer",
        "status": status,
        "message": "No answer.",
    }
    assert page.run("known.length === 0 && ({}).polluted === undefined")


def test_a_listener_that_throws(tab):
    """A listener that throws keeps neither the call nor the other listeners from what they do."""
    page = tab()
    page.run(
        "auth.onChange(() => { throw new Error('a fault of the page') });"
        "auth.onChange(() => heard.push('third'))"
    )

    page.run(LOGIN)

    assert page.run("heard") == ["crispengari", "third"]
    page.says("a fault of the page")


def test_a_session_that_was_ended_elsewhere(tab, chromium, url):
    """Any call finds that the session has ended, and tells the other tabs."""
    one, two = tab(), tab()
    one.run(LOGIN)
    two.until("heard.length === 1")
    with closing(chromium.context()) as elsewhere:
        page = elsewhere.open(f"{url}/app/page")
        page.run(f"{START}; {LOGIN}; await auth.request('DELETE', '/sessions')")

    assert one.run("await failure(auth.sessions())") == "invalid_token"
    two.until("heard.length === 2")
    assert one.run("heard") == two.run("heard") == ["crispengari", None]


def test_an_open_page_keeps_its_session(tab, clock, context):
    """A visible page asks for the user every ten minutes, which renews the session."""
    page = tab()
    page.run(LOGIN)
    first = context.cookies["jwt"]["value"]
    clock.move(3601)

    wait(page, 9)
    assert page.run("asked()") == 0
    wait(page, 1)
    assert page.run("asked()") == 1
    assert context.cookies["jwt"]["value"] != first
    wait(page, 60)
    assert 5 <= page.run("asked()") <= 7


def test_one_of_several_visible_pages_asks(tab):
    """A page that asks for the user spares the others the request."""
    one, two = tab(), tab()
    two.run("globalThis.told = 0; new BroadcastChannel('authapi ').onmessage = () => told++; 0")
    one.run(LOGIN)
    two.until("heard.length === 1 && told === 1")

    wait(two, 8)
    wait(one, 10)
    two.until("told === 2")
    wait(two, 8)
    assert (one.run("asked()"), two.run("asked()")) == (1, 1)
    wait(two, 4)

    assert two.run("asked()") == 2


def test_a_hidden_page_asks_nothing(tab):
    """A hidden page asks nothing, and once when it becomes visible."""
    page = tab()
    page.run(LOGIN)
    hide(page, "true")

    wait(page, 60)
    assert page.run("asked()") == 0
    hide(page, "false")
    page.until("asked() === 1")
    hide(page, "true")
    hide(page, "false")
    page.run("await auth.sessions()")

    assert page.run("asked()") == 1


def test_a_guest_asks_nothing(tab):
    """A page without a user does not poll."""
    page = tab()
    page.run("await auth.refresh()")

    wait(page, 60)

    assert page.run("asked()") == 1


def test_never(tab):
    """With `refreshEvery: Infinity` a page lets its session end."""
    page = tab()
    page.run("globalThis.auth = createAuth({url: '/never', refreshEvery: Infinity})")

    wait(page, 60)

    assert page.run("asked('/never/user')") == 0


def test_a_clock_that_is_set_back(tab):
    """A page whose clock is set back by a day still asks."""
    page = tab()
    page.run(f"{LOGIN}; setBack(1)")

    wait(page, 1)

    assert page.run("asked()") == 1


def test_another_origin(context, make_app):
    """A page of another origin of the same site stays logged in, and sees all of a failure."""
    pages = make_app()
    pages.add_route("/app/{name}", Page())
    with running(pages) as port:
        origin = f"http://app.example.test:{port}"
        service = make_app(allowed_origins=origin, public_url="http://auth.example.test")
        Client(service).register()
        with running(service) as other:
            page = context.open(f"{origin}/app/page")
            page.run(START)
            page.run(f"globalThis.auth = createAuth({{url: 'http://auth.example.test:{other}'}})")
            page.run(LOGIN)
            page.reload()
            page.run(START)
            page.run(f"globalThis.auth = createAuth({{url: 'http://auth.example.test:{other}'}})")

            assert page.run("(await auth.refresh()).username") == "crispengari"
            assert page.run(WRONG) == ["invalid_credentials", 0, 16]
            page.run("await auth.logout()")
            assert page.run("await auth.refresh()") is None
            for _ in range(9):
                page.run(WRONG)
            error, seconds, _ = page.run(WRONG)
            assert error == "too_many_requests"
            assert seconds > 0


def test_a_registration_that_a_mail_completes(context, make_app):
    """Nobody is logged in by a registration that waits for a mail, and nobody is logged out."""
    app = make_app(**ALL_ON, email_verification="required")
    app.add_route("/app/{name}", Page())
    with running(app) as port:
        page = context.open(f"http://localhost:{port}/app/page")
        page.run(START)

        body = "{username: 'ada', email: 'ada@example.com', password: 'first programmer 1843'}"
        assert page.run(f"await auth.register({body})") is None
        assert page.run("auth.user") is None


class Profile:
    """A route of the application, which shows another user than the session's."""

    public = True

    def on_get(self, req, resp):
        resp.media = {"code": 200, "user": {"id": 7, "username": "mallory"}}

    on_post = on_get


class LateUser:
    """A proxy that sends the next answer of `GET /user` when a test lets it go."""

    def __init__(self, port):
        self._service = ("127.0.0.1", port)
        self.held, self.made, self.released = False, threading.Event(), threading.Event()
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.released.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._sockets[0].accept()
                far = socket.create_connection(self._service)
                self._sockets += near, far
                held = threading.Event()
                for pump in (self._ask, self._answer):
                    threading.Thread(target=pump, args=(near, far, held), daemon=True).start()

    def _ask(self, near, far, held):
        with suppress(OSError):
            while asked := near.recv(65536):
                if self.held and asked.startswith(b"GET /user "):
                    self.held = False
                    held.set()
                far.sendall(asked)
            far.shutdown(socket.SHUT_RDWR)

    def _answer(self, near, far, held):
        with suppress(OSError):
            while answer := far.recv(65536):
                if held.is_set():
                    self.made.set()
                    self.released.wait(30)
                near.sendall(answer)
            near.shutdown(socket.SHUT_RDWR)


@pytest.fixture(name="late")
def _late(make_app):
    """Run a service with a user behind a proxy."""
    app = make_app(rate_limits="off")
    Client(app).register()
    app.add_route("/app/{name}", Page())
    app.add_route("/profile", Profile())
    with running(app) as port, closing(LateUser(port)) as late:
        yield late


@pytest.fixture(name="late_tab")
def _late_tab(context, late):
    """Return a function that opens a tab behind the proxy."""

    def tab():
        page = context.open(f"http://localhost:{late.port}/app/page")
        page.run(START)
        return page

    return tab


CHANGES = {
    "login": LOGIN.removeprefix("await "),
    "password": (
        "auth.changePassword({current_password: 'crispengari', new_password: 'quite 4 new one'})"
    ),
    "proof": "auth.reauthenticate({password: 'crispengari'})",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("tabs", [1, 2])
def test_a_late_renewal(late_tab, late, clock, tabs, change):
    """A renewal that is answered late, in any tab, does not end the session that a call began."""
    one = late_tab()
    one.run(LOGIN)
    two = late_tab() if tabs == 2 else one
    clock.move(3601)
    late.held = True
    two.run("globalThis.slow = auth.refresh(); undefined")
    assert late.made.wait(30)

    one.run(f"globalThis.change = {change}.then(() => (globalThis.changed = true)); undefined")
    one.until("globalThis.changed || (await navigator.locks.query()).pending.length > 0")
    late.released.set()
    one.run("await change; undefined")
    two.run("await slow; undefined")

    assert one.run("(await auth.refresh())?.username") == "crispengari"


def test_a_logout_overtakes_a_renewal(late_tab, late):
    """A logout does not wait for a slow answer to a question."""
    page = late_tab()
    page.run(LOGIN)
    late.held = True
    page.run("globalThis.slow = auth.refresh(); undefined")
    assert late.made.wait(30)

    page.run("auth.logout().then(() => (globalThis.gone = true)); undefined")

    page.until("globalThis.gone || (await navigator.locks.query()).pending.length > 0")
    assert page.run("globalThis.gone && auth.user === null")


def test_a_login_behind_an_answer_that_never_comes(late_tab, late):
    """A login waits a few seconds for a slow answer, and then goes on."""
    page = late_tab()
    page.run(
        "const timeout = AbortSignal.timeout.bind(AbortSignal);"
        "AbortSignal.timeout = (time) => timeout(time === 5000 ? 50 : time); undefined"
    )
    late.held = True
    page.run("globalThis.slow = failure(auth.refresh()); undefined")
    assert late.made.wait(30)

    assert page.run(f"({LOGIN}).username") == "crispengari"


def test_a_logout_whose_question_is_lost(tab):
    """After a logout there is no user, even if the network fails meanwhile."""
    page = tab()
    page.run(LOGIN)
    page.run("globalThis.sent = hold('/user'); globalThis.slow = auth.refresh(); await sent")
    page.run("globalThis.arrive = release; globalThis.sent = hold('/logout')")
    page.run("globalThis.out = auth.logout(); await sent; arrive(); await slow")

    page.run("release(); globalThis.fetch = () => Promise.reject(new TypeError('offline'))")
    page.run("await out")

    assert page.run("auth.user") is None


def test_a_guest_whose_question_is_lost(tab):
    """A guest's tab that hears of a login asks until it gets an answer."""
    one, two = tab(), tab()
    two.run("await auth.refresh()")
    two.run(
        "globalThis.online = fetch; globalThis.lost = 0;"
        "globalThis.fetch = async () => { lost++; throw new TypeError('offline'); }"
    )
    one.run(LOGIN)
    two.until("lost === 1")
    two.run("globalThis.fetch = online; undefined")

    wait(two, 1)

    assert two.run("heard.at(-1)") == "crispengari"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_user_of_the_application(late_tab, method):
    """The user in an answer of the application's own routes is not the session's."""
    page = late_tab()
    page.run(LOGIN)

    found = page.run(f"(await auth.request('{method}', '/profile')).user.username")

    assert found == "mallory"
    assert page.run("heard") == ["crispengari"]
