"""Row statistics, entry sums and gradients of logits in torch, on any device, a few rows at a time.

Axes: N rows of logits, n of them read, V' local columns of which the first `columns` are valid; the others' content is
never read. triton_kernels offers the same three functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..row_plan import Divergence
from .block import STATISTICS, RowBlock
from .chunks import block_size, row_blocks


def statistics(
    s: Tensor,
    t: Tensor | None,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    token_columns: Tensor | None,
    rows: Tensor | None = None,
) -> Tensor:
    """float32 [n, 12], the columns of block.STATISTICS, of this shard alone.

    token_columns: int64 [n], the sampled token's local column, -1 where it is another shard's (its label is then 0).
    lowest: the least log-prob of either side by the local sums; -inf where a logit is -inf.
    """
    n = len(s) if rows is None else len(rows)
    out = torch.empty(n, STATISTICS, device=s.device)
    for place, where in row_blocks(rows, n, block_size(s)):
        block = RowBlock(
            s[where], None if t is None else t[where], columns=columns, temperature=temperature, taid_t=taid_t
        )
        out[place] = block.statistics_with_impossible(None if token_columns is None else token_columns[place])
    return out


def entry_sums(
    s: Tensor,
    t: Tensor,
    normalisers: Tensor,
    divergence: Divergence,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    taid_space: str,
    rows: Tensor | None = None,
) -> Tensor:
    """float32 [n, 3]: this shard's sum of entries e, of slopes u, and of the cross-entropy H(Q, S).

    normalisers: [n, 3], log-sum-exps over all shards of s, t and (1 - taid_t) s + taid_t t, over the temperature.
    """
    n = len(s) if rows is None else len(rows)
    out = torch.empty(n, 3, device=s.device)
    kind = {"columns": columns, "temperature": temperature, "taid_t": taid_t, "taid_space": taid_space}
    for place, where in row_blocks(rows, n, block_size(s)):
        out[place] = RowBlock(s[where], t[where], normalisers=normalisers[place], **kind).entry_sums(divergence)
    return out


def gradient(
    s: Tensor,
    t: Tensor | None,
    normalisers: Tensor,
    coefficients: Tensor,
    divergence: Divergence | None,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    taid_space: str,
    token_columns: Tensor | None,
    out: Tensor,
) -> None:
    """Writes p (A + B (s - t) + C s) - F q + L [v = token] + J u, over the temperature, into out [N, V'].

    coefficients: [N, 6], A B C F L J. A row of zeros gets zeros and is not read. Impossible tokens (-inf) get 0.
    """
    kind = {"columns": columns, "temperature": temperature, "taid_t": taid_t, "taid_space": taid_space}
    live = (coefficients != 0).any(-1)
    if not bool(live.all()):
        out[~live] = 0
    rows = live.nonzero()[:, 0]
    for _, where in row_blocks(rows, len(s), block_size(s)):
        block = RowBlock(s[where], None if t is None else t[where], normalisers=normalisers[where], **kind)
        result = out[where] if isinstance(where, slice) else torch.empty_like(s[where])
        block.gradient(coefficients[where], divergence, None if token_columns is None else token_columns[where], result)
        if not isinstance(where, slice):
            out[where] = result


def floored_target_lse(
    s: Tensor,
    t: Tensor,
    normalisers: Tensor,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    rows: Tensor | None = None,
) -> Tensor:
    """float32 [n]: this shard's part of the third normaliser in rows that touch LOG_FLOOR."""
    n = len(s) if rows is None else len(rows)
    out = torch.empty(n, device=s.device)
    kind = {"columns": columns, "temperature": temperature, "taid_t": taid_t}
    for place, where in row_blocks(rows, n, block_size(s)):
        out[place] = RowBlock(s[where], t[where], normalisers=normalisers[place], **kind).floored_target_lse()
    return out
