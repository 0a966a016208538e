"""Every name that we use of a library beyond its documented interface, in one list.

A release that drops one fails here, by that name. To look for new uses: what `authapi/server` asks
of waitress must be in `WAITRESS`, and any other private name in `OTHERS`. setup.cfg keeps waitress
and Falcon below their next releases.
"""

import ast
import inspect
import re
import socket
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path

import falcon
import jwt
import msgspec
import pytest
from argon2 import low_level
from falcon.routing import CompiledRouter
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask

ROOT = Path(__file__).parent.parent

WAITRESS = {
    "adj": "outbuf_high_watermark outbuf_overflow send_bytes",
    "channel": """
        _fileno _flush_exception _flush_some addr adj check_client_disconnected close_when_flushed
        connected del_channel error_task_class handle_close handle_read handle_write last_activity
        outbuf_lock parser_class readable received request requests requests_lock send send_continue
        sent_continue server service socket task_class total_outbufs_len will_close writable
        write_soon
    """,
    "parser": """
        body_rcv chunked command completed content_length error expect_continue
        get_body_stream headers headers_finished parse_header path received request_uri version
    """,
    "server": """
        _map active_channels add_task adj application channel_class maintenance next_channel_cleanup
        pull_trigger run set_socket_options task_dispatcher trigger
    """,
    "task": """
        build_response_header channel chunked_response close_on_finish complete
        content_bytes_written content_length environ execute finish get_environment
        has_body request response_headers set_close_on_finish start_time status version write
        wrote_header
    """,
    "tasks": "shutdown threads",
    "trigger": "close handle_read pull_trigger socket",
}
WAITRESS = {kind: set(names.split()) for kind, names in WAITRESS.items()}
OTHERS = {
    ("embed", "_router_search"),  # Falcon's search for a route, which `mount` wraps
    ("binding", "_sync_gen"),  # the end of psycopg's pipelines
    ("binding", "_fetch_gen"),
}

# Which of waitress's objects a name of ours stands for: `self` by the class, others by the word.
CLASSES = {
    "Incoming": "channel",
    "Channel": "channel",
    "Server": "server",
    "StrictParser": "parser",
}
CLASSES |= {"Task": "task", "LoopTask": "task", "FailureTask": "task"}
WORDS = {"channel": "channel", "server": "server", "request": "parser", "known": "parser"}
WORDS |= {"task": "task", "adj": "adj", "tasks": "tasks", "task_dispatcher": "tasks"}
WORDS |= {"trigger": "trigger", "adjustments": "adj"}


@pytest.fixture(name="pristine")
def _pristine():
    """Return the names that each of waitress's own objects has, as waitress makes them."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        adj, tasks = Adjustments(sockets=[listener]), ThreadedTaskDispatcher()
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        options = {"dispatcher": tasks, "adj": adj, "sockinfo": place, "bind_socket": False}
        server = TcpWSGIServer(None, {}, _sock=listener, **options)
        with closing(socket.create_connection(listener.getsockname())):
            connection, address = listener.accept()
            channel = HTTPChannel(server, connection, address, adj, map=server._map)
            parser = HTTPRequestParser(adj)
            parser.received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            made = {"adj": adj, "channel": channel, "parser": parser, "server": server}
            made |= {"task": WSGITask(channel, parser), "tasks": tasks, "trigger": server.trigger}
            yield {kind: {*dir(each)} for kind, each in made.items()}
            channel.close()
            server.trigger.close()


def used():
    """Return the names that our code uses or replaces on each of waitress's objects."""
    found = {kind: set() for kind in WAITRESS}
    for module in (ROOT / "authapi" / "server").glob("*.py"):
        for node in ast.parse(module.read_text()).body:
            kind = CLASSES.get(node.name) if isinstance(node, ast.ClassDef) else None
            for child in ast.walk(node):
                if isinstance(child, ast.Attribute):
                    word = getattr(child.value, "attr", getattr(child.value, "id", ""))
                    found.setdefault(kind if word == "self" else WORDS.get(word), set()).add(
                        child.attr
                    )
            for child in node.body if kind else ():
                targets = getattr(child, "targets", [getattr(child, "target", child)])
                found[kind] |= {getattr(each, "name", getattr(each, "id", "")) for each in targets}
    return found


@pytest.mark.parametrize("kind", WAITRESS)
def test_waitress(pristine, kind):
    """Each name that we use of waitress's server is there, and is listed above."""
    assert WAITRESS[kind] - pristine[kind] == set(), "waitress no longer has them"
    public = {name for name in pristine[kind] if not name.startswith("__")}
    assert used()[kind] & public == WAITRESS[kind], "list what is used, and nothing else"


def test_no_other_private_name():
    """A private name is defined in the same module, or is listed above."""
    found = set()
    for path in (ROOT / "authapi").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        named = [node for node in nodes if isinstance(node, ast.Attribute)]
        private = {node.attr for node in named if re.match("_[a-z]", node.attr)}
        ours = {node.attr for node in named if getattr(node.value, "id", "") == "self"}
        ours |= {getattr(node, "name", "") for node in nodes}  # of functions and classes
        found |= {(path.stem, name) for name in private - ours - {"_exit"}}

    assert found == OTHERS


def test_waitress_is_called_as_it_takes():
    """The internals that we call, or that call ours, take what they took."""
    takes = {
        HTTPChannel._flush_exception: ["self", "flush", "do_close"],
        HTTPChannel._flush_some: ["self", "do_close"],
        HTTPChannel.received: ["self", "data"],
        HTTPChannel.send: ["self", "data", "do_close"],
        HTTPRequestParser.parse_header: ["self", "header_plus"],
        HTTPRequestParser.received: ["self", "data"],
        TcpWSGIServer.add_task: ["self", "task"],
        TcpWSGIServer.maintenance: ["self", "now"],
        ThreadedTaskDispatcher.shutdown: ["self", "cancel_pending", "timeout"],
        WSGITask.write: ["self", "data"],
    }
    assert takes == {each: list(inspect.signature(each).parameters) for each in takes}


def test_falcon():
    """`mount` wraps the search for a route, and our router maps methods to responders."""
    assert callable(falcon.App()._router_search)
    assert list(inspect.signature(CompiledRouter.find).parameters) == ["self", "uri", "req"]
    mapping = inspect.signature(CompiledRouter.map_http_methods)
    assert list(mapping.parameters) == ["self", "resource", "kwargs"]
    assert {"GET", "TRACE"} <= set(falcon.COMBINED_METHODS)


def test_argon2():
    """hashing.py calls argon2's C function with a context of its own, and two callbacks."""
    context = dict(low_level.ffi.typeof("argon2_context").fields)

    named = "version out outlen pwd pwdlen salt saltlen t_cost m_cost lanes threads"
    assert {*named.split(), "allocate_cbk", "free_cbk"} <= set(context)
    assert low_level.ffi.typeof("allocate_fptr") is context["allocate_cbk"].type
    assert low_level.ffi.typeof("deallocate_fptr") is context["free_cbk"].type
    assert callable(low_level.core)
    assert low_level.error_to_str(-22) == "Memory allocation error"


def test_msgspec():
    """Since 0.21, msgspec raises a ValueError for input that it cannot decode."""
    assert issubclass(msgspec.DecodeError, ValueError)
    (field,) = msgspec.structs.fields(msgspec.defstruct("Body", ["name"]))
    assert (field.name, field.encode_name, field.required) == ("name", "name", True)


def test_jwt():
    """The layer below PyJWT's claims signs bytes, and takes only the algorithms that it is told."""
    jws = jwt.PyJWS(algorithms=["HS256"])
    token = jws.encode(b"bytes", b"k" * 32, "HS256", headers={"kid": "1"})

    assert jws.decode(token, b"k" * 32, algorithms=["HS256"]) == b"bytes"


def test_bounds():
    """Waitress and Falcon have upper bounds, since we use private names of theirs."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = config["options"]["install_requires"].split()

    assert all(">=" in each for each in required)
    assert {"falcon", "waitress"} == {each.partition(">=")[0] for each in required if ",<" in each}
