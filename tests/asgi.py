"""Shared by the tests of `protect_asgi`: requests and websockets as an ASGI server has them."""

import asyncio
import json


def headers_of(fields):
    """Return header fields as a server has them: a mapping, or pairs."""
    pairs = fields.items() if isinstance(fields, dict) else fields
    return [
        tuple(part if isinstance(part, bytes) else part.encode("latin-1") for part in pair)
        for pair in pairs
    ]


def http_scope(method="GET", path="/", fields=(), **more):
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers_of(fields),
        "client": ("192.0.2.7", 4_711),
        "server": ("127.0.0.1", 8_000),
        **more,
    }


def socket_scope(path="/", fields=(), **more):
    scope = http_scope(path=path, fields=fields)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "ws", "subprotocols": [], **more}


def cookie(*tokens):
    return {"cookie": "; ".join(f"jwt={token}" for token in tokens)}


class Answer:
    """The messages that an application has sent."""

    def __init__(self):
        self.messages = []

    async def send(self, message):
        self.messages.append(message)

    @property
    def start(self):
        return self.messages[0]

    @property
    def status(self):
        return self.start["status"]

    @property
    def headers(self):
        return [(name.decode(), value.decode()) for name, value in self.start.get("headers", ())]

    @property
    def cookies(self):
        return [value for name, value in self.headers if name == "set-cookie"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def json(self):
        return json.loads(self.body)


def messages_of(scope, body, pieces):
    """Return what a server gives an application for a request or a websocket."""
    if scope["type"] == "websocket":
        return [{"type": "websocket.connect"}]
    size = max(1, -(-len(body) // pieces))
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    return [
        {"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts
    ]


async def called(app, scope, body=b"", pieces=1, messages=None):
    """Call an application once, in a running loop, and return its answer."""
    waiting, answer = list(messages or messages_of(scope, body, pieces)), Answer()

    async def receive():
        if waiting:
            return waiting.pop(0)
        return await asyncio.get_running_loop().create_future()  # nothing more comes

    await app(scope, receive, answer.send)
    return answer


def call(app, scope, body=b"", pieces=1, messages=None):
    """Call an application in a loop of its own, and return its answer."""
    return asyncio.run(called(app, scope, body, pieces, messages))


def get(app, path="/", fields=(), **more):
    return call(app, http_scope("GET", path, fields, **more))


def post(app, path, body=None, fields=(), pieces=1):
    content = b"" if body is None else json.dumps(body).encode()
    fields = [("content-type", "application/json"), *headers_of(fields)]
    length = ("content-length", str(len(content)))
    return call(app, http_scope("POST", path, [*fields, length]), content, pieces)


class Spy:
    """An ASGI application that keeps the scopes that it was called with, and answers `spied`."""

    def __init__(self, *headers):
        self.scopes = []
        self._headers = headers_of([("content-type", "text/plain"), *headers])

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept", "headers": self._headers[1:]})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"spied"})

    @property
    def scope(self):
        return self.scopes[-1]

    @property
    def user_id(self):
        user = self.scope["user"]
        return None if user is None else user.id
