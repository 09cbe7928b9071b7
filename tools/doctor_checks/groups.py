"""The table of checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .disk import check_disk
from .gpus import check_gpus
from .patch import check_patch
from .paths import check_paths
from .ports import check_ports
from .prompts import check_prompts
from .result import Result
from .servers import check_servers
from .settings import Settings
from .tokenizers import check_tokenizers
from .versions import check_versions

GROUPS: dict[str, Callable[[Settings], Iterator[Result]]] = {
    "versions": check_versions,
    "patch": check_patch,
    "gpus": check_gpus,
    "ports": check_ports,
    "disk": check_disk,
    "paths": check_paths,
    "prompts": check_prompts,
    "tokenizers": check_tokenizers,
    "servers": check_servers,
}


def run_groups(names: Iterable[str], settings: Settings) -> Iterator[tuple[str, Result]]:
    """(group, finding) as they come. An exception that no check expects goes through: it is a fault of ours."""
    for name in names:
        for result in GROUPS[name](settings):
            yield name, result
