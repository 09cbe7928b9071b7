"""Run as a program: a training step of a Megatron GPT model under our loss, in every parallel layout.

    python spread_model.py OUT.json [--layouts LAYOUT ...] [--cases CASE ...]

`slime` is whichever lies on PYTHONPATH: the stand-in of these tests, or a patched checkout. A step goes through slime's
train_one_step: Megatron's schedule, its DistributedDataParallel, finalisation of gradients; the head on every row and,
packed, on selected rows alone. Gradients of all parameters, logged numbers and the table of token losses are held
against one rank's, unpacked. Writes {layout: {case: {packed or whole: errors}}}. Ranks are forked, on gloo.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import torch
from loss_cases import BATCH_SIZE, PADDED, arguments, make_samples, received
from megatron.core import parallel_state, tensor_parallel
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.torch_norm import WrappedTorchNorm

MICRO_BATCHES = [[0], [1, 2], [3], [2, 0]]
"""Some samples twice, so that every stage of a virtual pipeline has as many micro-batches as it wants."""
SIZES = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "cp": "context_parallel_size",
    "vp": "virtual_pipeline_model_parallel_size",
}
LAYOUTS = {
    "one": {},
    "one_tied": {"tied": True},
    "tp2": {"tp": 2},
    "tp2_sp": {"tp": 2, "sp": True},
    "tp2_sp_tied": {"tp": 2, "sp": True, "tied": True},
    "pp2": {"pp": 2},
    "pp2_tied": {"pp": 2, "tied": True},
    "pp2_vp2": {"pp": 2, "vp": 2},
    "pp2_tp2_sp": {"pp": 2, "tp": 2, "sp": True},
    "one_rows": {"rows": True},
    "cp2": {"cp": 2, "rows": True},
    "cp2_gathered": {"cp": 2, "rows": True, "gathered": True},
    "tp2_sp_cp2": {"tp": 2, "sp": True, "cp": 2, "rows": True},
}
"""rows: attention that stays in its row, since a CPU has no context-parallel one. vp: micro-batches of one length and
unbatched sends, since gloo cannot tell apart what two ranks that are each other's next and previous send at once."""
CASES = {
    "jsd": {"opd_loss": "jsd"},
    "jsd_few": {"opd_loss": "jsd", "weights": "few"},
    "jsd_none": {"opd_loss": "jsd", "weights": "none"},
    "taid_per_token": {"opd_loss": "taid", "calculate_per_token_loss": True, "weights": "few"},
    "gate_recomputed": {"opd_loss": "entropy_aware", "opd_entropy_gate": "sigmoid", "recompute_loss_function": True},
}
WAYS = ("whole", "packed")
SETTINGS = {
    "data_pad_size_multiplier": 8,
    "seq_length": 32,
    "decoder_seq_length": None,
    "micro_batch_size": 1,
    "enable_mtp_training": False,
    "ci_test": False,
    "check_for_nan_in_loss_and_grad": True,
    "custom_megatron_before_train_step_hook_path": None,
    "save_debug_train_data": None,
    "save": None,
    "load": None,
}


def norm(cls, config, hidden_size, eps=1e-5, **unused):
    """Megatron's, which refuses sequence parallelism only because it does not mark its parameters."""
    made = torch.nn.LayerNorm(hidden_size, eps)
    for parameter in made.parameters():
        parameter.sequence_parallel = config.sequence_parallel
    return made


class OwnValue(torch.nn.Module):
    """Attention of each token to itself alone."""

    def __init__(self, **unused):
        super().__init__()

    def forward(self, query, key, value, *unused, **named):
        return value.flatten(start_dim=1)


def reference_of(layout):
    return "one_rows" if layout.get("rows") else "one_tied" if layout.get("tied") else "one"


def make_model(layout, weights, per_token):
    """Chunks as slime's actor has them, with these weights, of which a rank takes its share, or drawn ones."""
    sizes = {SIZES[name]: layout[name] for name in ("tp", "pp", "cp") if name in layout}
    if "vp" in layout:
        sizes[SIZES["vp"]] = layout["vp"]
    config = TransformerConfig(
        num_layers=4,
        hidden_size=16,
        ffn_hidden_size=32,
        num_attention_heads=2,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        add_bias_linear=False,
        use_cpu_initialization=True,
        gradient_accumulation_fusion=False,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        sequence_parallel=layout.get("sp", False),
        pipeline_dtype=torch.float32,
        variable_seq_lengths="vp" not in layout,
        batch_p2p_comm="vp" not in layout,
        moe_token_dispatcher_type="alltoall",
        calculate_per_token_loss=per_token,
        **sizes,
    )
    config.finalize_model_grads_func = finalize_model_grads
    chunks, layer = [], get_gpt_layer_local_spec()
    if layout.get("rows"):
        layer.submodules.self_attention.submodules.core_attention = OwnValue
    for stage in range(layout.get("vp", 1)):
        torch.manual_seed(3)
        virtual = stage if "vp" in layout else None
        place = {"ignore_virtual": False, "vp_stage": virtual}
        chunk = GPTModel(
            config,
            layer,
            PADDED,
            64,
            pre_process=parallel_state.is_pipeline_first_stage(**place),
            post_process=parallel_state.is_pipeline_last_stage(**place),
            share_embeddings_and_output_weights=layout.get("tied", False),
            position_embedding_type="none" if layout.get("rows") else "rope",
            vp_stage=virtual,
        )
        with torch.no_grad():
            for name, parameter in named(chunk):
                whole = drawn(name, parameter.shape) if weights is None else weights[name]
                parameter.copy_(share(parameter, whole))
        chunks.append(DistributedDataParallel(config, DistributedDataParallelConfig(), chunk))
    return chunks


def named(chunk):
    """Parameters under the names of the whole model."""
    while hasattr(chunk, "module"):
        chunk = chunk.module
    layers = enumerate(chunk.decoder.layers)
    numbers = {f"decoder.layers.{i}.": f"decoder.layers.{layer.layer_number - 1}." for i, layer in layers}
    for name, parameter in chunk.named_parameters():
        here = ".".join(name.split(".")[:3]) + "."
        name = name.replace(here, numbers.get(here, here), 1)
        if name == "output_layer.weight" and chunk.share_embeddings_and_output_weights:
            name = "embedding.word_embeddings.weight"
        yield name, parameter


def drawn(name, shape):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    values = torch.randn(shape, generator=generator)
    return 1 + 0.1 * values if "norm" in name else 0.5 * values


def share(parameter, whole):
    if not getattr(parameter, "tensor_model_parallel", False):
        return whole
    size, rank = (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_tensor_model_parallel_rank(),
    )
    return whole.chunk(size, dim=parameter.partition_dim)[rank]


class Gradients:
    """An optimizer that keeps what it was to step with."""

    def __init__(self, chunks):
        self.chunks, self.found = chunks, {}

    def zero_grad(self):
        pass

    def step(self, increment=0):
        for chunk in self.chunks:
            self.found |= {name: (parameter, parameter.main_grad.clone()) for name, parameter in named(chunk)}
        return True, 1.0, None


def weighed(samples, weights):
    """few: two tokens of seven micro-batched samples, so that ranks and micro-batches go without any."""
    if weights == "all":
        return samples
    result = [{**sample, "weight": torch.zeros_like(sample["weight"])} for sample in samples]
    if weights == "few":
        result[1]["weight"][4] = 0.7
        result[3]["weight"][-2] = 0.4
    return result


def train(values, packed, layout, weights, folder):
    """Gradients by name, logged numbers and rows through the head of one training step on this rank."""
    from slime.backends.megatron_utils import loss, opd_hooks, opd_pack, opd_taid, opd_token_losses
    from slime.backends.megatron_utils import model as slime_model

    values = dict(values)
    samples = weighed(make_samples(), values.pop("weights", "all"))
    # slime has a tensor of its own for each sample.
    samples = [{**samples[i], "tokens": samples[i]["tokens"].clone()} for i in itertools.chain(*MICRO_BATCHES)]
    counted = itertools.count()
    micro_batches = [[next(counted) for _ in mine] for mine in MICRO_BATCHES]
    opd_taid.forget()
    args = arguments(
        **(SETTINGS | values | ({"data_pad_size_multiplier": 32} if "vp" in layout else {})),
        allgather_cp=layout.get("gathered", False),
        opd_pack_head=packed,
        opd_token_loss_dir=str(folder),
    )
    slime_model.get_args = lambda: args
    for name in ("get_batch", "train_one_step"):  # without what an earlier case has installed
        function = getattr(slime_model, name)
        setattr(slime_model, name, getattr(function, "ta_opd_original", function))
    opd_hooks.initialize(args)
    data = received(samples)
    chunks = make_model(layout, weights, args.calculate_per_token_loss)
    if parallel_state.is_pipeline_last_stage(ignore_virtual=True):
        loss.compute_advantages_and_returns(args, data)
    opd_hooks.report(args, 7, data)
    rows, heads = [], [opd_pack.output_layer(chunk) for chunk in chunks]
    for head in filter(None, heads):
        head.register_forward_hook(lambda layer, inputs, output: rows.append(len(output[0])))
    optimizer = Gradients(chunks)
    iterators = [slime_model.DataIterator(data, micro_batches) for _ in chunks]
    scheduler = SimpleNamespace(step=lambda increment: None)
    numbers, _ = slime_model.train_one_step(
        args, 7, 0, iterators, chunks, optimizer, scheduler, len(micro_batches), BATCH_SIZE
    )
    opd_token_losses.finish()
    return optimizer.found, numbers, rows


def on_a_rank(rank, name, cases, world, folder):
    torch.set_num_threads(1)
    WrappedTorchNorm.__new__ = norm
    layout, folder = LAYOUTS[name], Path(folder)
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=world, init_method=f"file://{folder}/{name}.store"
    )
    sizes = {SIZES[key]: layout[key] for key in SIZES if key in layout}
    parallel_state.initialize_model_parallel(**sizes, create_gloo_process_groups=True)
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    known = folder / f"{reference_of(layout)}.reference"
    expected = torch.load(known) if known.exists() else None
    found, weights, results = {}, expected and expected["weights"], {}
    for case in cases:
        for way in WAYS:
            tables = folder / name / f"{case}_{way}"
            gradients, numbers, rows = train(CASES[case], way == "packed", layout, weights, tables)
            results[case, way] = gradients, numbers
            if expected is None:
                continue
            others = expected[case]
            found.setdefault(case, {})[way] = {
                "gradient": max(relative(g, share(p, others["gradients"][n])) for n, (p, g) in gradients.items()),
                "numbers": max((abs(numbers[n] - others["numbers"][n]) for n in numbers), default=0.0),
                "rows": sum(rows),
            }
    if expected is None:
        kept = {case: as_kept(*results[case, "whole"]) for case in cases}
        weights = {n: p.detach().clone() for chunk in make_model(layout, None, False) for n, p in named(chunk)}
        torch.save(kept | {"weights": weights}, known)
    Path(folder, f"{name}.{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def as_kept(gradients, numbers):
    return {"gradients": {name: gradient for name, (_, gradient) in gradients.items()}, "numbers": numbers}


def relative(found, expected):
    assert torch.isfinite(found).all()
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-3)


def table(folder):
    """The rows of all files of a case, in order."""
    rows = [row for path in sorted(folder.glob("losses_*.parquet")) for row in pq.read_table(path).to_pylist()]
    rows = sorted(tuple(row.values()) for row in rows)
    assert len({row[:5] for row in rows}) == len(rows), "a token twice"
    return rows


def table_error(found, expected):
    """Largest difference of a number; infinite where other tokens are there."""
    if [row[:5] for row in found] != [row[:5] for row in expected]:
        return float("inf")
    return max((abs(a - b) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True)), default=0)


def errors_of(name, cases, folder):
    """Trains in one layout and holds every rank's results, and all files of the ranks, against the reference's; None
    for a layout's first run, which is the reference."""
    layout = LAYOUTS[name]
    world = layout.get("tp", 1) * layout.get("pp", 1) * layout.get("cp", 1)
    arguments = (name, cases, world, folder)
    torch.multiprocessing.start_processes(on_a_rank, arguments, nprocs=world, start_method="fork")
    ranks = [json.loads(Path(folder, f"{name}.{rank}.json").read_text()) for rank in range(world)]
    found = {}
    for case, way in itertools.product(ranks[0], WAYS):
        expected = table(Path(folder, reference_of(layout), f"{case}_whole"))
        worst = {key: max(rank[case][way][key] for rank in ranks) for key in ranks[0][case][way]}
        tokens = table_error(table(Path(folder, name, f"{case}_{way}")), expected)
        found.setdefault(case, {})[way] = worst | {"tokens": tokens, "distilled": len(expected)}
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({reference_of(LAYOUTS[name]) for name in options.layouts}):
            errors_of(name, options.cases, folder)
        results = {name: errors_of(name, options.cases, folder) for name in options.layouts}
    options.out.write_text(json.dumps(results))
    print(options.out)


if __name__ == "__main__":
    main()
