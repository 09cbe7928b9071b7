"""Ports for servers that bind them a minute later, when their imports are done."""

import random
import socket

# Above Ray's workers (10002 to 19999); with SGLang's second one, 10,000 higher, below the ports that the system hands
# out (32768 on): one of those may be somebody's outgoing connection by the time it is bound.
PORTS = range(20_000, 22_700)
_ORDER = iter(random.Random().sample(PORTS, len(PORTS)))


def free_port() -> int:
    """One that nobody listens on, never the same again; test runs side by side hardly meet."""
    while True:
        port = next(_ORDER)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
