"""Slow float64 references in plain Python, written from the formulas alone, and builders of test inputs."""

import math
from fractions import Fraction

import numpy as np
import torch
from ta_opd import TokenScores
from ta_opd.scores import SCORES
from ta_opd.support import NO_TOKEN, TopK

TINY = math.exp(-87.0)
LEAST_LEFTOVER = 1e-7


def softmax(logits):
    top = max(logits)
    weights = [math.exp(z - top) for z in logits]
    return [w / sum(weights) for w in weights]


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def kl(p, q):
    """KL(p || q); a probability below exp(-87) of q counts as exp(-87)."""
    return sum(a * (math.log(a) - math.log(max(b, TINY))) for a, b in zip(p, q, strict=True) if a > 0)


def jsd(teacher, student, beta):
    if beta == 0:
        return kl(teacher, student)
    if beta == 1:
        return kl(student, teacher)
    middle = [beta * t + (1 - beta) * s for t, s in zip(teacher, student, strict=True)]
    return beta * kl(teacher, middle) + (1 - beta) * kl(student, middle)


def top_k(p, k):
    """{id: prob} of the k most probable ids; ties go to the smaller id."""
    return {i: p[i] for i in sorted(range(len(p)), key=lambda i: (-p[i], i))[:k]}


def imputed(own, missing):
    return min(*own.values(), max(1 - sum(own.values()), LEAST_LEFTOVER) / max(missing, 1))


def on_union(student, teacher, teacher_asked=None, student_asked=None):
    """Both sides as {id: prob} on U, from their lists and what was asked for; the rest imputed."""
    union = {**student, **teacher}
    known_s, known_t = {**(student_asked or {}), **student}, {**(teacher_asked or {}), **teacher}
    guess_s = imputed(student, sum(i not in known_s for i in union))
    guess_t = imputed(teacher, sum(i not in known_t for i in union))
    return {i: known_s.get(i, guess_s) for i in union}, {i: known_t.get(i, guess_t) for i in union}


def renormalise(weights):
    total = sum(weights.values())
    return {i: w / total for i, w in weights.items()}


def union_kl(a, b):
    a, b = renormalise(a), renormalise(b)
    return kl(list(a.values()), [b[i] for i in a])


def scores(student, teacher, teacher_asked=None, student_asked=None):
    s, t = on_union(student, teacher, teacher_asked, student_asked)
    known_t = {**(teacher_asked or {}), **teacher}
    shared, p, q = student.keys() & teacher.keys(), renormalise(s), renormalise(t)
    return {
        "disagreement": union_kl(t, s),
        "reverse_disagreement": union_kl(s, t),
        "compatibility": sum(known_t.get(i, 0.0) for i in student),
        "compatibility_bound": sum(teacher[i] for i in shared),
        "overlap": len(shared) / len(student),
        "jaccard": len(shared) / len(p),
        "bhattacharyya": sum(math.sqrt(p[i] * q[i]) for i in p),
    }


def released_disagreement(student, teacher):
    s, t = renormalise(student), renormalise(teacher)
    pairs = [(max(t.get(i, 0), 1e-12), max(s.get(i, 0), 1e-12)) for i in {**s, **t}]
    return sum(a * math.log(a / b) for a, b in pairs)


def released_entropy(own):
    return entropy(renormalise(own).values()) / math.log(max(len(own), 2))


def bucketed_entropy(own):
    return entropy([*own.values(), max(1 - sum(own.values()), 0)])


def quantile(values, q):
    values = sorted(values)
    place = q * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def normalise(values, low=0.05, high=0.95, population=None):
    population = values if population is None else population
    a, b = quantile(population, low), quantile(population, high)
    if b - a < 1e-12:
        return [0.0] * len(values)
    return [min(max((z - a) / (b - a + 1e-12), 0.0), 1.0) for z in values]


def soft_or(a, b):
    return 1 - (1 - a) * (1 - b)


def ceil_budget(ratio, count):
    return math.ceil(Fraction(str(ratio)) * count)


def select(keys, eligible, sample, n, least):
    """The positions kept, as a set. keys: one tuple per token, larger first; ties by (sample, position)."""
    order = sorted((i for i in range(len(keys)) if eligible[i]), key=lambda i: ([-x for x in keys[i]], i))
    per_sample = {}
    for i in order:
        per_sample.setdefault(sample[i], []).append(i)
    place = {i: number for number, i in enumerate(order)}
    kept = []
    for turn in range(least):
        kept += sorted((members[turn] for members in per_sample.values() if turn < len(members)), key=place.get)
    kept = kept[:n]
    kept += [i for i in order if i not in set(kept)][: n - len(kept)]
    return set(kept)


def token_list(rows, k=None):
    """A TopK of {id: prob} rows, padded with empty entries up to k."""
    k = max([k or 1, *(len(row) for row in rows)])
    ids = torch.full((len(rows), k), NO_TOKEN, dtype=torch.int32)
    logprobs = torch.full((len(rows), k), -torch.inf)
    for i, row in enumerate(rows):
        for j, (token, p) in enumerate(row.items()):
            ids[i, j], logprobs[i, j] = token, math.log(p) if p > 0 else -math.inf
    return TopK(ids, logprobs)


def token_scores(h, d, c, **others):
    """TokenScores with these entropies, disagreements and compatibilities, everything else from `others` or 0."""
    n = len(h)
    given = {"entropy": h, "disagreement": d, "compatibility": c, "reverse_kl": d} | others
    whole = {name: torch.zeros(n) for name in SCORES}
    return TokenScores(**(whole | {name: torch.as_tensor(np.asarray(v, np.float32)) for name, v in given.items()}))


def random_scores(seed, n, coarse=False):
    """Scores of n tokens; coarse ones lie on a grid of a few values and tie often."""
    rng = np.random.default_rng(seed)
    h, d, c = rng.gamma(1.0, 1.0, n), rng.gamma(0.7, 1.5, n), rng.random(n)
    if coarse:
        h, d, c = np.round(h), np.round(d), np.round(4 * c) / 4
    return token_scores(h, d, c, reverse_kl=d[::-1].copy(), overlap=np.round(8 * c) / 8, bhattacharyya=np.sqrt(c))
