"""One rank of a vocabulary-parallel loss: python vocab_ranks.py RANK RANKS FOLDER. Saves every case's numbers there.

The cases, their inputs and a rank's slice of them are made here for the test and the ranks alike.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from ta_opd.row_losses import row_losses
from ta_opd.row_plan import Divergence, EntropyGate, RowPlan
from ta_opd.support import TopK
from ta_opd.teacher_head import TeacherHead
from ta_opd.topk_losses import topk_losses
from ta_opd.vocab_parallel import VocabShard

N, V, WIDTH, HIDDEN = 7, 11, 12, 5
UPSTREAM = ("loss", "student_logprob", "student_entropy")
COLLECTIVES = ("all_gather", "all_reduce", "broadcast", "reduce", "reduce_scatter", "all_to_all", "send", "recv")


@dataclass(frozen=True)
class Case:
    """form: of a top-k list, or None. upstream: the outputs with a gradient. vocabulary: real ids of WIDTH columns."""

    plan: RowPlan
    form: str | None = None
    head: bool = False
    floor: bool = False
    masked: bool = False
    upstream: tuple[str, ...] = ("loss",)
    vocabulary: int = V


JSD, REVERSE = Divergence("jsd", 0.3), Divergence("reverse_kl")
GATE = EntropyGate("sigmoid", tau=1.5, width=0.5)
CASES = {
    "forward": Case(RowPlan(Divergence("forward_kl"))),
    "reverse": Case(RowPlan(REVERSE), upstream=UPSTREAM),
    "jsd": Case(RowPlan(JSD), masked=True),
    "gated_jsd": Case(RowPlan(JSD, GATE), upstream=UPSTREAM),
    "skew_clip": Case(RowPlan(Divergence("skew_reverse_kl", 0.1, 0.05))),
    "taid_reverse": Case(RowPlan(REVERSE, taid_t=0.4)),
    "taid_jsd": Case(RowPlan(JSD, GATE, taid_t=0.4), masked=True),
    "taid_prob": Case(RowPlan(JSD, GATE, taid_t=0.4, taid_space="prob")),
    "warm": Case(RowPlan(JSD, temperature=1.7), upstream=UPSTREAM),
    "one_rank_is_padding": Case(RowPlan(JSD, GATE), upstream=UPSTREAM, vocabulary=6),
    "floor": Case(RowPlan(REVERSE, GATE), floor=True, upstream=UPSTREAM),
    "floor_jsd": Case(RowPlan(JSD, GATE), floor=True),
    "floor_taid": Case(RowPlan(REVERSE, GATE, taid_t=0.9), floor=True),
    "head": Case(RowPlan(JSD, GATE), head=True, masked=True, upstream=UPSTREAM),
    "top_k": Case(RowPlan(JSD, GATE), "tail", masked=True, upstream=UPSTREAM),
    "top_k_taid": Case(RowPlan(REVERSE, taid_t=0.4), "tail"),
    "top_k_floor_taid": Case(RowPlan(JSD, taid_t=0.95), "tail", floor=True),
    "top_k_floor_taid_renormalised": Case(RowPlan(REVERSE, taid_t=0.95), "renormalised", floor=True),
    "top_k_renormalised": Case(RowPlan(JSD), "renormalised", upstream=UPSTREAM),
    "top_k_full": Case(RowPlan(Divergence("forward_kl"), temperature=1.7), "student_full", upstream=UPSTREAM),
    "top_k_padding": Case(RowPlan(JSD), "tail", vocabulary=6),
}


def inputs(case: Case) -> dict[str, torch.Tensor]:
    """Whole logits [N, V], hidden states and head, lists, tokens, the mask and upstream gradients."""
    generator = torch.Generator().manual_seed(11)
    made = {name: 2 * torch.randn(N, case.vocabulary, generator=generator) for name in ("student", "teacher")}
    made["hidden"] = torch.randn(N, HIDDEN, generator=generator)
    made["head"] = torch.randn(case.vocabulary, HIDDEN, generator=generator)
    made["tokens"] = torch.randint(0, case.vocabulary, (N,), generator=generator)
    if case.head:
        made["teacher"] = made["hidden"] @ made["head"].T
    if case.floor:
        made["student"][0, 3] = made["student"][1, 1] = made["teacher"][2, 2] = made["teacher"][0, 5] = -torch.inf
        # Far below the whole row, but not below the rest of its own shard.
        made["student"][3, :6] -= 100
        made["teacher"][4, 6:] -= 120
    listed = TopK.from_logits(made["teacher"], 4)
    made["ids"], made["logprobs"] = listed.ids, listed.logprobs
    made["keep"] = torch.tensor([1, 1, 0, 1, 0, 1, 1], dtype=torch.bool) if case.masked else torch.ones(N).bool()
    for name in case.upstream:
        made[name] = torch.randn(N, generator=generator)
    return made


def local(whole: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """A rank's columns [N, WIDTH / RANKS] of whole logits or head rows, padded with garbage."""
    padded = torch.full((len(whole), WIDTH), torch.nan)
    padded[:, : whole.shape[1]] = whole
    return padded.chunk(ranks, 1)[rank].clone()


def run(case: Case, rank: int, ranks: int, group) -> dict:
    made = inputs(case)
    student = local(made["student"], rank, ranks).requires_grad_()
    shard = VocabShard(group, rank * (WIDTH // ranks), case.vocabulary)
    sent, originals = [], {name: getattr(dist, name) for name in COLLECTIVES}

    def counted(name):
        def collective(*arguments, **named):
            sent.append((name, arguments[1 if name == "all_gather" else 0].nbytes))
            return originals[name](*arguments, **named)

        return collective

    for name in COLLECTIVES:
        setattr(dist, name, counted(name))
    masked = {"keep": made["keep"], "token_ids": made["tokens"], "shard": shard}
    if case.form is None:
        teacher = local(made["teacher"], rank, ranks)
        if case.head:
            teacher = TeacherHead(made["hidden"], local(made["head"].T, rank, ranks).T.contiguous(), block=2)
        result = row_losses(student, teacher, case.plan, **masked)
    else:
        result = topk_losses(student, TopK(made["ids"], made["logprobs"]), case.plan, form=case.form, **masked)
    forward = len(sent)
    keep = made["keep"]
    sum((getattr(result, name)[keep] * made[name][keep]).sum() for name in case.upstream).backward()
    for name in COLLECTIVES:
        setattr(dist, name, originals[name])
    fields = {name: value.detach() for name, value in result._asdict().items()}
    return fields | {"grad": student.grad, "sent": sent, "forward": forward}


if __name__ == "__main__":
    rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    alone = dist.new_group([0])
    saved = {ranks: {name: run(case, rank, ranks, dist.group.WORLD) for name, case in CASES.items()}}
    if rank == 0:
        saved[1] = {name: run(case, 0, 1, alone) for name, case in CASES.items()}
    torch.save(saved, folder / f"{rank}.pt")
    dist.destroy_process_group()
