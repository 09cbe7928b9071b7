"""Method YAMLs and pair files held to the table of variables."""

from __future__ import annotations

from pathlib import Path

from .environment import all_variables, read_pair_settings
from .method_files import read_method


def faults(path: Path) -> list[str]:
    """What is wrong with a file, a line each; nothing where it is right."""
    readers = {".yaml": read_method, ".yml": read_method, ".sh": lambda path: read_pair_settings(path, all_variables())}
    if path.suffix not in readers:
        return [f"{path} is neither a method's .yaml nor a pair's .sh"]
    if not path.is_file():
        return [f"{path}: there is no such file"]
    try:
        readers[path.suffix](path)
    except ValueError as error:
        return [str(error)]
    return []
