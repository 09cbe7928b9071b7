"""Which prompts are held out: by their content alone, never by their place in the file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

TRAIN, HELD_OUT = "train", "held_out"


def parse_held_out(text: str) -> int | Fraction:
    """A whole number of prompts, or a share of them between 0 and 1 such as 0.05. Raises ValueError."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"--held-out {text!r} is neither a number of prompts nor a share between 0 and 1") from error
    if value >= 1 and re.fullmatch("[0-9]+", text.strip()):
        return int(value)
    if 0 < value < 1:
        return value
    raise ValueError(
        f"--held-out {text} is neither a number of prompts, 1 or more without a point, nor a share above 0 and below 1"
    )


def held_out_hashes(
    hashes: Sequence[str], wanted: int | Fraction | None, seed: int, kept: Iterable[str] = ()
) -> set[str]:
    """The content hashes that are held out, of distinct `hashes`.

    A share decides about every prompt by itself: nothing that is appended moves one to the other side. A number takes
    the lowest keys of all, so appended prompts may push others out; `kept`, an earlier choice, stays held out and
    counts. Raises ValueError where nothing would be left to train on.
    """
    chosen = set(kept) & set(hashes)
    if isinstance(wanted, Fraction):
        chosen |= {each for each in hashes if Fraction(_key(each, seed), 1 << 256) < wanted}
    elif wanted is not None:
        others = sorted((each for each in hashes if each not in chosen), key=lambda each: _key(each, seed))
        chosen |= set(others[: max(0, wanted - len(chosen))])
        if wanted > len(hashes):
            raise ValueError(f"--held-out {wanted} is more than the {len(hashes)} prompts that are left")
    if wanted is not None and not chosen:
        raise ValueError(f"--held-out {wanted} of {len(hashes)} prompts holds none out")
    if len(chosen) == len(hashes):
        raise ValueError(f"--held-out {wanted} of {len(hashes)} prompts leaves none to train on")
    return chosen


def _key(content_hash: str, seed: int) -> int:
    """Uniform in 0..2^256 - 1, of the prompt and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{content_hash}".encode()).digest(), "big")


def held_out_before(index: Path) -> set[str]:
    """The content hashes that an earlier index file has held out. Raises ValueError."""
    try:
        prompts = json.loads(index.read_text(encoding="utf-8"))["prompts"]
        return {prompt["hash"] for prompt in prompts if prompt["shard"] == HELD_OUT}
    except OSError as error:
        raise ValueError(f"--keep-held-out {index}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--keep-held-out {index}: no index file of prepare_prompts.py ({error!r})") from error
