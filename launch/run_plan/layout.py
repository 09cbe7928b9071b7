"""Which GPU does what, which port is whose: worked out from the settings and checked."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .environment import Settings
from .kinds import split_list
from .machines import gpus_of_a_machine
from .variables import PORTS, REPLICATED_PORTS

REPLICA_PORT_STEP = 500
HIGHEST_PORT = 65535
_LOOPBACK = ("127.", "localhost", "::1", "0.0.0.0")


@dataclass(frozen=True)
class Layout:
    """teacher: the GPUs of each replica started here, none for running teachers. ray: those our Ray head sees, none on
    a running cluster. training, rollout: GPUs needed on all machines together, the same ones where colocated.
    data_parallel: copies of the student that train. machine: GPUs of each machine, None where they are not known."""

    teacher: tuple[tuple[str, ...], ...]
    ray: tuple[str, ...]
    evaluation: tuple[str, ...]
    training: int
    rollout: int
    colocated: bool
    data_parallel: int
    machine: int | None


def teacher_layout(s: Settings) -> Layout:
    """Of teachers that are started alone."""
    return Layout(_replicas(s, tuple(split_list(s["TEACHER_GPU"]))), (), (), 0, 0, False, 0, None)


def layout_of(s: Settings) -> Layout:
    """Raises ValueError for GPU sets that overlap or do not suffice, and for parallel sizes that do not divide."""
    teacher, ray = tuple(split_list(s["TEACHER_GPU"])), tuple(split_list(s["RAY_GPUS"]))
    if s["TEACHER_URL"]:
        teacher = ()
    if s["RAY_ADDRESS"]:
        ray = ()
    _check_overlap(teacher, ray)
    training = s.number("ACTOR_NUM_NODES") * s.number("ACTOR_NUM_GPUS_PER_NODE")
    colocated = s.is_on("COLOCATE")
    rollout = _rollout_gpus(s, training, colocated)
    machine = gpus_of_a_machine(s, len(ray), training, rollout)
    evaluation = tuple(split_list(s["EVAL_GPUS"])) or ray
    copies = _data_parallel(s, training)
    return Layout(_replicas(s, teacher), ray, evaluation, training, rollout, colocated, copies, machine)


def _check_overlap(teacher: tuple[str, ...], ray: tuple[str, ...]) -> None:
    """By name: whether a UUID of the teacher's is one of Ray's numbers cannot be told here."""
    shared = [gpu for gpu in teacher if gpu in ray]
    if shared:
        raise ValueError(
            f"TEACHER_GPU {','.join(teacher)!r} and RAY_GPUS {','.join(ray)!r} share GPU {', '.join(shared)}: the "
            "teacher must be out of Ray's sight"
        )


def _replicas(s: Settings, gpus: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    if s["TEACHER_URL"]:
        return ()
    replicas, size = s.number("TEACHER_REPLICAS"), s.number("TEACHER_TP")
    if len(gpus) != replicas * size:
        raise ValueError(
            f"TEACHER_GPU {','.join(gpus)!r} names {len(gpus)} GPUs, and TEACHER_REPLICAS {replicas} x TEACHER_TP "
            f"{size} need {replicas * size}"
        )
    return tuple(gpus[r * size : (r + 1) * size] for r in range(replicas))


def _rollout_gpus(s: Settings, training: int, colocated: bool) -> int:
    given, engine = s.number("ROLLOUT_NUM_GPUS"), s.number("ROLLOUT_NUM_GPUS_PER_ENGINE")
    if colocated and "ROLLOUT_NUM_GPUS" in s.given and given != training:
        raise ValueError(f"ROLLOUT_NUM_GPUS {given} with COLOCATE=1: all {training} GPUs that train also sample")
    rollout = training if colocated else given
    if rollout % engine:
        raise ValueError(f"ROLLOUT_NUM_GPUS {rollout} is not a multiple of ROLLOUT_NUM_GPUS_PER_ENGINE {engine}")
    return rollout


def _data_parallel(s: Settings, training: int) -> int:
    model = s.number("TENSOR_PARALLEL") * s.number("PIPELINE_PARALLEL") * s.number("CONTEXT_PARALLEL")
    if training % model:
        raise ValueError(
            f"TENSOR_PARALLEL x PIPELINE_PARALLEL x CONTEXT_PARALLEL is {model}, which does not divide the {training} "
            "GPUs that train (ACTOR_NUM_NODES x ACTOR_NUM_GPUS_PER_NODE)"
        )
    copies = training // model
    step = s.number("MICRO_BATCH_SIZE") * copies
    if s.number("GLOBAL_BATCH_SIZE") % step:
        raise ValueError(
            f"GLOBAL_BATCH_SIZE {s['GLOBAL_BATCH_SIZE']} is not a multiple of MICRO_BATCH_SIZE {s['MICRO_BATCH_SIZE']} "
            f"x {copies} data-parallel copies, which Megatron needs"
        )
    samples = s.number("ROLLOUT_BATCH_SIZE") * s.number("N_SAMPLES_PER_PROMPT")
    if samples % s.number("GLOBAL_BATCH_SIZE"):
        raise ValueError(
            f"GLOBAL_BATCH_SIZE {s['GLOBAL_BATCH_SIZE']} does not divide ROLLOUT_BATCH_SIZE x N_SAMPLES_PER_PROMPT = "
            f"{samples}: samples would be left over"
        )
    return copies


def check_teacher_context(s: Settings) -> None:
    """Raises ValueError where the teacher would refuse a run's longest sample."""
    longest = int(s["ROLLOUT_MAX_PROMPT_LEN"] or 0) + s.number("ROLLOUT_MAX_RESPONSE_LEN")
    if s["TEACHER_CONTEXT_LENGTH"] and s.number("TEACHER_CONTEXT_LENGTH") < longest:
        raise ValueError(
            f"TEACHER_CONTEXT_LENGTH {s['TEACHER_CONTEXT_LENGTH']} is less than {longest} tokens, the longest sample "
            "(ROLLOUT_MAX_PROMPT_LEN + ROLLOUT_MAX_RESPONSE_LEN)"
        )


def ports_of(s: Settings, index: int) -> dict[str, tuple[int, ...]]:
    """The nine ports of a run, base + index; the teacher's two once a replica, 500 apart.

    Raises ValueError for a port above 65535 and for one that two of them would share.
    """
    owner: dict[int, str] = {}
    ports: dict[str, tuple[int, ...]] = {}
    for name in PORTS:
        started = s.number("TEACHER_REPLICAS") if name in REPLICATED_PORTS and not s["TEACHER_URL"] else 1
        base = s.number(name) + index
        ports[name] = tuple(base + REPLICA_PORT_STEP * replica for replica in range(started))
        for replica, port in enumerate(ports[name]):
            where = f"{name} {s[name]} + index {index}" + (f" + {REPLICA_PORT_STEP * replica}" if replica else "")
            if port > HIGHEST_PORT:
                raise ValueError(f"{where} is port {port}, above {HIGHEST_PORT}")
            if port in owner:
                raise ValueError(f"{where} is port {port}, which is also {owner[port]}")
            owner[port] = where
    return ports


def teacher_urls(s: Settings, ports: tuple[int, ...]) -> str:
    """/generate URLs, comma-separated: of the running teachers, or of those that will be started.

    Raises ValueError for a URL that is none, and for a teacher that other machines could not reach.
    """
    if s["TEACHER_URL"]:
        return ",".join(_generate(url) for url in split_list(s["TEACHER_URL"]))
    host = s["TEACHER_HOST"]
    if _is_loopback(host):
        elsewhere = s["RAY_ADDRESS"] and not _is_loopback(urlsplit(s["RAY_ADDRESS"]).hostname or "")
        several = s.number("ACTOR_NUM_NODES") > 1
        if several or elsewhere:
            name = "ACTOR_NUM_NODES" if several else "RAY_ADDRESS"
            raise ValueError(
                f"TEACHER_HOST {host!r} with {name} {s[name]}: other machines cannot reach it; give this machine's "
                "address"
            )
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return ",".join(f"http://{host}:{port}/generate" for port in ports)


def check_ray_address(s: Settings) -> None:
    """Raises ValueError unless RAY_ADDRESS is a dashboard's URL, and for an own head that others could not join."""
    address, nodes = s["RAY_ADDRESS"], s["ACTOR_NUM_NODES"]
    if address and not _is_url(address):
        raise ValueError(
            f"RAY_ADDRESS {address!r} is not http://HOST:PORT of Ray's dashboard, where jobs are submitted"
        )
    if not address and s.number("ACTOR_NUM_NODES") > 1 and _is_loopback(s["RAY_NODE_IP"]):
        raise ValueError(
            f"RAY_NODE_IP {s['RAY_NODE_IP']!r} with ACTOR_NUM_NODES {nodes}: other machines cannot join it; give this "
            "machine's address"
        )


def _is_loopback(host: str) -> bool:
    return host.strip("[]").startswith(_LOOPBACK)


def _generate(url: str) -> str:
    if not _is_url(url):
        raise ValueError(f"TEACHER_URL: {url!r} is not http://HOST:PORT")
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/generate"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        return False
