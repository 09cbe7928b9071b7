"""Whether the ports of every run can be listened on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from run_plan.variables import PORTS, REPLICATED_PORTS

from .result import Result, failed, passed, skipped, warned
from .settings import Settings

REPLICA_STEP = 500
"""Between the ports of one teacher and the next."""
_HERE = ("127.0.0.1", "localhost", "0.0.0.0", "::1")


def check_ports(settings: Settings) -> Iterator[Result]:
    if settings.local_engine:
        yield skipped("ports", "BACKEND=local opens none", "nothing to do")
        return
    indices = [0] if settings.planned_run else _indices(settings)
    if isinstance(indices, Result):
        yield indices
        return
    held = {urlsplit(url).port for url in settings.urls if urlsplit(url).hostname in _HERE}
    wanted = _wanted(settings, indices)
    for name in PORTS:
        ports = sorted({port for port, names in wanted.items() if name in names} - held)
        if name in REPLICATED_PORTS and settings.urls:
            yield skipped(name, "the teachers are running", "nothing to do")
        elif name not in REPLICATED_PORTS and settings.text("RAY_ADDRESS"):
            yield skipped(name, "RAY_ADDRESS names a running cluster", "nothing to do")
        else:
            yield _free(settings, name, ports)
    shared = {port: names for port, names in wanted.items() if len(names) > 1}
    if shared:
        port, names = next(iter(shared.items()))
        yield failed(
            "port plan", f"{port} is both {' and '.join(sorted(names))}", "spread the indices or the base ports"
        )


def _indices(settings: Settings) -> list[int] | Result:
    """The third field of each entry, 10 more than the last where it has none."""
    found: list[int] = []
    for entry in settings.words("METHOD_LIST"):
        fields = entry.split(":")
        if len(fields) > 2 and not fields[2].isdigit():
            return failed("port plan", f"METHOD_LIST: {entry!r} has no whole number as index", "method:ratio:index")
        found.append(int(fields[2]) if len(fields) > 2 else 10 * (len(found) + 1))
    return found


def _wanted(settings: Settings, indices: list[int]) -> dict[int, set[str]]:
    """port -> the names that want it, within one run; runs follow one another and may share."""
    wanted: dict[int, set[str]] = {}
    for index in indices:
        own: dict[int, set[str]] = {}
        for name in PORTS:
            replicas = settings.number("TEACHER_REPLICAS") if name in REPLICATED_PORTS else 1
            for replica in range(replicas):
                own.setdefault(settings.number(name) + index + REPLICA_STEP * replica, set()).add(name)
        for port, names in own.items():
            if len(names) > 1 or port not in wanted:
                wanted[port] = names
            elif len(wanted[port]) == 1:
                wanted[port] = wanted[port] if wanted[port] == names else names
    return wanted


def _free(settings: Settings, name: str, ports: list[int]) -> Result:
    told = ", ".join(map(str, ports))
    beyond = [port for port in ports if port > 65535]
    if beyond:
        return failed(name, f"{beyond[0]} is above 65535", f"lower {name} or the index")
    taken = [port for port in ports if not _can_listen(port)]
    if taken:
        fix = f"see who listens (ss -ltnp 'sport = :{taken[0]}'), or move {name} or the index"
        # A container's health is looked at while its own run holds them.
        answer_with = warned if settings.static else failed
        return answer_with(name, f"taken: {', '.join(map(str, taken))}", fix)
    passing = [port for port in ports if port in _lent_out()]
    if passing:
        fix = f"a port below {_lent_out().start}, or net.ipv4.ip_local_reserved_ports"
        return warned(name, f"{told} free; {passing[0]} is one the system lends to outgoing connections", fix)
    return passed(name, f"{told} free")


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the servers do: the last run's closed ones count not
        try:
            probe.bind(("", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _lent_out() -> range:
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    except FileNotFoundError:
        return range(0)
    return range(low, high + 1)
