"""The runs of a suite: an entry of METHOD_LIST with a seed, and every setting that is its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ta_opd.options import Options
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.client import LONGEST_BACK_OFF

from .environment import Settings
from .kinds import split_list
from .layout import Layout, ports_of, teacher_urls
from .method_files import method_path, read_method
from .method_list import DEFAULT_RATIO, Entry, parse_method_list, ratio_of
from .opd_settings import local_options_of, options_of
from .opd_variables import FOLDERS_OF_THE_RUN, OF_THE_ENGINE, opd_variables, text_of, variable_name
from .pair_files import pair_path
from .paths import absolute
from .variables import PORTS

_RESOLVED_OF_SLIME = (
    *("TEACHER_URLS", "TEACHER_PORTS", "TEACHER_NCCL_PORTS", "TEACHER_REPLICA_GPUS"),
    *("DATA_PARALLEL", "NUM_GPUS_PER_NODE"),
)


@dataclass(frozen=True)
class Run:
    """One training. variables: everything its settings.env holds. options: the library's settings. left_out: those of
    its fields that are no flags of the command that trains."""

    name: str
    entry: Entry
    variables: dict[str, str]
    options: Options
    left_out: tuple[str, ...] = ()


def runs_of(s: Settings, directory: Path, layout: Layout | None) -> Iterator[Run]:
    """s: resolved. directory: SUITE_DIR. layout: None for the embedded engine. Seed by seed, each with all entries."""
    entries = _entries(s)
    methods = {entry.method: read_method(method_path(entry.method)) for entry in entries}
    for seed in split_list(s["SEEDS"]):
        for entry in entries:
            yield _run(s, directory, layout, entry, seed, methods[entry.method])


def _entries(s: Settings) -> list[Entry]:
    ratio = s["OPD_BUDGET_RATIO"]
    default = ratio_of("OPD_BUDGET_RATIO", ratio) if ratio else DEFAULT_RATIO
    entries = parse_method_list(s["METHOD_LIST"], default_ratio=default)
    if ratio and all(entry.own_ratio or entry.mask == "full" for entry in entries):
        raise ValueError(f"OPD_BUDGET_RATIO {ratio} does nothing: no entry of METHOD_LIST is left to take it")
    return entries


def _run(s: Settings, directory: Path, layout: Layout | None, entry: Entry, seed: str, method: dict[str, Any]) -> Run:
    label = s["SEED_LABEL"] or f"seed{seed}"
    name = f"{entry.method}-{entry.ratio}-{label}"
    folder = directory / "runs" / name
    v = dict(s.values) | {
        "SUITE_DIR": str(directory),
        "RUN_NAME": name,
        "RUN_DIR": str(folder),
        "METHOD": entry.method,
        "MASK": entry.mask,
        "RATIO": entry.ratio,
        "INDEX": str(entry.index),
        "SEED": seed,
        "SEED_LABEL": label,
        "ROLLOUT_SEED": s["ROLLOUT_SEED"] or seed,
        "LOG_DIR": str(Path(s["LOG_DIR"]) / s["TAG"] / name) if s["LOG_DIR"] else str(folder / "logs"),
        "SAVE_DEBUG_ROLLOUT_DATA": _debug_data(s["SAVE_DEBUG_ROLLOUT_DATA"], folder),
    }
    v |= _of_the_layout(s, layout, entry)
    given = {x.name: s[x.name] for x in opd_variables() if s.somebody_set(x.name)}
    if layout is None:
        own = {"budget_mask": entry.mask, "budget_ratio": float(entry.ratio)}
        options: Options = local_options_of(method, given, own)
    else:
        options = options_of(method, given, _of_the_run(s, v, given, entry, folder))
    v |= {variable_name(f.name): text_of(getattr(options, f.name)) for f in fields(options)}
    return Run(name, entry, v, options, OF_THE_ENGINE if layout is None else ())


def _of_the_layout(s: Settings, layout: Layout | None, entry: Entry) -> dict[str, str]:
    """Ports, the teacher's addresses, sizes."""
    if layout is None:
        return dict.fromkeys(_RESOLVED_OF_SLIME, "")
    ports = ports_of(s, entry.index)
    started = not s["TEACHER_URL"]
    return {name: str(ports[name][0]) for name in PORTS} | {
        "TEACHER_URLS": teacher_urls(s, ports["TEACHER_PORT"]),
        "TEACHER_PORTS": " ".join(map(str, ports["TEACHER_PORT"])) if started else "",
        "TEACHER_NCCL_PORTS": " ".join(map(str, ports["TEACHER_NCCL_PORT"])) if started else "",
        "TEACHER_REPLICA_GPUS": " ".join(",".join(gpus) for gpus in layout.teacher),
        "ROLLOUT_NUM_GPUS": str(layout.rollout),
        "EVAL_GPUS": ",".join(layout.evaluation),
        "DATA_PARALLEL": str(layout.data_parallel),
        "NUM_GPUS_PER_NODE": "" if layout.machine is None else str(layout.machine),
    }


def _of_the_run(s: Settings, v: dict[str, str], given: dict[str, str], entry: Entry, folder: Path) -> dict[str, Any]:
    """Fields of the library that each run has for itself."""
    bank = str(folder / "token_bank")
    return {field: bank if v[variable_name(field)] == "1" else "" for field in FOLDERS_OF_THE_RUN} | {
        "budget_mask": entry.mask,
        "budget_ratio": float(entry.ratio),
        "budget_mask_seed": int(given.get("OPD_BUDGET_MASK_SEED", v["SEED"])),
        "teacher_attempts": int(given["OPD_TEACHER_ATTEMPTS"]) if "OPD_TEACHER_ATTEMPTS" in given else _attempts(s),
        "token_bank_dir": bank,
        "teacher_url": v["TEACHER_URLS"],
        "teacher_name": given.get("OPD_TEACHER_NAME", _last_part(s["TEACHER_MODEL"])),
        "student_name": given.get("OPD_STUDENT_NAME", _last_part(s["STUDENT_HF"])),
        "token_bank_pair_id": given.get("OPD_TOKEN_BANK_PAIR_ID", pair_path(s["PAIR"]).stem if s["PAIR"] else ""),
    }


def _attempts(s: Settings) -> int:
    """Requests are repeated for as long as a teacher that was started again may take to answer."""
    usual = next(f.default for f in fields(SlimeOptions) if f.name == "teacher_attempts")
    if s["TEACHER_URL"] or s["TEACHER_RESTARTS"] == "0":
        return usual
    return usual + math.ceil(int(s["TEACHER_WAIT"]) / LONGEST_BACK_OFF)


def _last_part(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]


def _debug_data(text: str, folder: Path) -> str:
    if text in ("", "0"):
        return ""
    if text == "1":
        return str(folder / "debug_rollouts" / "{rollout_id}.pt")
    if "{rollout_id}" not in text:
        raise ValueError(f"SAVE_DEBUG_ROLLOUT_DATA {text!r} is not 0, 1 or a path with {{rollout_id}} in it")
    return absolute(text)
