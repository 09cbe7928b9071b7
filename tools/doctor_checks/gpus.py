"""The GPUs that a run names: there, free, apart from each other, and large enough for the teacher. Asks nvidia-smi."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .model_files import weight_bytes
from .result import Result, failed, passed, skipped, warned
from .settings import Settings

IN_USE = 1024
"""MiB that a GPU may hold before it counts as somebody's."""
_MIB = 2**20
_FIELDS = "index,uuid,name,memory.total,memory.used"


@dataclass(frozen=True)
class Gpu:
    """memory and used in MiB; processes: (pid, name, MiB or None where the driver does not say)."""

    index: str
    uuid: str
    name: str
    memory: int
    used: int
    processes: tuple[tuple[str, str, str], ...] = ()


def check_gpus(settings: Settings) -> Iterator[Result]:
    if settings.static:
        yield skipped("GPUs", "--static looks at none", "run without --static on the machine of the run")
        return
    if settings.local_engine:
        yield skipped("GPUs", "BACKEND=local needs none", "nothing to do")
        return
    try:
        gpus = _query()
    except FileNotFoundError:
        yield failed("GPUs", "no nvidia-smi here", "run on a machine with NVIDIA GPUs, or with --static")
        return
    except RuntimeError as error:
        yield failed("GPUs", f"nvidia-smi: {error}", "nvidia-smi must work: look at the driver, or at the container")
        return
    if not gpus:
        yield failed("GPUs", "nvidia-smi lists none", "give the container its GPUs (docker run --gpus all)")
        return
    names = {f"{gpu.name}, {gpu.memory / 1024:.0f} GiB" for gpu in gpus}
    yield passed("GPUs", f"{len(gpus)} of {'; '.join(sorted(names))}", gpus=len(gpus))
    teacher, ray = settings.words("TEACHER_GPU"), settings.words("RAY_GPUS")
    servers_are_up = bool(settings.urls)
    yield _wanted(settings, "teacher's GPUs", "TEACHER_GPU", gpus, busy_is_fine=servers_are_up)
    yield _wanted(settings, "Ray's GPUs", "RAY_GPUS", gpus, busy_is_fine=bool(settings.text("RAY_ADDRESS")))
    if teacher and ray:
        yield _apart(teacher, ray, gpus)
    known = [_find(name, gpus) for name in teacher]
    if teacher and all(known) and not servers_are_up:
        yield _teacher_fits(settings, known)


def _query() -> list[Gpu]:
    """Raises FileNotFoundError without nvidia-smi, RuntimeError with its words where it fails."""
    processes = _ask("--query-compute-apps=gpu_uuid,pid,process_name,used_memory")
    gpus = []
    for index, uuid, name, memory, used in _ask(f"--query-gpu={_FIELDS}"):
        mine = tuple((pid, program, mib) for at, pid, program, mib in processes if at == uuid)
        gpus.append(Gpu(index, uuid, name, int(memory), int(used), mine))
    return gpus


def _ask(query: str) -> list[list[str]]:
    done = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        raise RuntimeError((done.stdout + done.stderr).strip()[:200] or f"exit code {done.returncode}")
    return [line.split(", ") for line in done.stdout.splitlines() if line.strip()]


def _find(name: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """By index, or by UUID and what is unambiguous of it, as CUDA_VISIBLE_DEVICES takes them."""
    found = [gpu for gpu in gpus if name == gpu.index or (name.startswith("GPU-") and gpu.uuid.startswith(name))]
    return found[0] if len(found) == 1 else None


def _wanted(settings: Settings, check: str, variable: str, gpus: Sequence[Gpu], busy_is_fine: bool) -> Result:
    names = settings.words(variable)
    if not names:
        return settings.unset(check, variable)
    slices = [name for name in names if name.startswith("MIG-")]
    if slices:
        fix = "see nvidia-smi that it is there and free"
        return warned(check, f"{', '.join(slices)}: a slice of a GPU, which is not looked at", fix)
    found = [_find(name, gpus) for name in names]
    missing = [name for name, gpu in zip(names, found, strict=True) if gpu is None]
    if missing:
        there = ", ".join(gpu.index for gpu in gpus)
        return failed(check, f"{variable} names {', '.join(missing)}; there are {there}", f"correct {variable}")
    if len(set(found)) < len(found):
        return failed(check, f"{variable} names a GPU twice: {','.join(names)}", f"correct {variable}")
    used = [gpu for gpu in found if gpu.used > IN_USE]
    if used and not busy_is_fine:
        fix = "wait for it, end it if it is yours, or take other GPUs"
        return failed(check, "; ".join(map(_holders, used)), fix)
    return passed(
        check, f"{', '.join(gpu.index for gpu in found)}" + ("; in use, as it should be" if used else ", free")
    )


def _holders(gpu: Gpu) -> str:
    held = f"GPU {gpu.index} has {gpu.used:,} of {gpu.memory:,} MiB in use"
    if not gpu.processes:
        return f"{held}, by whom the driver does not say (another container?)"
    return f"{held} by " + ", ".join(f"pid {pid} {program} ({mib} MiB)" for pid, program, mib in gpu.processes)


def _apart(teacher: Sequence[str], ray: Sequence[str], gpus: Sequence[Gpu]) -> Result:
    both = {_find(name, gpus) or name for name in teacher} & {_find(name, gpus) or name for name in ray}
    if both:
        names = ", ".join(sorted(gpu.index if isinstance(gpu, Gpu) else gpu for gpu in both))
        return failed("GPU sets", f"teacher and Ray share GPU {names}", "make TEACHER_GPU and RAY_GPUS disjoint")
    return passed("GPU sets", "teacher and Ray are apart")


def _teacher_fits(settings: Settings, gpus: Sequence[Gpu]) -> Result:
    check, path, tp = "teacher's memory", settings.model("TEACHER_MODEL"), settings.number("TEACHER_TP")
    need, wanted = weight_bytes(path) if path else None, tp * settings.number("TEACHER_REPLICAS")
    if len(gpus) != wanted:
        fix = "TEACHER_GPU must name TEACHER_TP x TEACHER_REPLICAS GPUs"
        return failed(check, f"{len(gpus)} GPUs for {wanted // tp} teachers of {tp}", fix)
    if not need:
        return skipped(check, "TEACHER_MODEL has no weights here to count", "name a local directory")
    share = float(settings.text("TEACHER_MEM_FRACTION") or 1)
    room = min(gpu.memory for gpu in gpus) * _MIB * share
    found = f"weights {need / tp / 2**30:.1f} GiB a GPU of {room / 2**30:.1f} GiB" + (
        f" ({share:g} of it)" if share < 1 else ""
    )
    fix = "raise TEACHER_TP or TEACHER_MEM_FRACTION, or take a smaller teacher"
    if need / tp > room:
        return failed(check, found, fix)
    if need / tp > 0.85 * room:
        return warned(check, f"{found}; little is left for its cache and the log-probs' logits", fix)
    return passed(check, found)
