"""The teacher's tokenizer and vocabulary against the student's. The teacher scores the student's token ids, so every
id must mean the same to both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .model_files import BrokenFile, config, end_ids, read_json
from .result import Result, failed, passed, skipped, warned
from .settings import Settings
from .tokenizer_files import MissingLibrary, load_tokenizer, render

PROBES = (
    "Let f(x) = 3x^2 - 7; then f'(2) = 12.\n\tNaïve café, 北京 2026: <b>1,024</b> ≠ 0.5e-3 🙂",
    "def total(rows):\n    return sum(row['price'] * 1_000 for row in rows)  # in cents\n\n\n",
    "  Привет, мир! ¿Qué tal? 안녕하세요 مرحبا   \r\n\\boxed{\\frac{1}{2}}",
    "The quick brown fox doesn't jump; we'll see 123456789 times, they're sure.",
)
"""Texts that different tokenizers cut differently: digits, spaces, accents, scripts, an emoji, code, contractions."""
CONVERSATION = (
    {"role": "user", "content": "What is 17 * 3?"},
    {"role": "assistant", "content": "51"},
    {"role": "user", "content": "And half of it?"},
)
MEGATRON_MULTIPLE = 128
"""Megatron pads a vocabulary to a multiple of this times the tensor parallel size (--make-vocab-size-divisible-by)."""
_SHOWN = 4
_OTHER_TEACHER = "a teacher that shares the student's tokenizer"


@dataclass(frozen=True)
class Model:
    """tokenizer: as transformers loads it. vocabulary: rows of the embedding, None where config.json does not say."""

    name: str
    path: Path
    tokenizer: Any
    vocabulary: int | None
    ends: tuple[int, ...]

    @property
    def added(self) -> dict[int, str]:
        return {id_: str(token) for id_, token in self.tokenizer.added_tokens_decoder.items()}


def check_tokenizers(settings: Settings) -> Iterator[Result]:
    if settings.local_engine:
        yield skipped("tokenizers", "BACKEND=local makes its own", "nothing to do")
        return
    paths = {"student": settings.model("STUDENT_HF"), "teacher": settings.model("TEACHER_MODEL")}
    for name, path in paths.items():
        if path is None or not path.is_dir():
            variable = "STUDENT_HF" if name == "student" else "TEACHER_MODEL"
            yield skipped("tokenizers", f"no local directory of the {name}", f"set {variable} to one")
            return
    try:
        student, teacher = (_model(name, path) for name, path in paths.items())
    except MissingLibrary as error:
        yield skipped("tokenizers", str(error), "pip install transformers jinja2")
        return
    except BrokenFile as error:
        yield failed("tokenizers", str(error), "copy the model again, or load it once by hand to see the whole error")
        return
    yield _same_ids(student, teacher)
    yield _vocabulary(student, teacher, settings.number("TENSOR_PARALLEL"))
    yield _added_tokens(student, teacher)
    yield _special_tokens(student, teacher)
    yield _ends(student, teacher)
    yield _bos(student, teacher)
    yield _chat_template(student, teacher, settings.is_on("APPLY_CHAT_TEMPLATE"))


def _model(name: str, path: Path) -> Model:
    known, generation = config(path), read_json(path / "generation_config.json")
    tokenizer = load_tokenizer(path)
    ends = {*end_ids(known.get("eos_token_id")), *end_ids(generation.get("eos_token_id"))}
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return Model(name, path, tokenizer, known.get("vocab_size"), tuple(sorted(ends)))


def _same_ids(student: Model, teacher: Model) -> Result:
    for probe in PROBES:
        ours, theirs = (model.tokenizer.encode(probe, add_special_tokens=False) for model in (student, teacher))
        if ours != theirs:
            at = _first_difference(ours, theirs)
            found = f"the student reads {probe[:24]!r}... as {ours[at : at + 4]}, the teacher has {theirs[at : at + 4]}"
            return failed("token ids", found, _OTHER_TEACHER)
    added = {*student.added.values(), *teacher.added.values()}
    ours, theirs = (model.tokenizer.get_vocab() for model in (student, teacher))
    other = [token for token, id_ in ours.items() if token not in added and theirs.get(token) != id_]
    if other:
        told = ", ".join(f"{token!r} {ours[token]} / {theirs.get(token)}" for token in other[:_SHOWN])
        return failed("token ids", f"{len(other):,} tokens have other ids at the teacher: {told}", _OTHER_TEACHER)
    return passed("token ids", f"{len(PROBES)} probe texts and {len(ours):,} tokens have the same ids")


def _vocabulary(student: Model, teacher: Model, tensor_parallel: int) -> Result:
    check = "vocabulary"
    for model in (student, teacher):
        if model.vocabulary is None:
            return warned(check, f"{model.path}/config.json has no vocab_size", "copy the model again")
        if len(model.tokenizer) > model.vocabulary:
            found = (
                f"the {model.name}'s tokenizer has {len(model.tokenizer):,} tokens, its embedding {model.vocabulary:,}"
            )
            return failed(check, found, "the tokenizer is not this model's")
    multiple = MEGATRON_MULTIPLE * tensor_parallel
    padded = math.ceil(student.vocabulary / multiple) * multiple
    found = (
        f"student {len(student.tokenizer):,} tokens, {student.vocabulary:,} rows, {padded:,} in Megatron at TP "
        f"{tensor_parallel}; teacher {len(teacher.tokenizer):,} tokens, {teacher.vocabulary:,} rows"
    )
    if len(student.tokenizer) > teacher.vocabulary:
        return failed(check, f"{found}: the teacher cannot score the student's last tokens", _OTHER_TEACHER)
    if student.vocabulary > teacher.vocabulary:
        found += f"; a sample with an id from {teacher.vocabulary:,}, which no text has, would leave OPD"
    return passed(check, found, student=student.vocabulary, teacher=teacher.vocabulary, padded=padded)


def _added_tokens(student: Model, teacher: Model) -> Result:
    ours, theirs = student.added, teacher.added
    other = sorted(id_ for id_ in ours.keys() | theirs.keys() if ours.get(id_) != theirs.get(id_))
    if not other:
        return passed("added tokens", f"the same {len(ours)}")
    told = ", ".join(f"{id_} is {ours.get(id_)!r} / {theirs.get(id_)!r}" for id_ in other[:_SHOWN])
    found = f"{len(other)} differ, student / teacher: {told}"
    return warned("added tokens", found, "keep them out of prompts, or the teacher reads other words than were meant")


def _special_tokens(student: Model, teacher: Model) -> Result:
    ours, theirs = student.tokenizer.special_tokens_map, teacher.tokenizer.special_tokens_map
    names = [
        name for name in ("bos_token", "eos_token", "pad_token", "unk_token") if ours.get(name) != theirs.get(name)
    ]
    if not names:
        return passed("special tokens", ", ".join(f"{k} {v}" for k, v in ours.items() if isinstance(v, str)) or "none")
    told = "; ".join(f"{name} {ours.get(name)!r} / {theirs.get(name)!r}" for name in names)
    return warned("special tokens", f"student / teacher: {told}", "see the rows of EOS and the chat template")


def _ends(student: Model, teacher: Model) -> Result:
    """End tokens of tokenizer, config and generation_config together: SGLang stops at any of them."""
    check = "EOS"
    for model in (student, teacher):
        if not model.ends:
            return failed(
                check, f"the {model.name} names no EOS anywhere", "set eos_token_id in generation_config.json"
            )
    end = student.tokenizer.eos_token_id
    written = end_ids(read_json(student.path / "generation_config.json").get("eos_token_id"))
    if end is not None and written and end not in written:
        found = f"the student's tokenizer ends with {end}, its generation_config.json with {list(written)}"
        return warned(check, found, "rollouts stop at either; make them one if that is not meant")
    if set(student.ends) != set(teacher.ends):
        found = f"student {list(student.ends)}, teacher {list(teacher.ends)}"
        fix = "the teacher may find the student's last token of a response unlikely; watch its reverse KL"
        return warned(check, found, fix) if not set(student.ends) & set(teacher.ends) else passed(check, found)
    return passed(check, f"{list(student.ends)} for both")


def _bos(student: Model, teacher: Model) -> Result:
    """slime encodes prompts without special tokens and the teacher scores those ids."""
    adds = {model.name: _adds_bos(model.tokenizer) for model in (student, teacher)}
    told = ", ".join(f"the {name}'s tokenizer {'puts one' if put else 'puts none'}" for name, put in adds.items())
    if any(adds.values()):
        fix = "see that the chat template writes it: slime adds no special tokens to a prompt"
        return warned("BOS", told, fix)
    return passed("BOS", told)


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer.encode("a")
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _chat_template(student: Model, teacher: Model, applied: bool) -> Result:
    check = "chat template"
    if applied and not student.tokenizer.chat_template:
        return failed(check, "the student has none, and APPLY_CHAT_TEMPLATE is on", "APPLY_CHAT_TEMPLATE=0")
    if student.tokenizer.chat_template == teacher.tokenizer.chat_template:
        return passed(check, "the same" if student.tokenizer.chat_template else "neither has one")
    try:
        ours, theirs = (render(model.tokenizer, CONVERSATION) for model in (student, teacher))
    except MissingLibrary as error:
        return skipped(check, str(error), "pip install jinja2")
    except BrokenFile as error:
        return warned(check, f"they differ, and {error}", "the teacher scores prompts in the student's form")
    if ours == theirs:
        return passed(check, "other texts, but a probe conversation renders the same")
    at = _first_difference(ours, theirs)
    found = f"a conversation is ...{ours[at : at + 24]!r} to the student, ...{theirs[at : at + 24]!r} to the teacher"
    return warned(
        check, found, "the teacher scores prompts in the student's form; use a student of its family if you can"
    )


def _first_difference(a: Sequence[Any], b: Sequence[Any]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
