"""Made-up report data: methods, seeds and contexts of any number, and one set with awkward texts."""

from __future__ import annotations

import math
import re

import numpy as np

METHODS = (
    "full", "random", "entropy", "teacher_entropy", "disagreement", "reverse_kl", "quadrant", "tip",
    "compatibility", "teachability", "teachability_soft", "oracle_gain",
)  # fmt: skip
SCORES = (
    "entropy", "teacher_entropy", "disagreement", "compatibility", "H_norm", "D_norm", "C_norm",
    "teachability", "kl_before",
)  # fmt: skip
PASSAGE = (
    "Let us check the total step by step.\n\nMia has 12 apples, so she starts with 12.\nShe buys 7 more, which gives"
    " 12 + 7 = 19 apples.\n\tThen she gives 4 to Sam: 19 - 4 = 15.\nTherefore the answer is 15.  We are done. "
)
PIECES = re.findall(r" ?\w+|\n+| ?[^\w\s]|\s", PASSAGE)
WORDS = sorted(set(PIECES))
HOSTILE = (
    "</script><script>window.broken = 1</script>", "<img src=x onerror=window.broken=2>", "<!--", '"quoted"',
    "it's", "emoji 😀", "مرحبا", "\u2028", "\u202eright to left", "", "&lt;b&gt;", "\ufffd", "\x00",
)  # fmt: skip


def ranks(values: np.ndarray) -> np.ndarray:
    """Values replaced by their rank, scaled to 0..1."""
    return values.argsort().argsort() / max(1, len(values) - 1)


def top_rows(generator: np.random.Generator, tokens: list[str], length: int) -> list[list[list]]:
    """Five made-up candidates per position, the first one often the sampled token."""
    probabilities = np.sort(generator.dirichlet([0.5] * 7, size=length)[:, :5], axis=1)[:, ::-1]
    numbers = generator.permuted(np.tile(np.arange(len(WORDS)), (length, 1)), axis=1)[:, :5]
    rows = [
        [[WORDS[n], float(p)] for n, p in zip(*row, strict=True)] for row in zip(numbers, probabilities, strict=True)
    ]
    for position in range(0, length, 2):
        if all(text != tokens[position] for text, _ in rows[position]):
            rows[position][0][0] = tokens[position]
    return rows


def make_context(generator: np.random.Generator, index: int, length: int, labels: list[str]) -> dict:
    """One made-up context whose scores hang together: rare, surprising tokens get high scores."""
    tokens = [PIECES[(position + 5 * index) % len(PIECES)] for position in range(length)]
    entropy = generator.gamma(1.1, 0.9, size=length)
    disagreement = generator.gamma(0.7, 0.5, size=length) * (0.4 + 0.5 * entropy)
    h_norm, d_norm = ranks(entropy), ranks(disagreement)
    compatibility = generator.beta(3, 1.5, size=length)
    columns = [
        entropy, entropy * 0.7, disagreement, compatibility, h_norm, d_norm, ranks(compatibility),
        h_norm * d_norm * compatibility, disagreement * 1.1,
    ]  # fmt: skip
    kept, gain = {}, {}
    for number, label in enumerate(labels):
        score = columns[number % len(columns)] + 0.1 * generator.random(length)
        ratio = float(label.split(":")[1])
        cut = np.sort(score)[-max(1, round(ratio * length))]
        kept[label] = "".join("1" if value >= cut else "0" for value in score)
        gain[label] = (0.1 * disagreement + 0.05 * generator.normal(size=length)).tolist()
    quadrant = np.where(h_norm > 0.5, np.where(d_norm > 0.5, 1, 2), np.where(d_norm > 0.5, 3, 4))
    return {
        "id": f"c{index:03d}",
        "split": "held-out" if index % 2 == 0 else "rollout",
        "prompt": f"Question {index}: Mia has 12 apples and buys 7 more.\nHow many apples are there in total?",
        "tokens": tokens,
        "scores": {name: column.tolist() for name, column in zip(SCORES, columns, strict=True)},
        "student_logp": (-entropy).tolist(),
        "teacher_logp": (-entropy - disagreement).tolist(),
        "student_top": top_rows(generator, tokens, length),
        "teacher_top": top_rows(generator, tokens, length),
        "quadrant": quadrant.tolist(),
        "kept": kept,
        "gain": gain,
    }


def make_data(contexts: int = 24, length: int = 64, seeds: int = 3, steps: int = 40) -> dict:
    """Made-up report data of the given size."""
    generator = np.random.default_rng(7)
    ratios = {method: 1.0 if method == "full" else 0.1 for method in METHODS}
    labels = {method: f"{method}:{ratio:.2f}" for method, ratio in ratios.items()}
    results, history = [], []
    for number, (method, ratio) in enumerate(ratios.items()):
        for seed in range(seeds):
            mean, width = 0.012 * number - 0.02 + 0.01 * generator.normal(), 0.02 + 0.02 * generator.random()
            reverse = 0.3 * mean - 0.01 * number + 0.06
            compared = method not in ("full", "random")
            results.append(
                {
                    "label": labels[method],
                    "method": method,
                    "mask": "all" if method == "full" else "top",
                    "ratio": ratio,
                    "seed": seed,
                    "gain_mean": mean,
                    "gain_low": mean - width,
                    "gain_high": mean + width,
                    "reverse_gain_mean": reverse,
                    "reverse_gain_low": reverse - width,
                    "reverse_gain_high": reverse + width,
                    "vs_random_mean": mean - 0.03 if compared else None,
                    "vs_random_low": mean - 0.03 - width if compared else None,
                    "vs_random_high": mean - 0.03 + width if compared else None,
                    "heldout_loss": 1.1 - mean,
                    "heldout_loss_before": 1.1,
                    "kept_tokens": round(15360 * ratio),
                    "valid_tokens": 15360,
                    "seconds": 11.5 + generator.random(),
                }
            )
            for step in range(steps):
                loss = 0.5 * math.exp(-step * (0.01 + 0.004 * number)) + 0.02 * generator.random()
                history.append(
                    {"label": labels[method], "method": method, "ratio": ratio, "seed": seed, "step": step}
                    | {"reverse_kl": loss, "keep_ratio": ratio, "degenerate_axes": [], "taid_t": None}
                )
    return {
        "title": "TA-OPD: toy comparison of token selectors",
        "notice": "Toy models are a demonstration of the software, not evidence about real models.",
        "settings": {"steps": steps, "learning_rate": 3e-4, "tau": None, "device": "cpu", "tie_break": "position"},
        "results": results,
        "contexts_n": contexts,
        "prompts_n": max(1, contexts // 2),
        "history": history,
        "contexts": [make_context(generator, index, length, list(labels.values())) for index in range(contexts)],
        "score_info": {
            "entropy": {"label": "Student entropy", "unit": "nats", "help": "Entropy of the student's distribution."},
            "teacher_entropy": {"label": "Teacher entropy", "unit": "nats", "help": ""},
            "disagreement": {"label": "Disagreement", "unit": "nats", "help": "Reverse KL at this token."},
            "compatibility": {"label": "Compatibility", "unit": "", "help": ""},
            "teachability": {"label": "Teachability", "unit": "", "help": "H_norm × D_norm × C_norm."},
            "kl_before": {"label": "KL before training", "unit": "nats", "help": ""},
        },
    }


def make_hostile() -> dict:
    """Small report data with awkward token texts and missing values."""
    made = make_data(contexts=2, length=len(HOSTILE), seeds=1, steps=3)
    made["title"] = "Title </title><script>window.broken = 3</script> & more"
    made["settings"] = {"<b>name</b>": "<script>window.broken = 4</script>"}
    for context in made["contexts"]:
        context["tokens"] = list(HOSTILE)
        context["prompt"] = "</script><script>window.broken = 5</script>\u2028"
        context["student_top"][0] = [[text, 0.2] for text in HOSTILE[:5]]
        context["scores"]["teachability"][0] = None
        context["scores"]["all_missing"] = [None] * len(HOSTILE)
        context["teacher_logp"][0] = None
        context["quadrant"][0] = None
        context["gain"]["teachability:0.10"][0] = None
    return made


def without_intervals() -> dict:
    """Small report data of a single prompt: means without intervals."""
    made = make_data(contexts=2, length=8, seeds=1, steps=2)
    absent = {f"{name}_{part}": None for name in ("gain", "reverse_gain", "vs_random") for part in ("low", "high")}
    return made | {"prompts_n": 1, "results": [row | absent for row in made["results"]]}


def without_parts() -> dict:
    """Small report data without history, score texts, most scores and any comparison with random."""
    made = make_data(contexts=2, length=8, seeds=1, steps=1)
    made["history"] = []
    made["score_info"] = {}
    made["results"] = [
        row | {"vs_random_mean": None, "vs_random_low": None, "vs_random_high": None} for row in made["results"]
    ]
    for context in made["contexts"]:
        context["scores"] = {"entropy": context["scores"]["entropy"]}
    return made
