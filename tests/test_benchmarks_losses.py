"""The benchmark of the losses: what it prints, and that a provider which is wrong does not get away with it."""

import json
import math
import shlex
import sys
from pathlib import Path

import pytest
import torch
from ta_opd import divergences

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import losses
from losses_providers import PROVIDERS, Provider, Unavailable, eager
from losses_providers.check import check
from losses_providers.problem import GATE_TAU, JSD_WEIGHT, LOSSES, TAID_T, make_problem
from losses_providers.reference import reference

ROOT = Path(__file__).parents[1]
SMALL = ["--tokens", "4", "--vocab", "64", "--top-k", "8", "--repeats", "1"]
QUICK = ["ours", "eager", "eager_fp32", "trl", "slime"]
FIELDS = {
    "loss",
    "provider",
    "seconds",
    "seconds_p10",
    "seconds_p90",
    "user_seconds",
    "user_seconds_p10",
    "user_seconds_p90",
    "peak_over_input",
    "forward_peak_over_input",
    "max_relative_error",
    "gradient_error",
    "tokens",
    "vocab",
    "dtype",
    "device",
    "threads",
}


def run(capsys, *arguments):
    """(exit status, records)"""
    status = losses.main([*SMALL, "--json", *arguments])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def small_problem(loss, dtype=torch.float32, **settings):
    return make_problem(loss, 8, 64, dtype, "cpu", top_k=8, **settings)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_provider_is_right_and_every_record_has_its_fields(capsys, dtype):
    status, records = run(capsys, "--no-memory", "--dtype", dtype, "--providers", *QUICK)
    assert status == 0
    for record in records:
        assert record.keys() >= FIELDS
        assert record["error"] is None, record
        assert (record["tokens"], record["vocab"], record["dtype"], record["device"]) == (4, 64, dtype, "cpu")
        assert 0 < record["seconds_p10"] <= record["seconds"] <= record["seconds_p90"]
        assert record["max_relative_error"] < (1e-2 if record["provider"] != "eager" or dtype == "float32" else 2)
        assert (record["gradient_error"] is None) == (record["loss"] == "entropy_logprob")
    got = {(record["loss"], record["provider"]) for record in records}
    assert len(got) == len(records)
    assert got >= {(loss, name) for loss in LOSSES for name in ("ours", "eager", "eager_fp32")}
    assert got >= {("jsd", "trl"), ("forward_kl", "trl"), ("reverse_kl", "trl"), ("entropy_logprob_grad", "slime")}


@pytest.mark.parametrize("name", ["ours", "eager_fp32", "trl", "slime"])
def test_a_provider_is_right_where_some_tokens_are_left_out(name):
    provider = PROVIDERS[name]("cpu")
    for loss in provider.losses:
        problem = small_problem(loss, keep_ratio=0.5, seed=1)
        assert int(problem.keep.sum()) == 4
        assert check(provider, problem).complaint(provider, torch.float32) is None, loss


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, upstream):
        return 2 * upstream


def _forward_kl(problem, student=None):
    return eager.forward_kl(problem.student if student is None else student, problem.teacher)


def _in_place(problem):
    with torch.no_grad():
        problem.student.sub_(problem.student.amax(-1, keepdim=True))
    return (_forward_kl(problem),)


WRONG = {
    "value off by a fiftieth": lambda problem: (_forward_kl(problem) * 1.02,),
    "the other direction": lambda problem: (eager.reverse_kl(problem.student, problem.teacher),),
    "gradient doubled": lambda problem: (_forward_kl(problem, _Doubled.apply(problem.student)),),
    "output never written": lambda problem: (_forward_kl(problem) * 0 + torch.empty(len(problem.student)),),
    "logits overwritten": _in_place,
    "a constant": lambda problem: (_forward_kl(problem).detach() + 0 * problem.student.sum(-1),),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_provider_is_caught(what):
    provider = Provider("wrong", {"forward_kl": WRONG[what]})
    problem = small_problem("forward_kl")
    assert check(provider, problem).complaint(provider, torch.float32).startswith("wrong: relative error of the ")
    right = Provider("right", {"forward_kl": lambda problem: (_forward_kl(problem),)})
    assert check(right, small_problem("forward_kl")).complaint(right, torch.float32) is None


def test_a_gradient_in_a_token_that_is_left_out_is_caught():
    def leaky(problem):
        return (_forward_kl(problem) + 1e-2 * (problem.student * ~problem.keep[:, None]).sum(),)

    provider = Provider("leaky", {"forward_kl": leaky}, value_tolerance=math.inf)
    errors = check(provider, small_problem("forward_kl", keep_ratio=0.5))
    assert "gradient" in errors.complaint(provider, torch.float32)


def test_a_wrong_provider_is_not_timed_and_the_others_are(capsys, monkeypatch):
    wrong = Provider("eager", {"forward_kl": WRONG["gradient doubled"]})
    monkeypatch.setitem(PROVIDERS, "eager", lambda device: wrong)
    chosen = ("--losses", "forward_kl", "--providers", "eager", "eager_fp32", "--dtype", "float32", "--no-memory")
    status, (bad, good) = run(capsys, *chosen)
    assert status == 1
    assert bad["error"].startswith("wrong: ") and bad["seconds"] is None and bad["gradient_error"] > 0.9
    assert good["error"] is None and good["seconds"] > 0


def test_a_provider_that_runs_out_of_memory_says_so(capsys, monkeypatch):
    def outputs(problem):
        if len(problem.student) == 4:
            raise torch.OutOfMemoryError("no memory")
        return (_forward_kl(problem),)

    monkeypatch.setitem(PROVIDERS, "eager", lambda device: Provider("eager", {"forward_kl": outputs}))
    status, (record,) = run(
        capsys, "--losses", "forward_kl", "--providers", "eager", "--no-memory", "--dtype", "float32"
    )
    assert status == 0
    assert record["error"] == "out of memory" and record["seconds"] is None and record["tokens"] == 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory_is_that_of_a_fresh_process(capsys):
    chosen = ("--tokens", "64", "--vocab", "8192", "--dtype", "float32", "--losses", "forward_kl")
    status, (record,) = run(capsys, *chosen, "--providers", "eager")
    assert status == 0
    # Two log_softmax, the entries and what they are made from; the gradient takes the place of some.
    assert 4 < record["peak_over_input"] < 6.5 and 3 < record["forward_peak_over_input"] < 6.5


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--tokens", "0"], "--tokens 0 must be at least 1"),
        (["--keep-ratio", "0"], "--keep-ratio 0.0 is outside 0..1"),
        (["--top-k", "64"], "--top-k 64 is outside 1..63"),
        (["--losses", "mse"], "'mse'"),
        (["--providers", "liger"], "none can run on cpu"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_status_2(capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        losses.main([*SMALL, *arguments])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert said in printed.err.splitlines()[-1] and not printed.out
    assert len([line for line in printed.err.splitlines() if "error:" in line]) == 1


def test_providers_that_cannot_run_here_are_named_with_the_reason(capsys):
    chosen = ("--losses", "forward_kl", "--providers", "ours_triton", "liger", "speculators", "eager")
    assert losses.main([*SMALL, "--no-memory", *chosen]) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["ours_triton", "liger", "speculators"]
    head, row = printed.out.splitlines()
    assert head.split()[:2] == ["loss", "provider"] and row.split()[:2] == ["forward_kl", "eager"]


def test_compile_is_left_out_without_a_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(eager.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match=r"C\+\+ compiler"):
        PROVIDERS["compile"]("cpu")


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "topk_tail"])
def test_the_reference_is_what_the_library_defines(loss):
    problem = small_problem(loss)
    s, t = problem.student, problem.teacher
    if problem.teacher is None:
        entropy = divergences.entropy(s)
        expected = (divergences.log_probs(s).gather(1, problem.token_ids[:, None])[:, 0], entropy)
    elif loss == "entropy_aware":
        weights = divergences.entropy_gate(divergences.entropy(t), tau=GATE_TAU)
        expected = (divergences.entropy_aware(divergences.reverse_kl(s, t), divergences.forward_kl(s, t), weights),)
    else:
        expected = {
            "forward_kl": lambda: (divergences.forward_kl(s, t),),
            "reverse_kl": lambda: (divergences.reverse_kl(s, t),),
            "jsd": lambda: (divergences.generalized_jsd(s, t, JSD_WEIGHT),),
            "taid": lambda: (divergences.taid(s, t, TAID_T),),
        }[loss]()
    values, gradient = reference(problem, problem.weights.double())
    for got, want in zip(values, expected, strict=True):
        torch.testing.assert_close(got, want.double(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-12)


def test_half_the_rows_are_nearly_converged_and_some_are_confident():
    problem = make_problem("forward_kl", 64, 4096, torch.float32, "cpu")
    (kl,), _ = reference(problem, problem.weights.double())
    assert int(problem.near.sum()) == 32
    assert 0.03 < float(kl[problem.near].mean()) < 0.06 and float(kl[~problem.near].min()) > 0.1
    shares = [logits.softmax(-1).amax(-1)[3::4] for logits in (problem.student, problem.teacher)]
    torch.testing.assert_close(shares, [torch.full((16,), 0.9), torch.full((16,), 0.95)], rtol=0, atol=2e-3)
    entropy = divergences.entropy(problem.teacher)
    assert float(entropy[3::4].max()) < GATE_TAU < float(entropy[:3].min())


def test_the_memory_floor_counts_the_kept_rows_and_the_whole_gradient():
    for loss, passes in {"reverse_kl": 5, "jsd": 7, "topk_tail": 3, "entropy_logprob": 1}.items():
        assert small_problem(loss).passes() == passes
    assert small_problem("jsd", keep_ratio=0.5).passes() == 4


def test_the_commands_in_the_page_are_accepted():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in page.splitlines() if line.strip().startswith("python benchmarks/losses.py")]
    assert commands
    for command in commands:
        losses.build_parser().parse_args(shlex.split(command, comments=True)[2:])
