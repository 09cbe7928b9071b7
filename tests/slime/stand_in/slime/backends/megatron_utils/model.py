"""slime's micro-batches, its training step through Megatron's schedule, its checkpoints, as far as they are called."""

from functools import partial

import torch
from slime.backends.megatron_utils.loss import loss_function

KEYS = (
    *("tokens", "total_lengths", "response_lengths", "loss_masks", "log_probs", "advantages", "returns"),
    *("rollout_log_probs", "teacher_log_probs", "rollout_mask_sums"),
)


class DataIterator:
    def __init__(self, rollout_data, micro_batch_indices):
        self.rollout_data, self.micro_batch_indices, self.offset = rollout_data, micro_batch_indices, 0

    def get_next(self, keys):
        mine = self.micro_batch_indices[self.offset]
        self.offset += 1
        found = {key: self.rollout_data.get(key) for key in keys}
        return {key: None if values is None else [values[i] for i in mine] for key, values in found.items()}


def get_batch(data_iterator, keys, pad_multiplier=128, allgather_cp=False):
    """A micro-batch: zigzag shares of its samples or one slice of all of them together, padded at the end."""
    from megatron.core import mpu
    from megatron.core.packed_seq_params import PackedSeqParams

    batch = data_iterator.get_next(keys)
    batch["unconcat_tokens"] = samples = batch["tokens"]
    rank, size = mpu.get_context_parallel_rank(), mpu.get_context_parallel_world_size()
    multiple = mpu.get_tensor_model_parallel_world_size() * pad_multiplier
    if allgather_cp:
        parts, multiple = list(samples), multiple * size
    elif size > 1:
        halves = [_padded(tokens, 2 * size).chunk(2 * size) for tokens in samples]
        parts = [torch.cat([chunks[rank], chunks[2 * size - 1 - rank]]) for chunks in halves]
    else:
        parts = list(samples)
    tokens = _padded(torch.cat(parts), multiple)
    ends = torch.tensor([0, *map(len, parts)]).cumsum(0).tolist()
    ends = torch.tensor(ends if ends[-1] == len(tokens) else [*ends, len(tokens)], dtype=torch.int)
    ends = ends if allgather_cp else ends * size  # of whole samples, Megatron divides by the ranks
    longest = int(ends.diff().max())
    batch["packed_seq_params"] = PackedSeqParams("thd", ends, ends, max_seqlen_q=longest, max_seqlen_kv=longest)
    batch["tokens"] = (tokens.chunk(size)[rank] if allgather_cp else tokens)[None]
    return batch


def _padded(tokens, multiple):
    return torch.nn.functional.pad(tokens, (0, -len(tokens) % multiple))


def train_one_step(
    args,
    rollout_id,
    step_id,
    data_iterator,
    model,
    optimizer,
    opt_param_scheduler,
    num_microbatches,
    step_global_batch_size,
    microbatch_pbar=None,
):
    """The numbers that a step logs, on the last stage, and the norm of its gradient."""
    from megatron.core import mpu
    from megatron.core.pipeline_parallel import get_forward_backward_func

    for chunk in model:
        chunk.zero_grad_buffer()
    optimizer.zero_grad()

    def forward_step(data_iterator, model):
        batch = get_batch(data_iterator, list(KEYS), args.data_pad_size_multiplier, args.allgather_cp)
        named = {"input_ids": batch["tokens"], "position_ids": None, "attention_mask": None, "labels": None}
        output = model(**named, packed_seq_params=batch["packed_seq_params"])
        return output, partial(loss_function, args, batch, num_microbatches, step_global_batch_size)

    logged = get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=data_iterator,
        model=model,
        num_microbatches=num_microbatches,
        seq_length=args.seq_length,
        micro_batch_size=args.micro_batch_size,
        forward_only=False,
    )
    _, grad_norm, _ = optimizer.step()
    if not mpu.is_pipeline_last_stage(ignore_virtual=True):
        return {}, grad_norm
    values = sum(each["values"] for each in logged)
    torch.distributed.all_reduce(values, group=mpu.get_data_parallel_group(with_context_parallel=True))
    per_token = args.calculate_per_token_loss
    scale = mpu.get_context_parallel_world_size() / values[0] if per_token else 1 / step_global_batch_size
    return dict(zip(logged[0]["keys"], (values[1:] * scale).tolist(), strict=True)), grad_norm


def train(rollout_id, model, optimizer, opt_param_scheduler, data_iterator, num_microbatches, global_batch_sizes):
    TRAINED.append(rollout_id)


def save(iteration, model, optimizer, opt_param_scheduler):
    SAVED.append(iteration)


TRAINED, SAVED = [], []


def forward_only(f, args, model, data_iterator, num_microbatches, store_prefix="", use_rollout_top_p_replay=False):
    """Each micro-batch's logits to f, which gets what slime gives it; outputs by sample, under the prefix."""
    outputs = []
    for batch in data_iterator:
        named = {key: batch[key] for key in ("unconcat_tokens", "total_lengths", "response_lengths")}
        outputs.append(f(model[-1](batch["tokens"]), args=args, with_entropy=False, **named)[1])
    return {f"{store_prefix}{key}": [v for output in outputs for v in output[key]] for key in outputs[0]}
