"""Label, unit and help text of each shown score, in the words that the run's options make true."""

from __future__ import annotations

from ta_opd import Options

ENTROPY = {
    "paper": ("student entropy H", "nats", "Full-vocabulary entropy of the student before the token was sampled."),
    "released": (
        "student entropy H / log k",
        "",
        "Entropy of the student's renormalised top-k list, divided by log k, before the token was sampled.",
    ),
}
DISAGREEMENT = {
    "paper": "KL(teacher || student) on the union of both top-k lists, renormalised.",
    "released": "KL(teacher || student) on the union of both top-k lists, each model read from its own list only:"
    " renormalised, and a token that the list lacks counts as 1e-12.",
}
PROXY = {
    "mass": "the teacher's probability mass on the student's top-k tokens",
    "set": "the share of the student's top-k tokens that the teacher's top-k has too",
    "jaccard": "the Jaccard index of the two top-k sets",
    "bc": "the Bhattacharyya coefficient of both models, renormalised on the union of their top-k lists",
    "prefix_ema": "the moving average (decay {alpha:g}), along the response, of the teacher's probability mass on the"
    " student's top-k tokens",
}
SCALE = {
    "batch_quantile": "0 at the {low:g}% quantile, 1 at the {high:g}% quantile",
    "batch_minmax": "0 at the smallest value, 1 at the largest",
    "none": "divided by the largest value",
}


def score_info(options: Options) -> dict[str, dict[str, str]]:
    """By name of the score: label, unit and help."""
    proxy = PROXY[options.compat_proxy].format(alpha=options.compat_prefix_ema_alpha)
    scale = SCALE[options.metric_normalization].format(low=100 * options.metric_q_low, high=100 * options.metric_q_high)
    scaled = f"scaled over all tokens of the split and clipped to 0..1: {scale}."
    texts = {
        "entropy": ENTROPY[options.score_variant],
        "teacher_entropy": ("teacher entropy", "nats", "Full-vocabulary entropy of the teacher."),
        "disagreement": ("disagreement D", "nats", DISAGREEMENT[options.score_variant]),
        "compatibility": ("compatibility C", "", "Teacher's probability mass on the student's top-k tokens."),
        "teachability": ("teachability D~C~", "", f"D~ times C~; C~ comes from {proxy}."),
        "incompatible": ("incompatible D~(1-C~)", "", f"D~ times what C~ leaves to 1; C~ comes from {proxy}."),
        "H_norm": ("H~", "", f"H {scaled}"),
        "D_norm": ("D~", "", f"D {scaled}"),
        "C_norm": ("C~", "", f"{proxy[0].upper()}{proxy[1:]}, {scaled}"),
        "kl_before": ("KL(teacher||student) before", "nats", "Full vocabulary, before training."),
    }
    return {name: dict(zip(("label", "unit", "help"), text, strict=True)) for name, text in texts.items()}
