"""What schemathesis has to know of this API: it is on a Unix socket, streams have no end, and waiting takes time."""

import base64
import os
import socket
import time

import schemathesis
from schemathesis.generation import GenerationMode
import urllib3.connection
import urllib3.response

SOCKET = os.environ["KENNEL_SOCKET"]
# How long a stream is listened to, in seconds.
STREAM = 0.2
# The longest that may be waited, in milliseconds.
YEAR = 365 * 24 * 3_600_000


def connect(_):
    """A connection to the daemon, also to one that is only just coming up."""
    end = time.monotonic() + 20
    while True:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(30)
        try:
            stream.connect(SOCKET)
            return stream
        except (FileNotFoundError, ConnectionRefusedError):
            stream.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


urllib3.connection.HTTPConnection._new_conn = connect
read1 = urllib3.response.HTTPResponse.read1


def read_some(self, *args, **kwargs):
    """Of server-sent events, which have no end, what comes in a moment."""
    if self._fp is not None and self._fp.fp is not None:
        self._fp.fp.raw._sock.settimeout(STREAM)
    return read1(self, *args, **kwargs)


# schemathesis reads nothing but streams of events so.
urllib3.response.HTTPResponse.read1 = read_some


@schemathesis.hook
def filter_case(context, case):
    """Leaves out headers that nobody knows: HTTP says that they are ignored."""
    return "x-schemathesis-unknown-property" not in (case.headers or {})


@schemathesis.hook
def before_call(context, case, kwargs):
    mode = case.meta.generation.mode if case.meta else None
    query = dict(case.query or {})
    if case.operation.path.endswith("/wait"):
        # It waits for as long as it is told to, or for ever.
        if str(query.get("timeout_ms", "0")).isdigit() and int(query.get("timeout_ms", 0)) <= YEAR:
            query["timeout_ms"] = 20
    if case.operation.path == "/v1/lookup" and mode == GenerationMode.POSITIVE:
        # Exactly one of them: OpenAPI has no word for that.
        named = [name for name in ("id", "pid", "dir") if query.get(name) is not None]
        query = {named[0]: query[named[0]]} if named else {"pid": 1}
    if mode == GenerationMode.POSITIVE:
        # One of both, at most; and for the content of a file, one: the same.
        for name in ("path_base64", "after_base64"):
            if name.removesuffix("_base64") in query or b"\0" in base64.b64decode(query.get(name, "")):
                query.pop(name, None)
        if case.operation.path.endswith("/files/content") and "path_base64" not in query:
            query.setdefault("path", "README.md")
        # OpenAPI has no word for a time that is to come.
        if isinstance(case.body, dict) and isinstance(case.body.get("expires_at"), str):
            case.body["expires_at"] = "2999-12-31T12:00:00.000Z"
        # A line has less than a terminal takes.
        if case.operation.path.endswith("/input") and isinstance(case.body, dict):
            case.body["text"] = str(case.body.get("text", "x"))[:1000]
        # One of both.
        if case.operation.path.endswith("/attach") and case.method == "DELETE" and not case.headers:
            case.headers = {"Kennel-Client": "1"}
        if case.operation.path == "/v1/sessions" and "since" in query:
            query["since"] = "2020-01-31T12:00:00.000Z"
        # A cursor belongs to a stream.
        if case.operation.path.endswith("/log") and "after" in query:
            query["follow"] = "true"
        # As a header it is taken for something else now and then.
        if case.operation.path.endswith("/log") and "Last-Event-ID" in (case.headers or {}):
            case.headers = {**case.headers, "Last-Event-ID": "0-0-0"}
        # A query is words with balanced quotation marks, and a time is after 1970.
        if case.operation.path == "/v1/search":
            query["q"] = "word"
            if "since" in query:
                query["since"] = "2020-01-31T12:00:00.000Z"
    if query != (case.query or {}):
        case.query = query
