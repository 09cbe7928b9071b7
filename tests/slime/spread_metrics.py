"""Run as a program: the trainer's report on real Megatron process groups, once for each parallel layout.

    python spread_metrics.py OUT.json

Writes what each rank logged, {layout: [metrics of each call of a tracker, by rank]}. Ranks are forked, on gloo.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from megatron.core import parallel_state
from slime.backends.megatron_utils import loss, opd_hooks
from slime.observability import logging_utils

from tests.slime import rollouts
from tests.slime.spread_layouts import LAYOUTS, SHARES, samples_with_holes


def zigzag(values, rank, size):
    """The rows of a response a context-parallel rank holds: its first and its last chunk."""
    chunks = torch.arange(len(values)).tensor_split(2 * size)
    return values[torch.cat([chunks[rank], chunks[2 * size - 1 - rank]])]


def rollout_data(samples, cp_rank, cp_size):
    def rows(values):
        return zigzag(torch.as_tensor(values), cp_rank, cp_size)

    lengths = [len(rows(s.rollout_log_probs)) for s in samples]
    return {
        "rewards": [s.reward for s in samples],
        "response_lengths": lengths,
        "total_lengths": lengths,
        "loss_masks": [rows([1] * s.response_length) for s in samples],
        "log_probs": [rows(s.rollout_log_probs) for s in samples],
        "teacher_log_probs": [rows(s.teacher_log_probs) for s in samples],
        "rollout_routed_experts": [torch.as_tensor(s.rollout_routed_experts) for s in samples],
    }


def on_a_rank(rank, layout, sizes, samples, folder):
    torch.set_num_threads(1)
    world = sizes["world"]
    store = f"file://{folder}/{layout}"
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world, init_method=store)
    groups = {name: size for name, size in sizes.items() if name != "world"}
    parallel_state.initialize_model_parallel(**groups, create_gloo_process_groups=True)
    mine = SHARES[parallel_state.get_data_parallel_world_size()][parallel_state.get_data_parallel_rank()]
    cp = parallel_state.get_context_parallel_rank(), parallel_state.get_context_parallel_world_size()
    data = rollout_data([samples[i] for i in mine], *cp)
    args = rollouts.arguments(use_wandb=True)
    opd_hooks.initialize(args)
    if parallel_state.is_pipeline_last_stage():
        loss.compute_advantages_and_returns(args, data)
    opd_hooks.report(args, 3, data)
    Path(folder, f"{layout}.{rank}").write_text(json.dumps([metrics for metrics, _ in logging_utils.LOGGED]))
    torch.distributed.destroy_process_group()


def main(out):
    from slime.rollout.on_policy_distillation import post_process_rewards

    args = rollouts.arguments(opd_budget_mask="random", opd_budget_ratio=0.4)
    samples = samples_with_holes()
    post_process_rewards(args, samples)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for layout, sizes in LAYOUTS.items():
            torch.multiprocessing.start_processes(
                on_a_rank, (layout, sizes, samples, folder), nprocs=sizes["world"], start_method="fork"
            )
            results[layout] = [json.loads(Path(folder, f"{layout}.{r}").read_text()) for r in range(sizes["world"])]
    Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
