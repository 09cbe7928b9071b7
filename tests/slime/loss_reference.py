"""Losses of whole distributions in float64, token by token, by one process that knows every logit."""

import math

import torch
from loss_cases import NUMBERS, VOCABULARY, K


def token_loss(values, logits, lists, teacher):
    """float64 loss of one token and its numbers, from logits [V] and a list [1, K], written out entry by entry; the
    gate of a teacher in the trainer reads all its log-probs [V]."""
    log_p = logits[:VOCABULARY].log_softmax(-1)
    entries = [
        (int(i), float(q)) for i, q in zip(lists.ids[0], lists.logprobs[0].double(), strict=True) if 0 <= i < VOCABULARY
    ]
    q = torch.tensor([e for _, e in entries], dtype=torch.float64)
    s = torch.stack([log_p[i] for i, _ in entries])
    form = values.get("opd_loss_top_k_form", "tail" if values.get("opd_loss_top_k", K) else "renormalised")
    if form == "tail":
        q, s = (torch.cat([x, (1 - x.exp().sum()).log()[None]]) for x in (q, s))
    else:
        q = q - q.exp().sum().log()
        s = s if form == "student_full" else s - s.exp().sum().log()
    target = q
    if values["opd_loss"] == "taid":
        target = (0.6 * s.detach() + 0.4 * q).log_softmax(-1)
    forward, reverse = (target.exp() * (target - s)).sum(), (s.exp() * (s - target)).sum()
    if values["opd_loss"] in ("forward_kl", "taid"):
        loss = forward
    elif values["opd_loss"] == "reverse_kl":
        loss = reverse
    elif values["opd_loss"] == "jsd":
        beta = values.get("opd_jsd_beta", 0.5)
        m = (beta * q.exp() + (1 - beta) * s.exp()).log()
        loss = beta * (q.exp() * (q - m)).sum() + (1 - beta) * (s.exp() * (s - m)).sum()
    elif form == "student_full":
        loss = forward
    else:
        if values.get("opd_type") == "megatron":
            entropy = -(teacher.double().exp() * teacher.double()).sum()
        else:
            listed = [math.exp(e) for _, e in entries]
            rest = 1 - sum(listed)
            entropy = -sum(e * math.log(e) for e in listed) - rest * math.log(min(*listed, rest))
        gate = torch.sigmoid((torch.as_tensor(entropy) - 0.8) / 0.5)
        loss = (1 - gate) * reverse + gate * forward
    cross = -(target.exp() * s).sum()
    numbers = {"forward_kl": forward, "cross_entropy": cross, "student_entropy": -(log_p.exp() * log_p).sum()}
    return loss, {name: float(value) for name, value in numbers.items()}


def reference(values, samples, micro_batch):
    """float64: the sum that slime's reducer makes of our loss, its gradient by sample [L, PADDED], and sums of the
    numbers over distilled tokens."""
    leaves = [samples[i]["logits"].double().requires_grad_() for i in micro_batch]
    total, sums = torch.zeros((), dtype=torch.float64), dict.fromkeys((*NUMBERS, "count"), 0)
    for index, logits in zip(micro_batch, leaves, strict=True):
        sample = samples[index]
        divisor = 1 if values.get("calculate_per_token_loss") else max(int(sample["mask"].sum()), 1)
        for place in range(sample["length"]):
            weight = float(sample["weight"][place]) * int(sample["mask"][place])
            if weight > 0:
                row = logits[sample["total"] - sample["length"] + place - 1]
                loss, numbers = token_loss(
                    values, row, sample["lists"].rows(slice(place, place + 1)), sample["teacher_all"][place]
                )
                total = total + weight * loss / divisor
                for name, number in numbers.items():
                    sums[name] += number
                sums["count"] += 1
    gradients = torch.autograd.grad(total, leaves) if sums["count"] else [torch.zeros_like(leaf) for leaf in leaves]
    return float(total.detach()), gradients, sums
