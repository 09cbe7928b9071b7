"""Sampling responses, and the logits that predict their tokens.

Shapes: B sequences, P longest prompt, T response tokens, V vocabulary, N all response tokens of a batch.
"""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel


def padded(sequences: Sequence[Sequence[int]], pad_id: int) -> torch.Tensor:
    """int64 [B, longest], padded on the right."""
    return pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True, padding_value=pad_id)


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """float32 [B, L, hidden] before the LM head, for right-padded input_ids [B, L].

    A causal model never looks at padding on the right, so there is no padding mask; the ready-made mask entry
    (None: plain causal) spares transformers from building one.
    """
    return model.model(input_ids, attention_mask={"full_attention": None}, use_cache=False).last_hidden_state


def response_logits(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], prompt_lens: Sequence[int]
) -> torch.Tensor:
    """float32 [N, V]: row n predicts the n-th response token of the batch, sequence after sequence.

    sequences are prompt + response ids, prompt_lens the prompts' lengths. Only response rows go through the
    LM head. Differentiable when gradients are enabled.

    Raises ValueError when the two lists differ in length, or a prompt length is not in [1, len(sequence)].
    """
    if len(sequences) != len(prompt_lens):
        raise ValueError(f"got {len(sequences)} sequences and {len(prompt_lens)} prompt lengths")
    for ids, prompt_len in zip(sequences, prompt_lens, strict=True):
        if not 1 <= prompt_len <= len(ids):
            raise ValueError(f"a prompt length must be in [1, {len(ids)}], its sequence's length, got {prompt_len}")
    hidden = hidden_states(model, padded(sequences, pad_id=0).to(model.device))
    rows = [
        hidden[b, prompt_len - 1 : len(ids) - 1]
        for b, (ids, prompt_len) in enumerate(zip(sequences, prompt_lens, strict=True))
    ]
    return model.lm_head(torch.cat(rows)).float()


@torch.no_grad()
def sample_responses(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    generator: torch.Generator,
    eos_id: int,
    pad_id: int,
    temperature: float = 1.0,
) -> list[list[int]]:
    """One response per prompt: at most max_new_tokens ids, the last of them eos where it was produced.

    Random numbers come from `generator` only, and a row's draws do not depend on when other rows end.

    Prompts are padded on the right and the cache keeps the gap: keys carry their rotary positions, so a mask
    over the gap is all that is needed, and the prefill stays plain causal attention.

    Raises ValueError for an empty prompt, max_new_tokens < 1 or temperature <= 0.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be >= 1, got {max_new_tokens}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    lengths = torch.tensor([len(ids) for ids in prompt_ids])
    if not len(lengths) or lengths.min() < 1:
        raise ValueError(f"every prompt needs at least one token, got lengths {lengths.tolist()}")

    device = model.device
    lengths = lengths.to(device)
    input_ids = padded(prompt_ids, pad_id).to(device)
    batch, longest = input_ids.shape
    columns = torch.arange(longest + max_new_tokens, device=device)
    visible = ((columns < lengths[:, None]) | (columns >= longest))[:, None, None]
    cache = DynamicCache(config=model.config)

    prefill = model.model(
        input_ids, attention_mask={"full_attention": None}, past_key_values=cache, use_cache=True
    ).last_hidden_state
    hidden = prefill[torch.arange(batch, device=device), lengths - 1]
    tokens = torch.full((batch, max_new_tokens), pad_id, device=device)
    ended = torch.zeros(batch, dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        probabilities = torch.softmax(model.lm_head(hidden).float() / temperature, dim=-1)
        drawn = torch.multinomial(probabilities.to(generator.device), 1, generator=generator)[:, 0].to(device)
        tokens[:, step] = torch.where(ended, pad_id, drawn)
        ended |= drawn == eos_id
        if ended.all() or step == max_new_tokens - 1:
            break
        hidden = model.model(
            tokens[:, step : step + 1],
            attention_mask={"full_attention": visible[..., : longest + step + 1]},
            position_ids=(lengths + step)[:, None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, 0]
    return [_until_eos(row, eos_id) for row in tokens[:, : step + 1].tolist()]


def _until_eos(row: list[int], eos_id: int) -> list[int]:
    return row[: row.index(eos_id) + 1] if eos_id in row else row
