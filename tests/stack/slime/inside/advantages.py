"""Our advantage hook against slime's own computation, on two gloo processes with real megatron-core parallel state.

advantages.py, with a patched checkout on PYTHONPATH. Every case runs once with two data-parallel ranks and once with
two context-parallel ones; whitening takes its mean and deviation over both. Prints the cases that held as JSON.

- every valid token selected, not whitened: upstream's OPD, bit for bit
- every other token selected, whitened or not: slime's advantage without OPD - coefficient x mask x reverse KL, so that
  a token outside the mask has exactly slime's advantage
"""

import copy
import itertools
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

ESTIMATORS = ("grpo", "gspo", "ppo", "reinforce_plus_plus", "reinforce_plus_plus_baseline")
PROMPTS, LENGTHS = [3, 5, 2, 6], [12, 7, 16, 9]
SELECTIONS = ("full", "half")
WORLD = 2


def make_args(estimator, normalise, coefficient, **changes):
    args = {
        "advantage_estimator": estimator,
        "normalize_advantages": normalise,
        "opd_kl_coef": coefficient,
        "opd_type": "sglang",
        "use_opd": False,
        "custom_advantage_function_path": None,
        "use_rollout_logprobs": False,
        "kl_coef": 0.0,
        "kl_loss_type": "k1",
        "gamma": 0.99,
        "lambd": 0.95,
        "qkv_format": "thd",
        "allgather_cp": False,
        "use_rollout_routing_replay": False,
        "use_wandb": False,
        "use_tensorboard": False,
    }
    return SimpleNamespace(**args | changes)


def make_rollout(selection):
    """All samples, whole: what both layouts cut their share from."""
    generator = torch.Generator().manual_seed(11)
    samples = []
    for index, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
        student, teacher, values = torch.randn(3, length, generator=generator)
        mask = torch.ones(length, dtype=torch.int)
        mask[: index % 3] = 0  # tokens of a tool
        kept = mask.bool() if selection == "full" else mask.bool() & (torch.arange(length) % 2 == 0)
        sample = {"log_probs": student - 3, "teacher": teacher - 3, "values": values, "loss_masks": mask, "kept": kept}
        samples.append(sample | {"total": prompt + length, "length": length, "reward": index - 1.2})
    return samples


def share(samples, rank, context_parallel):
    """A rank's part: every other sample, or every sample's rows of this context-parallel rank."""
    from slime.backends.megatron_utils.cp_utils import slice_log_prob_with_cp

    mine = samples if context_parallel else samples[rank::WORLD]

    def rows(name):
        return [slice_log_prob_with_cp(s[name], s["total"], s["length"]) for s in mine]

    data = {name: rows(name) for name in ("log_probs", "values")}
    data |= {
        "loss_masks": [s["loss_masks"] for s in mine],
        "total_lengths": [s["total"] for s in mine],
        "response_lengths": [s["length"] for s in mine],
        "rewards": [s["reward"] for s in mine],
    }
    return data, rows("teacher"), rows("kept"), rows("loss_masks")


def slimes_own(args, data):
    """slime's function on a copy of the data: the advantages, the returns."""
    from slime.backends.megatron_utils import loss

    data = copy.copy(data)
    loss.compute_advantages_and_returns(args, data)
    return data["advantages"], data["returns"]


def ours(args, data, teacher, kept, valid):
    """The same function, with our three hooks in the places slime calls them; the data afterwards too."""
    from slime.backends.megatron_utils import loss, opd_hooks
    from slime.utils.opd_versions import PATHS
    from ta_opd.carrier import pack

    # What the two mends need is the train actor's module, and so Megatron-LM; they have tests of their own.
    opd_hooks.log_reverse_kl_in_training = opd_hooks.return_to_actor_after_loading = lambda: None
    args = copy.copy(args)
    args.use_opd = True
    for name, path in PATHS.items():
        setattr(args, name, path)
    opd_hooks.initialize(args)
    data = copy.copy(data)
    data["teacher_log_probs"] = [
        pack(log_t, keep.float(), mask != 0) for log_t, keep, mask in zip(teacher, kept, valid, strict=True)
    ]
    loss.compute_advantages_and_returns(args, data)
    opd_hooks.report(args, 0, data)
    return data["advantages"], data["returns"], data


def check_case(rank, context_parallel, estimator, normalise, selection):
    coefficient = 1.0 if selection == "full" else 0.5
    args = make_args(estimator, normalise, coefficient)
    data, teacher, kept, valid = share(make_rollout(selection), rank, context_parallel)
    base, returns = slimes_own(args, data)
    got, got_returns, after = ours(args, data, teacher, kept, valid)
    for index, advantage in enumerate(got):
        reverse_kl = data["log_probs"][index] - teacher[index]
        expected = torch.where(kept[index], base[index] - coefficient * reverse_kl, base[index])
        assert torch.equal(advantage, expected), (index, advantage, expected)
        assert torch.equal(advantage[~kept[index]], base[index][~kept[index]])
        assert torch.equal(got_returns[index], returns[index])
        assert torch.equal(after["opd_reverse_kl"][index], reverse_kl)
        assert torch.equal(after["teacher_log_probs"][index], teacher[index])
    if selection == "full" and not normalise:
        upstream_args = make_args(estimator, normalise, coefficient, use_opd=True)
        upstream, _ = slimes_own(upstream_args, data | {"teacher_log_probs": teacher})
        for index, advantage in enumerate(upstream):
            inside = valid[index] != 0
            assert torch.equal(got[index][inside], advantage[inside]), "not upstream's, bit for bit"


def worker(rank, port, context_parallel, cases, result):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    from megatron.core import mpu

    mpu.initialize_model_parallel(context_parallel_size=WORLD if context_parallel else 1)
    held = []
    for case in cases:
        check_case(rank, context_parallel, *case)
        held.append(case)
    if rank == 0:
        Path(result).write_text(json.dumps(held), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    cases = list(itertools.product(ESTIMATORS, (False, True), SELECTIONS))
    held = {}
    for layout in ("data_parallel", "context_parallel"):
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "held.json"
            arguments = (free_port(), layout == "context_parallel", cases, str(result))
            mp.spawn(worker, arguments, nprocs=WORLD, join=True)
            held[layout] = len(json.loads(result.read_text(encoding="utf-8")))
    print(json.dumps(held))
    return 0 if set(held.values()) == {len(cases)} else 1


if __name__ == "__main__":
    sys.exit(main())
