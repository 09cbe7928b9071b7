"""Run as a program: our loss inside slime's loss_function on real Megatron process groups, in every layout.

    python spread_losses.py OUT.json [LAYOUT ...]

`slime` is whichever lies on PYTHONPATH: the stand-in of these tests, or a patched checkout. Each rank's loss, logged
numbers and gradient are held against float64 of one process that knows every logit. Writes {layout: {case: largest
errors}}. Ranks are forked, on gloo.
"""

import json
import math
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
from loss_cases import (
    BATCH_SIZE,
    CASES,
    COEFFICIENT,
    LAYOUTS,
    MICRO_BATCHES,
    NUMBERS,
    PADDED,
    arguments,
    make_samples,
    packed,
    received,
    with_a_teacher_inside,
)
from loss_reference import reference
from megatron.core import parallel_state


class OutputLayer(torch.nn.Module):
    """The columns of one tensor-parallel rank; it gets a share of the rows, as under sequence parallelism."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, hidden, weight=None):
        group = parallel_state.get_tensor_model_parallel_group()
        whole = hidden.new_empty(len(hidden) * group.size(), *hidden.shape[1:])
        torch.distributed.all_gather_into_tensor(whole, hidden.contiguous(), group=group)
        return whole @ self.weight.T


class Teacher(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.output_layer = OutputLayer(weight)

    def forward(self, hidden):
        size = parallel_state.get_tensor_model_parallel_world_size()
        share = hidden.transpose(0, 1).chunk(size)[parallel_state.get_tensor_model_parallel_rank()]
        return self.output_layer(share).transpose(0, 1).float()


def teachers_forward(args, samples, layout, shard):
    """What slime adds to the rollout's data by the teacher's forward, our wrap around it."""
    from slime.backends.megatron_utils import opd_teacher
    from slime.utils.opd_settings import slime_options
    from ta_opd.loss_plan import lists_of

    def forward_only(f, args, model, store_prefix):
        found = {}
        for micro_batch in MICRO_BATCHES:
            hidden = packed([samples[i]["hidden"] for i in micro_batch], layout, slice(None))
            lengths = {
                "total_lengths": [samples[i]["total"] for i in micro_batch],
                "response_lengths": [samples[i]["length"] for i in micro_batch],
            }
            for key, parts in f(model[-1](hidden), args=args, with_entropy=False, **lengths)[1].items():
                found.setdefault(store_prefix + key, []).extend(parts)
        return found

    with torch.no_grad():
        k, own = lists_of(slime_options(args)), lambda logits, **named: (torch.empty(0), {})
        teacher = [Teacher(samples[0]["head"][shard])]
        return opd_teacher.scored(forward_only, k, own, args, teacher, store_prefix="teacher_")


def relative(found, expected):
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return float((found.double() - expected).abs().max()) / max(scale, 1e-3) if found.numel() else 0.0


def run_case(values, samples, data, layout, shard):
    """Largest relative errors of the gradient, of the summed loss and of the logged numbers on this rank."""
    from slime.backends.megatron_utils import loss, opd_hooks, opd_loss, opd_taid

    opd_taid.forget()
    args = arguments(**values, allgather_cp=layout[2])
    opd_hooks.initialize(args)
    data = dict(data)
    if args.opd_type == "megatron":
        samples = with_a_teacher_inside(values, samples)
        data |= received(samples) | teachers_forward(args, samples, layout, shard)
        data["teacher_log_probs"] = [rows[:, 0] for rows in data["teacher_log_probs"]]
    loss.compute_advantages_and_returns(args, data)
    opd_hooks.report(args, 0, data)
    if values["opd_loss"] == "taid":
        opd_taid.begin_step(args, opd_loss.slime_options(args), 0)
    errors = {"gradient": 0.0, "loss": 0.0, "metrics": 0.0}
    ranks = parallel_state.get_data_parallel_world_size(with_context_parallel=True)
    for micro_batch in MICRO_BATCHES:
        batch = {key: [value[i] for i in micro_batch] for key, value in data.items()}
        batch["unconcat_tokens"] = batch["tokens"]
        expected, by_sample, sums = reference(values, samples, micro_batch)
        logits = packed([samples[i]["logits"] for i in micro_batch], layout, shard).requires_grad_()
        scaled, _, log = loss.loss_function(args, batch, 1, BATCH_SIZE, logits)
        scaled.backward()
        scale = layout[1] if args.calculate_per_token_loss else ranks / BATCH_SIZE
        wanted = COEFFICIENT * scale * packed(by_sample, layout, shard)
        total = torch.zeros(())
        if opd_loss.has_policy_loss(args, opd_loss.slime_options(args)):
            other = logits.detach().clone().requires_grad_()
            own = Namespace(**vars(args) | {"loss_type": "policy_loss"})
            policy, _, own_log = loss.loss_function(own, batch, 1, BATCH_SIZE, other)
            policy.backward()
            wanted = wanted + other.grad
            total = own_log["values"][1 + own_log["keys"].index("loss")]
        errors["gradient"] = max(errors["gradient"], relative(logits.grad, wanted))
        reduced = log["values"].clone()
        torch.distributed.all_reduce(reduced, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        named = dict(zip(log["keys"], reduced[1:].tolist(), strict=True))
        torch.distributed.all_reduce(total, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        for name, value in (("opd/loss", expected), ("loss", float(total) + COEFFICIENT * expected)):
            errors["loss"] = max(errors["loss"], abs(named[name] - value) / max(abs(value), 1e-3))
        _, means = opd_loss.means(named)
        assert (means is None) == (sums["count"] == 0) and named[opd_loss.COUNT] == sums["count"]
        for name in NUMBERS if means else ():
            value = sums[name] / sums["count"]
            errors["metrics"] = max(errors["metrics"], abs(means[name] - value) / max(abs(value), 1e-3))
    return errors


def check_taid_is_one(rank, path):
    """Ranks that disagree about J, or of which only the first has a saved state, take that of the first."""
    from slime.backends.megatron_utils import opd_taid

    group = parallel_state.get_tensor_model_parallel_group()
    first = torch.distributed.get_global_rank(group, 0)
    assert opd_taid.same_on_all_shards(float(rank)) == float(first)
    assert opd_taid._of_first_rank(path) is None
    torch.distributed.barrier()
    if rank == 0:
        path.write_text('{"t": 0.5}')
    assert opd_taid._of_first_rank(path) == {"t": 0.5}


def on_a_rank(rank, name, sizes, folder):
    from slime.backends.megatron_utils import opd_hooks

    torch.set_num_threads(1)
    # Wraps of slime's trainer need Megatron-LM around it and have tests of their own.
    for wrap in ("log_reverse_kl_in_training", "return_to_actor_after_loading", "report_dense_losses"):
        setattr(opd_hooks, wrap, lambda: None)
    opd_hooks.save_taid_with_checkpoints = lambda: None
    opd_hooks.take_teacher_distributions = lambda k: None
    store = f"file://{folder}/{name}"
    torch.distributed.init_process_group("gloo", rank=rank, world_size=sizes["world"], init_method=store)
    groups = {key: size for key, size in sizes.items() if key != "world"}
    parallel_state.initialize_model_parallel(**groups, create_gloo_process_groups=True)
    context = parallel_state.get_context_parallel_rank(), parallel_state.get_context_parallel_world_size()
    columns = PADDED // parallel_state.get_tensor_model_parallel_world_size()
    start = parallel_state.get_tensor_model_parallel_rank() * columns
    samples = make_samples()
    data = received(samples)
    found = {
        case: run_case(values, samples, data, (*context, name.endswith("gathered")), slice(start, start + columns))
        for case, values in CASES.items()
    }
    check_taid_is_one(rank, Path(folder, f"{name}.taid.{rank}"))
    Path(folder, f"{name}.{rank}").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def main(out, *names):
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names or LAYOUTS:
            sizes = LAYOUTS[name]
            torch.multiprocessing.start_processes(
                on_a_rank, (name, sizes, folder), nprocs=sizes["world"], start_method="fork"
            )
            ranks = [json.loads(Path(folder, f"{name}.{rank}").read_text()) for rank in range(sizes["world"])]
            results[name] = {case: worst(rank[case] for rank in ranks) for case in CASES}
    Path(out).write_text(json.dumps(results))
    print(out)


def worst(errors):
    errors = list(errors)
    return {name: max((e[name] for e in errors), key=lambda x: math.inf if math.isnan(x) else x) for name in errors[0]}


if __name__ == "__main__":
    main(*sys.argv[1:])
