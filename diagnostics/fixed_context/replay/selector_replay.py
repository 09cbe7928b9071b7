"""Any selector on stored scores: columns of a token bank or a metrics file back into what ta_opd selects by.

The masks are ta_opd.select_tokens' own: the same normalisation, budgets and ties as in training. Axes: N tokens, B
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from ta_opd import Options, TokenScores, select_tokens
from ta_opd.methods import SELECTORS, find_selector

BANK_SCORES = {
    "entropy": "Hs",
    "disagreement": "KLf_union",
    "reverse_disagreement": "KLr_union",
    "reverse_kl": "KLr",
    "compatibility": "Cmass",
    "compatibility_bound": "Cmass_topk",
    "overlap": "Coverlap",
    "jaccard": "Cjaccard",
    "bhattacharyya": "CBC",
}
"""Field of TokenScores -> column of the token bank."""
METRICS_SCORES = BANK_SCORES | {"compatibility": "Cmass_exact"}
"""The same for a metrics file, whose Cmass_exact is a number; a token bank's is a flag."""
_RAW = {
    "h": "entropy",
    "d": "disagreement",
    "c": "compatibility",
    "dc": "compatibility",
    "h_tip": "entropy",
    "r_tip": "reverse_disagreement",
}


@dataclass(frozen=True)
class StoredTokens:
    """N response tokens of B samples, one after another.

    columns: name -> float [N], NaN where not known. loss_mask: integer [N]. lengths: int64 [B]. known: bool [N], the
    teacher gave a signal. rollout_id: joins the seed of the random selector. names: TokenScores field -> column.
    """

    columns: Mapping[str, NDArray]
    loss_mask: NDArray
    lengths: NDArray
    known: NDArray[np.bool_]
    rollout_id: int = 0
    names: Mapping[str, str] = field(default_factory=lambda: BANK_SCORES)

    def __len__(self) -> int:
        return len(self.loss_mask)


def token_scores_of(tokens: StoredTokens) -> TokenScores:
    """TokenScores from the stored columns; fields without a column are NaN.

    reverse_kl is that of the full vocabulary where it is known, else that on the union, as it was in training.
    """
    missing = torch.full((len(tokens),), torch.nan)
    fields = {
        name: torch.from_numpy(np.array(tokens.columns[column], dtype=np.float32))
        if column in tokens.columns
        else missing
        for name, column in tokens.names.items()
    }
    full, union = fields["reverse_kl"], fields["reverse_disagreement"]
    fields["reverse_kl"] = torch.where(full.isnan(), union, full)
    provenance = torch.zeros(len(tokens), dtype=torch.uint8)
    return TokenScores(
        **fields, entropy_provenance=provenance, disagreement_provenance=provenance, compatibility_provenance=provenance
    )


def needed_columns(mask: str, compat_proxy: str = "mass", names: Mapping[str, str] = BANK_SCORES) -> list[str]:
    """The columns that a selector ranks by."""
    proxies = {"set": "overlap", "jaccard": "jaccard", "bc": "bhattacharyya"}
    fields = []
    for axis in find_selector(mask).axes:
        score = _RAW[axis]
        fields.append(proxies.get(compat_proxy, score) if score == "compatibility" else score)
        if axis == "dc":
            fields.append("disagreement")
    return [names[score] for score in dict.fromkeys(fields)]


def replay(tokens: StoredTokens, options: Options, scores: TokenScores | None = None) -> NDArray[np.bool_]:
    """bool [N]: the tokens that training would have kept under these options. scores: token_scores_of(tokens)."""
    selection = select_tokens(
        token_scores_of(tokens) if scores is None else scores,
        torch.from_numpy(np.array(tokens.loss_mask)),
        torch.from_numpy(np.array(tokens.lengths)),
        options,
        rollout_id=tokens.rollout_id,
        known=torch.from_numpy(np.array(tokens.known)),
    )
    return selection.keep.numpy()


def all_masks() -> list[str]:
    """The mask name of every selector."""
    return [selector.mask for selector in SELECTORS]
