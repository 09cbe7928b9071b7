"""The shards and the index file: all of them, or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ta_opd.files import atomic_path

from .records import Prompt


def check_outputs(paths: Sequence[Path], inputs: Sequence[str], force: bool) -> None:
    """Raises ValueError for an output that is there already (without --force), is an input, or has no known suffix."""
    for path in paths:
        if path.suffix not in (".jsonl", ".parquet", ".json"):
            raise ValueError(f"{path}: the output must end in .jsonl or .parquet")
        if path.resolve() in {Path(source).resolve() for source in inputs}:
            raise ValueError(f"{path} is an input, too")
        if path.is_dir() or (path.exists() and not force):
            raise ValueError(f"{path} is there already; --force writes over it")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"two outputs are one file: {', '.join(map(str, paths))}")


def write_shards(shards: Mapping[Path, Sequence[Prompt]], index_path: Path, index: dict[str, Any]) -> None:
    """Each shard as its suffix says; then the index, with the outputs' sizes and sha256 added."""
    with ExitStack() as stack:
        # Left in reverse order: the index becomes visible last.
        index_file = stack.enter_context(atomic_path(index_path))
        outputs = {}
        for path, prompts in shards.items():
            temporary = stack.enter_context(atomic_path(path))
            records = [prompt.record() for prompt in prompts]
            if path.suffix == ".parquet":
                pq.write_table(pa.Table.from_pylist(records), temporary, compression="zstd")
            else:
                lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
                temporary.write_text(lines, encoding="utf-8")
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            outputs[path.name] = {"prompts": len(records), "sha256": digest}
        text = json.dumps({"outputs": outputs} | index, indent=1, ensure_ascii=False, allow_nan=False)
        index_file.write_text(text + "\n", encoding="utf-8")
