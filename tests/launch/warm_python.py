"""A Python that has torch imported: runs our short commands as the launchers call them, without three seconds of
imports each.

`python warm_python.py serve SOCKET` imports once and forks a process for every command; what the launchers get as
PYTHON hands over its arguments, environment, directory and standard streams, and ends with the command's exit code.
Whatever is none of our short commands is run by the real Python.
"""

import contextlib
import importlib
import json
import os
import runpy
import socket
import sys
import threading
from pathlib import Path

SHIM = """#!{python} -IS
import array, json, os, socket, sys
words = sys.argv[1:]
ours = words[:2] == ["-m", "run_plan"] or (words and words[0].startswith({tools!r}))
if not ours:
    os.execv({python!r}, [{python!r}, *words])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = json.dumps([words, dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [len(call).to_bytes(8, "big")], [0, 1, 2])
server.sendall(call)
code = server.recv(1)
os._exit(code[0] if code else 137)
"""


def serve(address):
    for name in ("ta_opd.slime_options", "pyarrow.parquet", "pyarrow.compute", "yaml"):
        importlib.import_module(name)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        call, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _attend(call)
        call.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _attend(call):
    """In the forked process: become the command, in a child whose exit code is told."""
    size, streams, _, _ = socket.recv_fds(call, 8, 3)
    size, data = int.from_bytes(size, "big"), b""
    while len(data) < size:
        data += call.recv(size - len(data))
    words, environment, directory = json.loads(data)
    child = os.fork()
    if child == 0:
        call.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # An exception of the command ends this process as it would end Python: with its traceback and 1.
        os._exit(_run(words, environment, directory))
    # The command ends with the process that stands for it.
    threading.Thread(target=_end_with, args=(call, child), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        call.sendall(bytes([code & 255]))
    os._exit(0)


def _end_with(call, child):
    with contextlib.suppress(OSError):
        if call.recv(1) == b"":
            os.kill(child, 9)


def _run(words, environment, directory):
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    here = [path for path in environment.get("PYTHONPATH", "").split(":") if path]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            sys.path[:0] = [directory, *here]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path[:0] = [str(Path(words[0]).parent), *here]
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[2])
