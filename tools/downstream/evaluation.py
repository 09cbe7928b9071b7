"""Benchmarks one after another, each in a folder of its own; the table is rewritten after each."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from .benchmarks import Benchmark
from .harness import Harness
from .results import Row, as_csv, as_json, read_rows, results_file

FINISHED = "finished.json"


def evaluate(harness: Harness, benchmarks: list[Benchmark], output: Path, version: str, force: bool) -> bool:
    """Runs what has not been run yet, writes OUTPUT/downstream.json and .csv; whether every benchmark has a result."""
    output.mkdir(parents=True, exist_ok=True)
    about = {"model": str(harness.model), "backend": harness.backend, "harness": f"lm_eval {version}"}
    rows: list[Row] = []
    failed: list[dict] = []
    for benchmark in benchmarks:
        folder = output / benchmark.name.replace(":", "-")
        words = harness.command(benchmark, folder / "harness")
        identity = {"command": words, "harness": version, "model": model_files(harness.model)}
        try:
            if force or not finished(folder, identity):
                run(words, folder, identity)
            rows += read_rows(
                results_file(folder / "harness"), benchmark, f"lm_eval {version}", harness.seed, shlex.join(words)
            )
        except ValueError as error:
            failed.append({"task": benchmark.name, "why": str(error)})
            print(f"{benchmark.name} failed: {error}", file=sys.stderr)
        write(output / "downstream.json", as_json(about, rows, failed))
        write(output / "downstream.csv", as_csv(rows))
    return not failed


def model_files(model: Path) -> list[list]:
    """Name, bytes and time of each file: a model that was replaced is evaluated anew."""
    stats = [(path.name, path.stat()) for path in sorted(model.iterdir()) if path.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def finished(folder: Path, identity: dict) -> bool:
    path = folder / FINISHED
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == identity


def run(words: list[str], folder: Path, identity: dict) -> None:
    """The harness in an emptied folder, its output passed on. Raises ValueError when it fails."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    done = subprocess.run(words, check=False)
    if done.returncode:
        raise ValueError(f"the harness ended with exit code {done.returncode}: {shlex.join(words)}")
    results_file(folder / "harness")
    write(folder / FINISHED, json.dumps(identity))


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
