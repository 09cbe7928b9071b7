"""How many GPUs each machine gives to Ray, and whether training and sampling fit on them as slime spreads them."""

from __future__ import annotations

from .environment import Settings


def gpus_of_a_machine(s: Settings, here: int, training: int, rollout: int) -> int | None:
    """slime's --num-gpus-per-node, by which it tells which sampling engines share a machine; None: slime's own default.

    here: GPUs of RAY_GPUS. training, rollout: GPUs needed in all, the same ones where colocated. Raises ValueError
    where the machines have too few, differ, or would split an engine. Of a running cluster only WORKER_NUM_GPUS is
    known, and colocation shows that a machine has ACTOR_NUM_GPUS_PER_NODE.
    """
    per_node, colocated = s.number("ACTOR_NUM_GPUS_PER_NODE"), s.is_on("COLOCATE")
    if s["RAY_ADDRESS"]:
        if not s.somebody_set("WORKER_NUM_GPUS"):
            return per_node if colocated else None
        _check_one(s, "WORKER_NUM_GPUS", s.number("WORKER_NUM_GPUS"))
        return s.number("WORKER_NUM_GPUS")
    if s["ACTOR_NUM_NODES"] == "1":
        _check_sum(s, here, "", rollout, training if colocated else training + rollout)
        return per_node if colocated else here
    machine = s.number("WORKER_NUM_GPUS")
    _check_one(s, "RAY_GPUS", here)
    _check_one(s, "WORKER_NUM_GPUS", machine)
    if here != machine:
        raise ValueError(
            f"RAY_GPUS {s['RAY_GPUS']!r} are {here} GPUs, and WORKER_NUM_GPUS {machine} on each other machine: slime "
            "places sampling engines as if all machines had as many"
        )
    needed = training if colocated else training + rollout
    others = f" and {s.number('ACTOR_NUM_NODES') - 1} x WORKER_NUM_GPUS {machine} on other machines"
    _check_sum(s, here + (s.number("ACTOR_NUM_NODES") - 1) * machine, others, rollout, needed)
    _check_engines(s, machine, 0 if colocated else training, rollout)
    return machine


def _check_one(s: Settings, name: str, gpus: int) -> None:
    if gpus < s.number("ACTOR_NUM_GPUS_PER_NODE"):
        raise ValueError(
            f"{name} {s[name]!r}: a machine with {gpus} GPUs has fewer than ACTOR_NUM_GPUS_PER_NODE "
            f"{s['ACTOR_NUM_GPUS_PER_NODE']}"
        )


def _check_sum(s: Settings, there: int, others: str, rollout: int, needed: int) -> None:
    if needed <= there:
        return
    several = s["ACTOR_NUM_NODES"] != "1"
    parts = f"ACTOR_NUM_NODES {s['ACTOR_NUM_NODES']} x " if several else ""
    parts += f"ACTOR_NUM_GPUS_PER_NODE {s['ACTOR_NUM_GPUS_PER_NODE']}"
    parts += "" if s.is_on("COLOCATE") else f" + ROLLOUT_NUM_GPUS {rollout}"
    raise ValueError(f"RAY_GPUS {s['RAY_GPUS']!r}{others} are {there} GPUs, and {parts} need {needed}")


def _check_engines(s: Settings, machine: int, before: int, rollout: int) -> None:
    """before: GPUs that come before those that sample. slime counts engines from the first one that samples, so many a
    machine, and takes their addresses from the first of each machine."""
    first, engine = before % machine, s.number("ROLLOUT_NUM_GPUS_PER_ENGINE")
    if first + rollout <= machine:
        return
    if machine % engine and engine % machine:
        raise ValueError(
            f"ROLLOUT_NUM_GPUS_PER_ENGINE {engine} with {machine} GPUs a machine: sampling over several machines needs "
            "engines that fill them"
        )
    if first or rollout % machine:
        raise ValueError(
            f"ROLLOUT_NUM_GPUS {rollout} after {before} GPUs that train, with {machine} GPUs a machine: sampling over "
            "several machines needs whole ones"
        )
