"""The scores that can colour a token: where each comes from, what it is called, and what it means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """column: of the metrics file; base_COLUMN before training. gain: the column of before - after; the change is
    after - before where there is none."""

    key: str
    label: str
    unit: str
    help: str
    column: str
    gain: str | None = None


SCORES = (
    Score(
        "kl", "KL(teacher || student)", "nats",
        "Full vocabulary. Its change is the gain, before - after: above 0, the student came closer to the teacher.",
        "KLf", "G_KLf",
    ),
    Score(
        "reverse_kl", "KL(student || teacher)", "nats",
        "Full vocabulary, the one that sampled-token OPD descends. Its change is before - after.", "KLr", "G_KLr",
    ),
    Score("entropy", "student entropy H", "nats", "Full vocabulary. Its change is after - before.", "Hs"),
    Score(
        "disagreement", "disagreement D", "nats",
        "KL(teacher || student) on the union of both top-K lists, renormalised. Its change is after - before.",
        "KLf_union",
    ),
    Score(
        "support", "support C", "", "Teacher's probability on the student's top K. Its change is after - before.",
        "Cmass_exact",
    ),
    Score(
        "student_logp", "student log-prob of the token", "nats", "Of the sampled token. Its change is after - before.",
        "student_logp_sampled",
    ),
)  # fmt: skip
"""Measured before and after training."""

FIXED = {
    "learnable": ("learnable D~ C~", "", "Normalised D times normalised C, before training: teachability."),
    "incompatible": (
        "incompatible D~ (1 - C~)",
        "",
        "Normalised D times 1 - normalised C, before training.",
    ),
    "h_norm": ("H~", "", "Entropy before training, scaled to 0..1 over the tokens that count."),
    "d_norm": ("D~", "", "Disagreement before training, scaled to 0..1 over the tokens that count."),
    "c_norm": ("C~", "", "Support before training, scaled to 0..1 over the tokens that count."),
    "teacher_entropy": ("teacher entropy", "nats", "Full vocabulary."),
    "teacher_logp": ("teacher log-prob of the token", "nats", "Of the sampled token."),
}
"""Known once: key -> label, unit, help."""
