"""What a run will take, as text: GPUs, ports, tokens, traffic, memory, files; every number with what it assumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ta_opd.slime_options import SlimeOptions

from .estimate_files import file_rows
from .estimate_memory import other_memory_rows, training_rows
from .estimate_traffic import traffic_rows
from .opd_variables import field_values_of
from .variables import PORTS


def estimate_text(v: Mapping[str, str]) -> str:
    """v: a run's variables, as `prepare` wrote them."""
    if v["BACKEND"] == "local":
        return f"{v['RUN_NAME']}: the embedded engine, on this machine's CPU; nothing is estimated\n"
    options = SlimeOptions(**field_values_of(v))
    parts = (
        ("GPUs", _gpus(v)),
        ("ports", _ports(v)),
        ("tokens", _tokens(v)),
        ("teacher traffic, a rollout", traffic_rows(v, options)),
        ("memory of training, the fullest GPU", training_rows(v, options)),
        ("memory elsewhere", other_memory_rows(v, options)),
        ("files", file_rows(v, options)),
    )
    lines = [v["RUN_NAME"]]
    for title, rows in parts:
        lines.append(f"  {title}")
        lines += [f"    {row}" for row in rows]
    return "\n".join(lines) + "\n"


def _gpus(v: Mapping[str, str]) -> Iterator[str]:
    if v["TEACHER_URL"]:
        yield f"teacher: running at {v['TEACHER_URLS']}"
    for replica, gpus in enumerate(v["TEACHER_REPLICA_GPUS"].split()):
        yield f"teacher {replica}: {gpus}"
    nodes, per_node = int(v["ACTOR_NUM_NODES"]), int(v["ACTOR_NUM_GPUS_PER_NODE"])
    if v["RAY_ADDRESS"]:
        yield f"Ray: the cluster at {v['RAY_ADDRESS']}; its GPUs are not known here"
    else:
        head = f"{v['RAY_NODE_IP']}:{v['RAY_PORT']}"
        others = f", and those of {nodes - 1} more machines that join {head}" if nodes > 1 else ""
        yield f"Ray: {v['RAY_GPUS']} of this machine{others}"
    sizes = f"data {v['DATA_PARALLEL']} x tensor {v['TENSOR_PARALLEL']}"
    sizes += f" x pipeline {v['PIPELINE_PARALLEL']} x context {v['CONTEXT_PARALLEL']}"
    yield f"training: {nodes} x {per_node} (machines x GPUs) = {sizes}"
    where = "those that train, in turn" if v["COLOCATE"] == "1" else "not those that train"
    yield f"sampling: {v['ROLLOUT_NUM_GPUS']}, {v['ROLLOUT_NUM_GPUS_PER_ENGINE']} an engine, {where}"


def _ports(v: Mapping[str, str]) -> Iterator[str]:
    several = {"TEACHER_PORT": v["TEACHER_PORTS"], "TEACHER_NCCL_PORT": v["TEACHER_NCCL_PORTS"]}
    for name in PORTS:
        if not (name.startswith("RAY_") and v["RAY_ADDRESS"]) and several.get(name, v[name]):
            yield f"{name} {several.get(name, v[name])}"


def _tokens(v: Mapping[str, str]) -> Iterator[str]:
    prompts, each = int(v["ROLLOUT_BATCH_SIZE"]), int(v["N_SAMPLES_PER_PROMPT"])
    longest, rollouts = int(v["ROLLOUT_MAX_RESPONSE_LEN"]), int(v["NUM_ROLLOUT"])
    tokens, steps = prompts * each * longest, prompts * each // int(v["GLOBAL_BATCH_SIZE"])
    yield f"a rollout: {prompts:,} prompts x {each:,} samples x at most {longest:,} = {tokens:,} response tokens"
    yield f"a rollout: {steps:,} optimizer steps of {int(v['GLOBAL_BATCH_SIZE']):,} samples"
    yield f"the run: {rollouts:,} rollouts, {rollouts * steps:,} steps, at most {rollouts * tokens:,} response tokens"
    yield f"distilled: {v['RATIO']} of them; all are sampled, scored by the teacher and run through the student"
