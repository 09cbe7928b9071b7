"""Metrics frames with planted effects: what training did to each token is known."""

import numpy as np
import polars as pl

EFFECTS = ("learnable", "disagreement", "kl_before", "none", "position", "shrinkage", "reversion", "zero")


def planted_frame(effect, prompts=60, tokens=40, seed=0, ks=(8, 16, 32), size=0.3, noise=0.15, loose=0.0):
    """A gain file's frame of prompts x tokens rows, K = 16.

    D^L = d c and D^I = d (1 - c) of the baseline have, in nats a unit of D:
    learnable: `size` and 0. disagreement: `size` and `size`. kl_before: 0 and 0, the gain is a curve of KL before.
    none: 0 and 0. position: 0 and 0, but the gain falls along the response while C does too.
    shrinkage: every token keeps 0.7 of its divergence. reversion: half of what is peculiar to the first checkpoint is
    drawn again. zero: nothing changed. Prompts differ by an effect of their own, so tokens of a prompt hang together.
    loose: log sd of what D is off KL before, 0 where they are one number.
    """
    rng = np.random.default_rng(seed)
    n = prompts * tokens
    prompt = np.repeat(np.arange(prompts), tokens)
    position = np.tile(np.arange(tokens) / max(tokens - 1, 1), prompts)
    by_prompt = rng.normal(size=(prompts, 3))[prompt]
    entropy = np.exp(0.4 * by_prompt[:, 0] + 0.8 * rng.normal(size=n)) * 0.5
    stable = np.exp(-0.7 + 0.3 * by_prompt[:, 1] + 0.7 * rng.normal(size=n))
    peculiar = 0.4 * rng.normal(size=n)
    before = stable * np.exp(peculiar)
    slope = 1.5 * (0.5 - position) if effect == "position" else 0
    support = 1 / (1 + np.exp(-(1.2 * rng.normal(size=n) + 0.5 * by_prompt[:, 2] + 2 * slope + 0.6)))
    union = before * np.exp(loose * np.random.default_rng([seed, 1]).normal(size=n)) if loose else before
    low, high = np.quantile(union, [0.05, 0.95])
    d = np.clip((union - low) / (high - low), 0, 1)
    c_low, c_high = np.quantile(support, [0.05, 0.95])
    c = np.clip((support - c_low) / (c_high - c_low), 0, 1)
    jitter = noise * (rng.normal(size=n) + 0.4 * rng.normal(size=prompts)[prompt])
    gain = {
        "learnable": size * d * c + jitter,
        "disagreement": size * d + jitter,
        "kl_before": size * np.sqrt(before) + jitter,
        "none": jitter,
        "position": 0.4 * slope + jitter,
        "shrinkage": 0.3 * before * (1 + jitter),
        "reversion": before - stable * np.exp(0.5 * peculiar + np.sqrt(0.75) * 0.4 * rng.normal(size=n)),
        "zero": np.zeros(n),
    }[effect]
    least = max(0.0, float((gain - before).max()))  # so that no noise makes a divergence negative
    frame = {
        "schema_version": np.ones(n, np.int32),
        "context_id": [f"{p:016x}" for p in prompt],
        "prompt_id": [f"p{p:04d}" for p in prompt],
        "tok_pos": np.tile(np.arange(tokens), prompts).astype(np.int32),
        "pos_norm": position,
        "resp_len": np.full(n, tokens, np.int32),
        "token_id": rng.integers(0, 500, n).astype(np.int32),
        "loss_mask": np.ones(n, np.int8),
        "base_Hs": entropy,
        "base_Ht": np.abs(0.3 * entropy + 0.2 * rng.normal(size=n)),
        "base_KLf": before + least,
        "KLf": before + least - gain,
        "G_KLf": gain,
        "base_KLr": before * np.exp(0.2 * rng.normal(size=n)),
        "base_KLf_union": union,
        "base_Cmass_exact": support,
        "base_Cmass_topk": support * 0.9,
        "base_Coverlap": np.round(support * 16) / 16,
        "base_Cjaccard": np.round(support * 16) / (32 - np.round(support * 16)),
        "base_CBC": np.sqrt(support),
        "base_Cprefix_ema": support,
        "base_reach_t1": (support > 0.3).astype(np.int8),
        "reach_t1": (support > 0.25).astype(np.int8),
    }
    for k in ks:
        if k != 16:
            shift = 0.05 * np.log2(k / 16)
            frame |= {
                f"base_KLf_union_k{k}": union * (1 - shift),
                f"base_Cmass_exact_k{k}": np.clip(support + shift, 0, 1),
                f"base_Coverlap_k{k}": frame["base_Coverlap"],
                f"base_reach_t1_k{k}": frame["base_reach_t1"],
            }
    return pl.DataFrame(frame)
