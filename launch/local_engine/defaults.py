"""The engine's default sizes, steps and rates: for a run of minutes on two CPU cores."""

from dataclasses import dataclass

from .models import STUDENT, TEACHER, ModelSize


@dataclass(frozen=True)
class EngineDefaults:
    base_seed: int = 0
    problems: int = 3000
    held_out_problems: int = 100
    max_prompt_tokens: int = 160
    max_solution_tokens: int = 512
    vocab_size: int = 768

    teacher: ModelSize = TEACHER
    student: ModelSize = STUDENT
    teacher_steps: int = 700
    student_steps: int = 400
    student_problems: int = 200
    pretrain_batch: int = 8
    pretrain_seq_len: int = 256
    teacher_lr: float = 6e-3
    student_lr: float = 8e-3
    pretrain_warmup_steps: int = 40
    pretrain_betas: tuple[float, float] = (0.9, 0.95)
    pretrain_weight_decay: float = 0.1
    pretrain_grad_clip: float = 1.0

    steps: int = 16
    responses_per_step: int = 64
    micro_batch: int = 16
    max_new_tokens: int = 48
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    grad_clip: float = 1.0

    frozen_contexts: int = 100


# The generated problems are easier: after 700 steps their teacher is almost certain of every token, and a student
# as small as this one has then little to learn from it but which numbers to copy.
GENERATED_PROBLEM_DEFAULTS = EngineDefaults(teacher_steps=300)
