"""The Triton kernels against float64, started by test_row_statistics_triton.py: on the GPU or in the interpreter."""

import math

import pytest
import torch
from ta_opd.row_plan import DIVERGENCES, Divergence
from ta_opd.row_statistics import triton_kernels as kernels
from ta_opd.support import LOG_FLOOR

# The interpreter is numpy, which warns of arithmetic with infinities that a GPU does in silence.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = kernels.Tile(repeats=2, warps=1, vector=8)  # 512 columns
COLUMNS = 2 * 512 + 109
LSE, MEAN, GAP, TARGET, LABEL, LOWEST = [0, 1], [2, 3], [4, 5], [6, 7, 8], [9, 10], 11
TAID = [(1.0, "logit"), (0.4, "logit"), (0.4, "prob")]
INTERIOR = {"columns": COLUMNS, "temperature": 1.3}


def logits(seed, n=3, columns=COLUMNS, scale=2.5, dtype=torch.float32, near=None):
    """Rows that are not neighbours in memory, NaN beyond the columns; near: the teacher is the student plus noise."""
    generator = torch.Generator().manual_seed(seed)
    z = [scale * torch.randn(n, columns, generator=generator) for _ in range(2)]
    if near is not None:
        z[1] = z[0] + near * torch.randn(n, columns, generator=generator)
    wide = [torch.full((n, columns + 27 + i), torch.nan, dtype=dtype, device=DEVICE) for i in range(2)]
    for x, values in zip(wide, z, strict=True):
        x[:, :columns] = values
    return wide


def floored(log_probs):
    """Not below LOG_FLOOR, as divergences.log_probs has it: a finite one keeps its slope, -inf has none."""
    log_probs = torch.where(log_probs == -torch.inf, LOG_FLOOR, log_probs)
    return torch.where(log_probs < LOG_FLOOR, LOG_FLOOR + log_probs - log_probs.detach(), log_probs)


class Reference:
    """Everything of a whole vocabulary in float64, from the definitions."""

    def __init__(self, s, t, columns=COLUMNS, temperature=1.3, taid_t=1.0, taid_space="logit"):
        self.z = s[:, :columns].cpu().double().requires_grad_()
        self.s, self.t = self.z / temperature, t[:, :columns].cpu().double() / temperature
        self.temperature = temperature
        self.lp, self.lt = (floored(torch.log_softmax(x, -1)) for x in (self.s, self.t))
        self.lse_s, self.lse_t = (x.logsumexp(-1, keepdim=True) for x in (self.s, self.t))
        mixed = ((1 - taid_t) * self.lp + taid_t * self.lt).detach()
        shift = ((1 - taid_t) * self.lse_s + taid_t * self.lse_t).detach()
        self.lse_q = mixed.logsumexp(-1, keepdim=True) + shift
        if taid_t == 1:
            self.lq = self.lt
        elif taid_space == "prob":
            self.lq = ((1 - taid_t) * self.lp.exp() + taid_t * self.lt.exp()).log().detach()
        else:
            self.lq = floored(torch.log_softmax(mixed, -1))

    @property
    def normalisers(self):
        """Float32 [n, 3] on the device."""
        return torch.cat([self.lse_s, self.lse_t, self.lse_q], 1).detach().float().to(DEVICE)

    def entries(self, divergence):
        p, q, w = self.lp.exp(), self.lq.exp(), divergence.weight
        log_m = (w * q + (1 - w) * p).log()
        return {
            "forward_kl": q * (self.lq - self.lp),
            "reverse_kl": p * (self.lp - self.lq),
            "jsd": w * q * (self.lq - log_m) + (1 - w) * p * (self.lp - log_m),
            "skew_reverse_kl": p * (self.lp - log_m),
            "skew_forward_kl": q * (self.lq - log_m),
        }[divergence.kind].clamp(max=divergence.clip)

    def slopes(self, divergence):
        """u: autograd's derivative by log p_S, none where the student's logit is -inf."""
        (u,) = torch.autograd.grad(self.entries(divergence).sum(), self.lp, retain_graph=True)
        return torch.where(self.s == -torch.inf, 0, u)

    def entry_sums(self, divergence):
        cross_entropy = -(self.lq.exp() * self.lp).sum(-1)
        return torch.stack([self.entries(divergence).sum(-1), self.slopes(divergence).sum(-1), cross_entropy], 1)

    def gradient(self, coefficients, divergence, tokens):
        a, b, c, f, label, j = coefficients.cpu().double()[:, :, None].unbind(1)
        p, one_hot = self.lp.exp(), torch.arange(self.s.shape[1]) == tokens.cpu()[:, None]
        ds = p * (a + b * (self.lp - self.lt + self.lse_s - self.lse_t) + c * (self.lp + self.lse_s))
        ds = ds - f * self.lq.exp() + label * one_hot + j * self.slopes(divergence)
        return torch.where(self.s == -torch.inf, 0, ds).detach() / self.temperature


def close(got, expected, atol=2e-5, rtol=1e-5):
    torch.testing.assert_close(got.cpu().double(), expected.detach().double(), atol=atol, rtol=rtol)


def mean(weights_log, values):
    return (weights_log.exp() * values).sum(-1)


def expected_mean(z, temperature=1.3):
    z = z.cpu().double() / temperature
    return mean(z.log_softmax(-1), z.nan_to_num(neginf=0))


def expected_statistics(s, t, tokens, columns=COLUMNS, temperature=1.3, taid_t=1.0):
    s, t = (x[:, :columns].cpu().double() / temperature for x in (s, t))
    q = (1 - taid_t) * s + taid_t * t
    lp, lt, lq = (x.log_softmax(-1) for x in (s, t, q))
    label = [torch.where(tokens < 0, 0, x.gather(1, tokens.clamp(min=0)[:, None])[:, 0]) for x in (s, t)]
    lses = [x.logsumexp(-1) for x in (s, t, q)]
    gaps = [mean(lp, s - t), mean(lt, t - s), mean(lq, t - s)]
    lowest = torch.minimum(lp.amin(-1), lt.amin(-1))
    return torch.stack(
        [*lses[:2], mean(lp, s), mean(lt, t), *gaps[:2], lses[2], mean(lq, q), gaps[2], *label, lowest], 1
    )


@pytest.mark.parametrize(
    ("dtype", "taid_t", "columns"),
    [
        (torch.float32, 1.0, COLUMNS),
        (torch.float32, 0.3, COLUMNS),
        (torch.bfloat16, 0.3, 1024),
        (torch.float16, 1.0, 333),
        (torch.bfloat16, 1.0, 1),
    ],
)
def test_one_read_gives_every_statistic(dtype, taid_t, columns):
    s, t = logits(0, columns=columns, dtype=dtype)
    tokens = torch.tensor([0, -1, columns - 1])
    got = kernels.statistics(
        s, t, columns=columns, temperature=1.3, taid_t=taid_t, token_columns=tokens.to(DEVICE), tile=SMALL
    )
    assert got.dtype == torch.float32
    close(got, expected_statistics(s, t, tokens, columns, taid_t=taid_t))


@pytest.mark.parametrize("width", [4512, 4517])
def test_the_default_tiles_cover_short_and_long_rows_wherever_they_start(width):
    for dtype, columns in ((torch.bfloat16, 700), (torch.float32, 4500)):
        s, t = (torch.full((2, width), torch.nan, dtype=dtype, device=DEVICE) for _ in range(2))
        s[:, :columns], t[:, :columns] = (x[:, :columns] for x in logits(1, n=2, columns=columns, dtype=dtype))
        got = kernels.statistics(s, t, columns=columns, temperature=1.3, taid_t=1.0, token_columns=None)
        close(got, expected_statistics(s, t, torch.tensor([-1, -1]), columns))


def test_only_the_asked_rows_are_read_and_their_results_come_in_that_order():
    s, t = logits(2, n=4)
    s[1], t[3] = torch.nan, torch.nan
    rows = torch.tensor([2, 0], device=DEVICE)
    tokens = torch.tensor([5, 600])
    kind = INTERIOR | {"taid_t": 0.3, "rows": rows, "tile": SMALL}
    got = kernels.statistics(s, t, token_columns=tokens.to(DEVICE), **kind)
    close(got, expected_statistics(s[rows], t[rows], tokens, taid_t=0.3))
    reference, jsd = Reference(s[rows], t[rows], taid_t=0.3), Divergence("jsd", 0.3)
    got = kernels.entry_sums(s, t, reference.normalisers, jsd, taid_space="logit", **kind)
    close(got, reference.entry_sums(jsd))
    assert kernels.statistics(s, t, token_columns=None, **kind | {"rows": rows[:0]}).shape == (0, 12)


def test_shards_of_the_vocabulary_combine_to_the_whole():
    s, t = (x[:, :COLUMNS] for x in logits(3))
    s[:, 700:] += 60  # the second shard outweighs the first
    s[0, :700], t[1, 700:] = -torch.inf, -torch.inf
    t[2, 3] = s[2, 3] = -30
    parts = [
        kernels.statistics(
            s[:, a:b], t[:, a:b], columns=b - a, temperature=1.3, taid_t=0.3, token_columns=None, tile=SMALL
        )
        for a, b in ((0, 700), (700, COLUMNS), (COLUMNS, COLUMNS))
    ]
    parts = torch.stack(parts).cpu().double()
    assert not parts[2, :, [2, 3, 4, 5, 7, 8]].any() and (parts[2, :, LOWEST] == torch.inf).all()
    expected = expected_statistics(s, t, torch.tensor([-1] * 3), taid_t=0.3)
    lse = parts[:, :, [0, 1, 6]].logsumexp(0)
    weight = (parts[:, :, [0, 1, 6]] - lse).exp()
    close(lse[:, :2], expected[:, LSE])
    means = [(2, 0, expected_mean(s)), (3, 1, expected_mean(t))]
    for column, side, whole in means + [(i, side, expected[:, i]) for i, side in ((4, 0), (5, 1), (8, 2))]:
        got = (weight[:, :, side] * parts[:, :, column]).sum(0)
        rows = whole.isfinite()
        assert rows.tolist() == ([True] * 3 if column in MEAN else [False, False, True])
        close(got[rows], whole[rows])
    assert parts[0, 0, LOWEST] == -torch.inf and parts[1, 1, LOWEST] == -torch.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_kls_and_entropies_follow_from_one_read_even_near_convergence(dtype):
    s, t = logits(4, n=2, columns=2900, dtype=dtype, near=0.28)
    x = kernels.statistics(s, t, columns=2900, temperature=1.0, taid_t=1.0, token_columns=None, tile=SMALL).cpu()
    lp, lt = (z[:, :2900].cpu().double().log_softmax(-1) for z in (s, t))
    reverse, forward = mean(lp, lp - lt), mean(lt, lt - lp)
    assert 0.02 < reverse.mean() < 0.06
    close(x[:, 4] - x[:, 0] + x[:, 1], reverse, atol=0, rtol=1e-3)
    close(x[:, 5] - x[:, 1] + x[:, 0], forward, atol=0, rtol=1e-3)
    close(x[:, LSE] - x[:, MEAN], -torch.stack([mean(lp, lp), mean(lt, lt)], 1))
    jsd = Divergence("jsd", 0.5)
    kind = {"columns": 2900, "temperature": 1.0, "taid_t": 1.0, "taid_space": "logit", "tile": SMALL}
    got = kernels.entry_sums(s, t, x[:, [0, 1, 1]].to(DEVICE), jsd, **kind)
    close(got, Reference(s, t, 2900, 1.0).entry_sums(jsd), atol=0, rtol=1e-3)


@pytest.mark.parametrize("clip", [math.inf, 1e-4])
@pytest.mark.parametrize(("taid_t", "space"), TAID)
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_entry_sums_match_their_definition(kind, taid_t, space, clip):
    s, t = logits(5, n=2)
    divergence, reference = Divergence(kind, 0.3, clip), Reference(s, t, taid_t=taid_t, taid_space=space)
    got = kernels.entry_sums(
        s, t, reference.normalisers, divergence, taid_t=taid_t, taid_space=space, tile=SMALL, **INTERIOR
    )
    close(got, reference.entry_sums(divergence))


COEFFICIENTS = torch.tensor([[0.7, -0.4, 0.3, 1.1, -0.6, 0.9], [0.0, 0.0, 0.0, 0.0, 0.0, -1.3]], device=DEVICE)


@pytest.mark.parametrize(("taid_t", "space"), TAID)
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_the_gradient_is_every_term_times_its_coefficient(kind, taid_t, space):
    s, t = logits(6, n=2)
    divergence, reference = Divergence(kind, 0.3, 1e-3), Reference(s, t, taid_t=taid_t, taid_space=space)
    tokens = torch.tensor([COLUMNS - 1, 7], device=DEVICE)
    out = torch.full_like(s, torch.nan)
    kernels.gradient(
        s,
        t,
        reference.normalisers,
        COEFFICIENTS,
        divergence,
        taid_t=taid_t,
        taid_space=space,
        token_columns=tokens,
        out=out,
        tile=SMALL,
        **INTERIOR,
    )
    close(out[:, :COLUMNS], reference.gradient(COEFFICIENTS, divergence, tokens), atol=2e-7)
    assert not out[:, COLUMNS:].any()


@pytest.mark.parametrize("taid", TAID)
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_slopes_less_their_mean_are_the_derivative_by_the_logits(kind, taid):
    s, t = logits(7, n=2)
    s[0, 3], t[0, 5], s[1, 9], t[1, 600] = -torch.inf, -torch.inf, -1e9, -300.0
    s[1, 600], s[0, 5] = 20.0, 9.0  # likely for S, impossible for T
    t[0, 3] = 12.0
    options = dict(zip(("taid_t", "taid_space"), taid, strict=True))
    divergence, reference = Divergence(kind, 0.7), Reference(s, t, **options)
    (expected,) = torch.autograd.grad(reference.entries(divergence).sum(), reference.z, retain_graph=True)
    sums = kernels.entry_sums(s, t, reference.normalisers, divergence, tile=SMALL, **options, **INTERIOR)
    close(sums, reference.entry_sums(divergence))
    coefficients = torch.zeros(2, 6, device=DEVICE)
    coefficients[:, 0], coefficients[:, 5] = -sums[:, 1], 1
    out = torch.empty_like(s)
    kernels.gradient(
        s,
        t,
        reference.normalisers,
        coefficients,
        divergence,
        token_columns=None,
        out=out,
        tile=SMALL,
        **options,
        **INTERIOR,
    )
    close(out[:, :COLUMNS], expected.nan_to_num(nan=0.0), atol=1e-5)
    assert out[0, 3] == 0


@pytest.mark.parametrize(("taid_t", "moved"), [(0.97, 1), (0.03, 2)])
def test_a_row_at_the_floor_is_recognised_and_its_target_is_normalised_over_floored_log_probs(taid_t, moved):
    s, t = logits(8, n=4)
    s[1, 5], t[1, 5] = -torch.inf, 15.0  # likely for T, impossible for S
    s[2, 6], t[2, 6], s[3, 7] = 15.0, -1e9, -89.0 * 1.3
    taid = {"taid_t": taid_t, "tile": SMALL}
    x = kernels.statistics(s, t, token_columns=None, **INTERIOR, **taid)
    assert (x[:, LOWEST] < LOG_FLOOR).tolist() == [False, True, True, True]
    reference = Reference(s, t, taid_t=taid_t)
    close(x[:, LSE], torch.cat([reference.lse_s, reference.lse_t], 1))
    close(x[:, MEAN], torch.stack([expected_mean(s[:, :COLUMNS]), expected_mean(t[:, :COLUMNS])], 1))
    got = kernels.floored_target_lse(s, t, reference.normalisers, **INTERIOR, **taid)
    close(got, reference.lse_q[:, 0])
    assert abs(float(x[moved, 6]) - float(got[moved])) > 1e-3
    rows = torch.tensor([2, 1], device=DEVICE)
    got = kernels.floored_target_lse(s, t, reference.normalisers[rows], rows=rows, **INTERIOR, **taid)
    close(got, reference.lse_q[[2, 1], 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_the_exact_ones_rounded(dtype):
    s, t = logits(9, n=2, dtype=dtype)
    reference, jsd = Reference(s, t), Divergence("jsd", 0.5)
    tokens = torch.tensor([1, 2], device=DEVICE)
    out = torch.empty_like(s)
    arguments = {"taid_t": 1.0, "taid_space": "logit", "token_columns": tokens, "tile": SMALL}
    kernels.gradient(s, t, reference.normalisers, COEFFICIENTS, jsd, out=out, **arguments, **INTERIOR)
    exact = reference.gradient(COEFFICIENTS, jsd, tokens)
    truncates = DEVICE == "cpu" and dtype == torch.bfloat16  # the interpreter's conversion; a GPU rounds to nearest
    close(out[:, :COLUMNS], exact, atol=1e-7, rtol=torch.finfo(dtype).eps * (1.01 if truncates else 0.51))
    inplace = s.clone()
    kernels.gradient(inplace, t, reference.normalisers, COEFFICIENTS, jsd, out=inplace, **arguments, **INTERIOR)
    assert torch.equal(inplace, out)


def test_rows_without_coefficients_become_zeros_unread():
    s, t = logits(10, n=3)
    normalisers = Reference(s, t).normalisers
    s[1], t[1], normalisers[1] = torch.nan, torch.nan, torch.nan
    out = torch.full_like(s, torch.nan)
    coefficients = torch.zeros(3, 6, device=DEVICE)
    coefficients[0, 0], coefficients[2, 3] = 1, 1
    arguments = {"taid_t": 1.0, "taid_space": "logit", "token_columns": None, "tile": SMALL}
    kernels.gradient(s, t, normalisers, coefficients, None, out=out, **arguments, **INTERIOR)
    assert not out[1].any() and out.isfinite().all()
    close(1.3 * out[:, :COLUMNS].double().sum(-1), torch.tensor([1.0, 0.0, -1.0]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_distribution_gives_nan(bad):
    s, t = logits(11, n=2)
    s[0, 40] = bad
    x = kernels.statistics(s, t, token_columns=None, taid_t=1.0, tile=SMALL, **INTERIOR)
    assert x[0, [0, 2, 4]].isnan().all() and x[1].isfinite().all()


def test_the_student_alone_gives_its_normaliser_mean_label_and_gradient():
    s, t = logits(12, n=3)
    s[0, 4] = -torch.inf
    tokens = torch.tensor([4, -1, 9], device=DEVICE)
    x = kernels.statistics(s, None, token_columns=tokens, taid_t=1.0, tile=SMALL, **INTERIOR)
    reference = Reference(s, t)
    close(x[:, 0], reference.lse_s[:, 0])
    close(x[:, 2], expected_mean(s[:, :COLUMNS]))
    close(x[1:, 9], torch.stack([torch.zeros(()).double(), reference.s[2, 9]]))
    assert not x[:, [1, 3, 4, 5, 6, 7, 8, 10]].any()
    out = torch.full_like(s, torch.nan)
    coefficients = torch.tensor([[0.0, 0.0, -0.7, 0.0, 0.4, 0.0]] * 3, device=DEVICE)
    arguments = {"taid_t": 1.0, "taid_space": "logit", "token_columns": tokens, "tile": SMALL}
    kernels.gradient(s, None, reference.normalisers, coefficients, None, out=out, **arguments, **INTERIOR)
    close(out[:, :COLUMNS], reference.gradient(coefficients, Divergence("jsd"), tokens), atol=2e-7)
