"""Rows on memory: the trainer's fullest GPU, the teacher's and the sampling GPUs, what rides to the trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ta_opd.loss_plan import has_sampled_term, is_dense, lists_of
from ta_opd.slime_options import SlimeOptions

from . import training_memory
from .model_sizes import BF16, student_architecture, teacher_weights
from .training_memory import Training
from .units import size


def training_rows(v: Mapping[str, str], options: SlimeOptions) -> Iterator[str]:
    try:
        a = student_architecture(v)
    except ValueError as error:
        yield f"not known: {error}"
        return
    t = training_of(v)
    here = a.on_one_gpu(t.tensor, t.pipeline)
    yield f"student: {a.parameters():,} parameters ({v['STUDENT_MODEL_SCRIPT']}), {here:,} on the fullest GPU"
    rows = [
        ("bf16 weights", training_memory.weights(a, t)),
        ("float32 gradients", training_memory.gradients(a, t)),
        (f"float32 copy and Adam over {t.data * t.context} ranks", training_memory.optimizer(a, t)),
    ]
    if v["RECOMPUTE"] == "full":
        rows.append((f"inputs of the layers, {t.tokens:,} tokens", training_memory.layer_inputs(a, t)))
    dense_alone = is_dense(options) and not has_sampled_term(options)
    each = training_memory.LOGITS_OF_OURS if dense_alone else training_memory.LOGITS
    rows.append((f"logits, {each:g} bytes each, {t.tokens:,} tokens", training_memory.logits(a, t, each)))
    for name, count in rows:
        yield f"{name}: {size(count)}"
    yield f"together: {size(sum(count for _, count in rows))}"
    yield "assumed: Megatron's distributed optimizer, slime's default; a micro-batch all of response tokens"
    if dense_alone:
        yield "assumed: slime's policy loss is left out, as without task reward, --kl-coef and --entropy-coef"
    inside = "of the layer at work" if v["RECOMPUTE"] == "full" else f"under RECOMPUTE={v['RECOMPUTE']}"
    yield f"not known, not in it: activations {inside}, buffers of communication, CUDA's own"


def training_of(v: Mapping[str, str]) -> Training:
    """A micro-batch holds MAX_TOKENS_PER_GPU or the longest sample, and no more than a step has, where prompts have a
    limit."""
    context, data = int(v["CONTEXT_PARALLEL"]), int(v["DATA_PARALLEL"])
    prompt = v["ROLLOUT_MAX_PROMPT_LEN"]
    sample = -(-(int(prompt or 0) + int(v["ROLLOUT_MAX_RESPONSE_LEN"])) // context)
    most = int(v["MAX_TOKENS_PER_GPU"])
    tokens = max(most, sample) if most else int(v["MICRO_BATCH_SIZE"]) * sample
    if prompt:
        tokens = min(tokens, int(v["GLOBAL_BATCH_SIZE"]) // data * sample)
    sizes = (int(v[f"{name}_PARALLEL"]) for name in ("TENSOR", "PIPELINE", "CONTEXT"))
    return Training(*sizes, data, v["SEQUENCE_PARALLEL"] == "1", tokens)


def other_memory_rows(v: Mapping[str, str], options: SlimeOptions) -> Iterator[str]:
    if not v["TEACHER_URL"]:
        yield _teacher(v)
    yield _sampling(v)
    tokens = int(v["ROLLOUT_BATCH_SIZE"]) * int(v["N_SAMPLES_PER_PROMPT"]) * int(v["ROLLOUT_MAX_RESPONSE_LEN"])
    each = 8 + 8 * lists_of(options)
    yield f"carried to the trainer: {each} bytes a response token, at most {size(each * tokens)} a rollout, host memory"


def _teacher(v: Mapping[str, str]) -> str:
    try:
        found = teacher_weights(v)
    except ValueError as error:
        return f"teacher: not known: {error}"
    count = found.bytes // int(v["TEACHER_TP"])
    return f"teacher: {_in_fraction(v, count, 'TEACHER_MEM_FRACTION')} ({found.source}, tensor {v['TEACHER_TP']})"


def _sampling(v: Mapping[str, str]) -> str:
    try:
        count = BF16 * student_architecture(v).parameters() // int(v["ROLLOUT_NUM_GPUS_PER_ENGINE"])
    except ValueError as error:
        return f"sampling: not known: {error}"
    return f"sampling: {_in_fraction(v, count, 'ROLLOUT_MEM_FRACTION')} (bf16)"


def _in_fraction(v: Mapping[str, str], count: int, name: str) -> str:
    """SGLang's fraction holds weights and cache."""
    return f"{size(count)} of weights a GPU; {name} {v[name]} needs a GPU of more than {size(count / float(v[name]))}"
