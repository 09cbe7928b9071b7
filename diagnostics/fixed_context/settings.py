"""What an evaluation of a context bank is asked for, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .models import DTYPES, check_device

BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536}


@dataclass(frozen=True)
class EvalSettings:
    """The flags of eval_fixed_context_bank. teacher: a directory, a hub name, or URLs of SGLang servers. Raises
    ValueError, naming the flag, on what is out of range."""

    context_bank: Path
    student: str
    teacher: str
    output: Path
    baseline_metrics: Path | None = None
    topk: int = 16
    extra_topk: tuple[int, ...] = ()
    max_samples: int | None = None
    max_response_tokens: int | None = None
    student_device: str = "cpu"
    teacher_device: str = "cpu"
    dtype: str = "auto"
    trust_remote_code: bool = False
    allow_tokenizer_mismatch: bool = False
    teacher_tokenizer: str | None = None
    teacher_cache: Path | None = None
    exact_cmass: bool = False
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("topk", "max_samples", "max_response_tokens", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value} must be 1 or more")
        if len({self.topk, *self.extra_topk}) < 1 + len(self.extra_topk) or any(k < 1 for k in self.extra_topk):
            shown = ",".join(map(str, self.extra_topk))
            raise ValueError(f"--extra-topk {shown}: give different numbers above 0, other than --topk {self.topk}")
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.output.suffix != ".parquet":
            raise ValueError(f"--output {self.output}: metrics are written as .parquet")
        check_device("--student-device", self.student_device)
        if self.exact_cmass and not self.teacher_is_server:
            raise ValueError("--exact-cmass is for a teacher behind a server; with a model C is exact anyway")
        if not self.teacher_is_server:
            check_device("--teacher-device", self.teacher_device)

    @property
    def teacher_is_server(self) -> bool:
        return self.teacher.startswith(("http://", "https://"))

    @property
    def ks(self) -> tuple[int, ...]:
        return (self.topk, *self.extra_topk)

    def batch(self, device: str) -> int:
        """Tokens of a forward pass on this device, padding among them."""
        return self.batch_tokens or BATCH_TOKENS["cpu" if device == "cpu" else "cuda"]

    @property
    def cache_directory(self) -> Path:
        return self.teacher_cache or self.context_bank.with_name(f"{self.context_bank.name}.teacher")
