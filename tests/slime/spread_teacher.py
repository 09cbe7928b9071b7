"""Run as a program: what is kept of a real Megatron GPT model's forward rebuilds its logits.

    python spread_teacher.py OUT.json

One rank and two tensor-parallel ones with sequence parallelism, the head tied to the embedding or not, on gloo. Writes
the largest difference of each case.
"""

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer import TransformerConfig

VOCABULARY, PADDED, LENGTH, RESPONSE = 30, 32, 12, 8
CASES = {f"tp{world}_{'tied' if tied else 'untied'}": (world, tied) for world in (1, 2) for tied in (False, True)}


class Decoder(torch.nn.Module):
    """In the place of the layers, which want a GPU's random numbers: this rank's share of the rows, changed."""

    def forward(self, hidden_states=None, **unused):
        size = parallel_state.get_tensor_model_parallel_world_size()
        return (1.5 * hidden_states.tanh()).chunk(size)[parallel_state.get_tensor_model_parallel_rank()]


def make_model(world, tied):
    config = TransformerConfig(
        num_layers=1,
        hidden_size=16,
        num_attention_heads=2,
        use_cpu_initialization=True,
        tensor_model_parallel_size=world,
        gradient_accumulation_fusion=False,
    )
    torch.manual_seed(0)
    model = GPTModel(config, get_gpt_layer_local_spec(), PADDED, 64, share_embeddings_and_output_weights=tied).eval()
    model.decoder, model.output_layer.sequence_parallel = Decoder(), world > 1
    return model


def on_a_rank(rank, name, world, tied, folder):
    from slime.backends.megatron_utils import opd_teacher

    torch.set_num_threads(1)
    torch.cuda.current_device = lambda: "cpu"  # where Megatron makes the buffers of its collectives
    store = f"file://{folder}/{name}"
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world, init_method=store)
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=world)
    inputs = torch.arange(LENGTH)[None] * 2, torch.arange(LENGTH)[None], None
    lengths = {"total_lengths": [LENGTH], "response_lengths": [RESPONSE]}

    def forward_only(f, args, model, store_prefix):
        return {store_prefix + key: value for key, value in f(model[-1](*inputs), args=args, **lengths)[1].items()}

    with torch.no_grad():
        model, args = make_model(world, tied), Namespace(vocab_size=VOCABULARY, allgather_cp=False)
        logits = model(*inputs)[0, LENGTH - RESPONSE - 1 : -1]
        nothing = lambda logits, **named: (None, {})  # noqa: E731
        data = opd_teacher.scored(forward_only, 0, nothing, args, [model], store_prefix="teacher_")
        (fields,) = opd_teacher.take(data)
    difference = (fields["hidden"] @ fields["head"].T - logits).abs().max()
    Path(folder, f"{name}.{rank}").write_text(json.dumps(float(difference)))
    torch.distributed.destroy_process_group()


def main(out):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (world, tied) in CASES.items():
            torch.multiprocessing.start_processes(
                on_a_rank, (name, world, tied, folder), nprocs=world, start_method="fork"
            )
            found[name] = max(json.loads(Path(folder, f"{name}.{rank}").read_text()) for rank in range(world))
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
