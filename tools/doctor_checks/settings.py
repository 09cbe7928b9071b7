"""What the doctor checks: flags before a planned run's settings file before the launchers' variables before defaults.

Names, defaults and what a value may be are those of the launchers: `launch/run_plan/variables.py`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from run_plan.kinds import Variable
from run_plan.variables import VARIABLES as OF_THE_LAUNCHERS

from .result import Result, skipped, warned

_NAMES = (
    *("SLIME_DIR", "MEGATRON_LM_DIR", "STUDENT_HF", "STUDENT_TORCH_DIST", "TEACHER_MODEL", "MODELS_DIR"),
    *("PROMPT_DATA", "INPUT_KEY", "LABEL_KEY", "APPLY_CHAT_TEMPLATE", "OUTPUT_ROOT", "BACKEND", "PYTHON"),
    *("METHOD_LIST", "SEEDS", "NUM_ROLLOUT", "ROLLOUT_BATCH_SIZE", "N_SAMPLES_PER_PROMPT"),
    *("ROLLOUT_MAX_RESPONSE_LEN", "SAVE_INTERVAL", "TENSOR_PARALLEL", "TEACHER_GPU", "RAY_GPUS", "RAY_ADDRESS"),
    *("TEACHER_URL", "TEACHER_TP", "TEACHER_REPLICAS", "TEACHER_MEM_FRACTION", "TEACHER_CONTEXT_LENGTH"),
)
VARIABLES: dict[str, Variable] = {
    **{variable.name: variable for variable in OF_THE_LAUNCHERS if variable.name in _NAMES or variable.kind == "port"},
    # Two of the OPD_* variables, whose table needs torch.
    "OPD_TOPK_METRICS_K": Variable(
        "OPD_TOPK_METRICS_K", "OPD", "16", "integer", "entries of the teacher's list", least=0
    ),
    "OPD_EXACT_CMASS": Variable("OPD_EXACT_CMASS", "OPD", "0", "switch", "ask the teacher at the student's top-k"),
}


def flag(name: str) -> str:
    return "--" + name.lower().replace("_", "-")


@dataclass(frozen=True)
class Settings:
    """values: the text of every variable in VARIABLES, in its one spelling. planned_run: it is one run's, so its ports
    are final. static, servers, prompt_rows, timeout, concurrency, teacher_seconds: the flags of the same name."""

    values: Mapping[str, str]
    planned_run: bool = False
    static: bool = False
    servers: tuple[str, ...] = ()
    prompt_rows: int = 100_000
    timeout: float = 120.0
    concurrency: int = 64
    teacher_seconds: float = 300.0

    def text(self, name: str) -> str:
        return self.values[name].strip()

    def path(self, name: str) -> Path | None:
        """None where it is not set."""
        text = self.text(name)
        return Path(text).expanduser() if text else None

    def model(self, name: str) -> Path | None:
        """The same for a model, which MODELS_DIR may hold, whole or by its last part."""
        path, models = self.path(name), self.path("MODELS_DIR")
        if path and models and not path.is_absolute():
            return next((there for there in (models / path, models / path.name) if there.exists()), path)
        return path

    def number(self, name: str) -> int:
        return int(self.text(name))

    def is_on(self, name: str) -> bool:
        return self.text(name) == "1"

    def words(self, name: str) -> list[str]:
        """The words of a list that commas or blanks separate."""
        return self.text(name).replace(",", " ").split()

    def unset(self, check: str, name: str) -> Result:
        """The finding where a check needs a variable that is not set: a warning, unless only --static was asked."""
        make = skipped if self.static else warned
        return make(check, f"{name} is not set", f"set {name} or give {flag(name)}")

    @property
    def urls(self) -> tuple[str, ...]:
        """The teachers to ask: --servers, or TEACHER_URL."""
        return self.servers or tuple(self.words("TEACHER_URL"))

    @property
    def input_key(self) -> str:
        return self.text("INPUT_KEY") or "prompt"

    @property
    def local_engine(self) -> bool:
        return self.text("BACKEND") == "local"

    @property
    def runs(self) -> int:
        return 1 if self.planned_run else max(1, len(self.words("METHOD_LIST"))) * max(1, len(self.words("SEEDS")))

    @property
    def responses(self) -> int:
        """Responses of one rollout."""
        return self.number("ROLLOUT_BATCH_SIZE") * self.number("N_SAMPLES_PER_PROMPT")

    @property
    def response_tokens(self) -> int:
        """Response tokens of one rollout, every response at its full length."""
        return self.responses * self.number("ROLLOUT_MAX_RESPONSE_LEN")


def gather(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> tuple[dict[str, str], bool]:
    """(values, whether the file is one run's). Raises ValueError for a file that cannot be read or a value that a
    variable cannot have."""
    planned = read_file(file) if file else {}
    values = {}
    for name, variable in VARIABLES.items():
        given = flags.get(name)
        text = planned.get(name, environment.get(name, "")) if given is None else given
        values[name] = variable.parse(text) if text else variable.default
    return values, "RUN_NAME" in planned


def read_file(file: Path) -> dict[str, str]:
    """The variables of a settings.env (NAME=value lines quoted for the shell) or settings.json (an object)."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--settings {file}: {error.strerror}") from error
    try:
        return _from_json(text) if file.suffix == ".json" else _from_shell(text)
    except ValueError as error:
        raise ValueError(f"--settings {file}: {error}") from error


def _from_json(text: str) -> dict[str, str]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("it must be an object of variables")
    variables = data.get("variables", data)
    return {name: str(value) for name, value in variables.items() if isinstance(value, (str, int, float))}


def _from_shell(text: str) -> dict[str, str]:
    values = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.startswith("#") or value.startswith("("):  # an array repeats a variable as words
            continue
        words = shlex.split(value)
        if not equals or not name.isidentifier() or len(words) > 1:
            raise ValueError(f"line {number} is no NAME=value: {line[:60]!r}")
        values[name] = words[0] if words else ""
    return values
