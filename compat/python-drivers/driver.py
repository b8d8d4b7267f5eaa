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

END, START = -1, -2
TOPIC_ALREADY_EXISTS = 36

_lock = threading.Lock()


def say(said):
    line = json.dumps(said) + "\n"
    with _lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def failed(stream, error):
    say({"stream": stream, "event": "failed", **refused(error)})


def refused(error):
    traceback.print_exception(error)
    return {"error": str(error) or repr(error), "code": code_of(error)}


def code_of(error):
    """The node's error code; what the libraries find wrong themselves has none, or a negative one."""
    while error is not None:
        code = getattr(error, "errno", 0)
        if isinstance(code, int) and code > 0:
            return code
        error = error.__cause__
    return 0


def decoded(text):
    return None if text is None else base64.b64decode(text)


def encoded(value):
    return None if value is None else base64.b64encode(value).decode()


def record_of(record):
    """Both libraries have the same record."""
    return {
        "partition": record.partition,
        "offset": record.offset,
        "key": encoded(record.key),
        "value": encoded(record.value),
        "headers": [{"key": key, "value": encoded(value)} for key, value in record.headers],
        "timestamp": record.timestamp,
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
