"""Shards of small models in threads: their operators are too short to be split over the cores of a processor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

SMALL_MODEL = 50_000_000
"""Parameters; a batch of such a model takes a second or so, the time that an interrupted run waits for its threads."""

_MOST_WORKERS = 4


def workers_of(device: str, parameters: int) -> int:
    """How many shards at a time: on a processor as many as torch has threads, of a small model; otherwise one."""
    if device != "cpu" or parameters > SMALL_MODEL:
        return 1
    return min(torch.get_num_threads(), _MOST_WORKERS)


def side_by_side(work: Callable[[int], int], numbers: Iterable[int], workers: int) -> Iterator[int]:
    """What work(number) returns for each number, in order. With several workers each has one thread of torch's; where
    one raises, or the iterator is closed, the numbers that were not begun are left out."""
    if workers == 1:
        yield from map(work, numbers)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, numbers)
    finally:
        torch.set_num_threads(threads)
