"""What the stand-ins write down and what they are told, in the directory STAND_IN_DIR."""

import json
import os
import sys
from pathlib import Path

HOME = Path(os.environ["STAND_IN_DIR"])


def note(what, **more):
    """One line, written at once."""
    line = json.dumps({"what": what, "pid": os.getpid(), **more}) + "\n"
    handle = os.open(HOME / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def told(name):
    """The content of an order (a file's text), or None."""
    try:
        return (HOME / name).read_text()
    except FileNotFoundError:
        return None


def take(name):
    """Whether an order is there; it is used up: one count of the number in it."""
    left = int(told(name) or 0)
    if left:
        (HOME / name).write_text(str(left - 1))
    return left > 0


def flags(words):
    """{flag: its value} of a command line."""
    found = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            value = words[place + 1] if place + 1 < len(words) else ""
            found[word] = "" if value.startswith("--") else value
    return found


def begin(name):
    note(name, words=sys.argv[1:], cuda=os.environ.get("CUDA_VISIBLE_DEVICES"), path=os.environ.get("PYTHONPATH"))
    return flags(sys.argv[1:])
