"""What the drivers of Python's clients have in common.

Calls come in on standard input, one JSON object a line; answers, and what happens on streams, go out on standard
output (`compat/go/driven`).
"""

import base64
import json
import os
import sys
import threading
import traceback
import uuid

END, START = -1, -2
POLL_MS = 50
DEADLINE_SECONDS = 40

_lock = threading.Lock()


def say(said):
    line = json.dumps(said) + "\n"
    with _lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def refused(error):
    traceback.print_exception(error)
    return {"error": str(error) or repr(error), "code": code_of(error)}


def code_of(error):
    """The node's error code; what the libraries find wrong themselves has none or a negative one, the system has its own."""
    while error is not None:
        code = 0 if isinstance(error, OSError) else getattr(error, "errno", 0)
        if isinstance(code, int) and code > 0:
            return code
        error = error.__cause__
    return 0


def decoded(text):
    return None if text is None else base64.b64decode(text)


def encoded(value):
    return None if value is None else base64.b64encode(value).decode()


class Teller:
    """What both libraries' consumers tell of: their records are alike, and so are their listeners."""

    def __init__(self, number):
        self.number = number

    def tell(self, event, value):
        say({"stream": self.number, "event": event, "value": value})

    def tell_failed(self, error):
        say({"stream": self.number, "event": "failed", **refused(error)})

    def tell_records(self, polled):
        for records in polled.values():
            for record in records:
                self.tell("record", received(record))

    def on_partitions_assigned(self, assigned):
        self.tell("assigned", [place.partition for place in assigned])

    def on_partitions_revoked(self, revoked):
        self.tell("revoked", [place.partition for place in revoked])


def received(record):
    return {
        "partition": record.partition,
        "offset": record.offset,
        "key": encoded(record.key),
        "value": encoded(record.value),
        "headers": [{"key": key, "value": encoded(value)} for key, value in record.headers],
        "timestamp": record.timestamp,
    }


def sent_as(record):
    """A record's arguments to `send`."""
    return {
        "value": decoded(record["value"]),
        "key": decoded(record["key"]),
        "headers": [(header["key"], decoded(header["value"])) for header in record["headers"] or []],
        "partition": record["partition"],
        "timestamp_ms": record["timestamp"] or None,
    }


def producing(how):
    """A producer's settings."""
    return {
        "acks": "all",
        "linger_ms": 5,
        "enable_idempotence": how["idempotent"],
        "compression_type": None if how["codec"] in ("", "none") else how["codec"],
        "max_request_size": (2 if how["large"] else 1) << 20,
    }


def membership(group, clientId, instance, session, heartbeat):
    """A member's settings."""
    return {
        "group_id": group,
        "client_id": clientId or f"driver-{uuid.uuid4().hex[:8]}",
        "group_instance_id": instance or None,
        "session_timeout_ms": session,
        "heartbeat_interval_ms": heartbeat,
    }


def drive(lacks, answer):
    """Gives each call to `answer(call, asked)`, each in a thread of its own."""

    def attempt(said):
        try:
            value = answer(said["call"], said["with"])
        except Exception as error:
            say({"id": said["id"], **refused(error)})
        else:
            say({"id": said["id"], "value": value})

    say(lacks)
    for line in sys.stdin:
        threading.Thread(target=attempt, args=[json.loads(line)], daemon=True).start()
    # No goodbye: whoever wants a member to leave asks for it.
    os._exit(0)
