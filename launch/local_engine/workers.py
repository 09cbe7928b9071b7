"""Jobs side by side, each in a process of its own with one thread.

The parent hands out jobs and gets a message after every step. Workers end with their parent, so that a
killed run leaves nobody who writes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

Work = Callable[[Any], Iterator[dict[str, Any]]]
_SECONDS_BETWEEN_LOOKS = 0.5
_PR_SET_PDEATHSIG = 1


def side_by_side(
    jobs: Sequence[Any], count: int, setup: Callable[..., Work], arguments: tuple
) -> Iterator[dict[str, Any]]:
    """What every step of every job yields, as it comes, from `count` processes; count 1 works in this one.

    setup(*arguments) is called once in each process and returns what does a job. One thread each: at this size a
    second one gains nothing, and the numbers must not depend on how many jobs run at a time. Ends the processes when
    it is closed early. Raises a job's FloatingPointError, and RuntimeError when a process dies; its own message is
    on standard error.
    """
    if count == 1:
        torch.set_num_threads(1)
        work = setup(*arguments)
        for job in jobs:
            yield from work(job)
        return
    context = multiprocessing.get_context("spawn")
    waiting, messages = context.Queue(), context.Queue()
    for job in (*jobs, *[None] * count):
        waiting.put(job)
    serve = (setup, arguments, waiting, messages, os.getpid())
    processes = [context.Process(target=_serve, args=serve, daemon=True) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        left = len(jobs)
        while left:
            try:
                row = messages.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                died = [process.exitcode for process in processes if process.exitcode not in (None, 0)]
                if died:
                    raise RuntimeError(f"a worker process ended with exit code {died[0]}") from None
                continue
            if isinstance(row, FloatingPointError):
                raise row
            if row is None:
                left -= 1
            else:
                yield row
        for process in processes:
            process.join()
    finally:
        waiting.cancel_join_thread()
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _serve(setup, arguments, waiting, messages, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_the_parent(parent)
    torch.set_num_threads(1)
    work = setup(*arguments)
    while (job := waiting.get()) is not None:
        try:
            for row in work(job):
                _end_with_the_parent(parent)
                messages.put(row)
        except FloatingPointError as error:
            messages.put(error)
            return
        messages.put(None)


def _end_with_the_parent(parent: int) -> None:
    """On Linux the kernel ends this process at once when its parent dies; elsewhere it ends here, after its step."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
