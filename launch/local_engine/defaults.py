"""The engine's default sizes, steps and rates: chosen on GSM8K for a run of minutes on two CPU cores."""

from dataclasses import dataclass

from .models import STUDENT, TEACHER, ModelSize


@dataclass(frozen=True)
class EngineDefaults:
    base_seed: int = 0
    threads: int = 2

    problems: int = 3000
    held_out_problems: int = 100
    max_prompt_tokens: int = 160
    vocab_size: int = 768

    teacher: ModelSize = TEACHER
    student: ModelSize = STUDENT
    teacher_steps: int = 700
    student_steps: int = 700
    pretrain_batch: int = 8
    pretrain_seq_len: int = 256
    pretrain_lr: float = 7e-3
    pretrain_warmup_steps: int = 40
    pretrain_betas: tuple[float, float] = (0.9, 0.95)
    pretrain_weight_decay: float = 0.1
    pretrain_grad_clip: float = 1.0

    opd_steps: int = 12
    responses_per_step: int = 64
    max_new_tokens: int = 48
    opd_lr: float = 1e-3
    opd_betas: tuple[float, float] = (0.9, 0.95)
    opd_weight_decay: float = 0.0
    opd_grad_clip: float = 1.0

    frozen_contexts: int = 100
