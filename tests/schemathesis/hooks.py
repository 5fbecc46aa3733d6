"""What schemathesis has to know of this API: it is on a Unix socket, streams have no end, and waiting takes time."""

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
    if query != (case.query or {}):
        case.query = query
