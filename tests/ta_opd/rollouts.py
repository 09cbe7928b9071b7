"""A small rollout with holes in it, as the columns of the token bank, and a reader of what was written."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import torch
from ta_opd import Options, Supports, TopK, select_tokens, token_scores
from ta_opd.token_bank.columns import Rollout, Text, token_columns


def options(**values):
    defaults = {
        "topk_metrics_k": 3,
        "budget_mask": "teachability",
        "budget_ratio": 0.3,
        "token_bank_raw_topk": True,
        "token_bank_pair_id": "Ω-pair, one",
    }
    return Options(**(defaults | values))


def table(o, *args, **kwargs):
    """The columns of a scored rollout (see scored) in one block, and its selection."""
    rollout, scores, selection = scored(o, *args, **kwargs)
    return joined(token_columns(rollout, scores, selection, o)), selection


def joined(blocks):
    """Blocks of columns, one after another, as one."""
    blocks = list(blocks)

    def join(parts):
        if isinstance(parts[0], Text):
            return Text(parts[0].names, np.concatenate([part.codes for part in parts]))
        return (np.ma if np.ma.isMA(parts[0]) else np).concatenate(parts)

    return {name: join([columns[name] for columns in blocks]) for name in blocks[0]}


def scored(o, lengths=(3, 0, 5), rollout_id=4, seed=0, unmasked=None):
    """A rollout in which token 1 lacks the teacher, token 4 the student and token 6 the third entries; its scores and
    its selection."""
    n, v = sum(lengths), 9
    generator = torch.Generator().manual_seed(seed)
    z_s, z_t = (2 * torch.randn(n, v, generator=generator) for _ in range(2))
    tokens = z_s.argmax(1)
    sampled = [torch.log_softmax(z, -1).gather(1, tokens[:, None])[:, 0] for z in (z_s, z_t)]
    student, teacher = TopK.from_logits(z_s, 3), TopK.from_logits(z_t, 4)
    if n > 6:
        teacher.ids[1], teacher.logprobs[1], sampled[1][1] = -1, -torch.inf, torch.nan
        student.ids[4], student.logprobs[4] = -1, torch.nan
        student.ids[6, 2], student.logprobs[6, 2] = -1, -torch.inf
    supports = Supports(student, teacher)
    mask = torch.ones(n, dtype=torch.int64) if unmasked is None else torch.tensor(unmasked)
    lengths = torch.tensor(lengths, dtype=torch.long)
    scores = token_scores(supports, o.score_variant, tokens)
    selection = select_tokens(scores, mask, lengths, o, rollout_id)
    rollout = Rollout(
        rollout_id=rollout_id,
        seed=11,
        supports=supports,
        token_ids=tokens,
        student_logprob=sampled[0],
        teacher_logprob=sampled[1],
        loss_mask=mask,
        lengths=lengths,
        prompt_lengths=torch.arange(len(lengths)) + 7,
        sample_index=torch.arange(len(lengths)) + 100,
        group_index=torch.arange(len(lengths)) // 2,
        truncated=torch.arange(len(lengths)) == 2,
    )
    return rollout, scores, selection


def read(path):
    """Rows of plain values, whatever the format."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle] if path.suffix == ".jsonl" else list(csv.DictReader(handle))
