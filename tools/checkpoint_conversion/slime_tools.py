"""slime's converters: where they are in a checkout, and the commands that run them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .command_line import Command

TO_TORCH_DIST = "convert_hf_to_torch_dist.py"
TO_HF = "convert_torch_dist_to_hf.py"
TO_HF_PARALLEL = "convert_torch_dist_to_hf_parallel.py"

# The script may set other variables, print, or source its neighbours: only the array's words reach stdout.
READ_MODEL_ARGS = 'source "$1" >&2; printf "%s\\0" "${MODEL_ARGS[@]}"'


@dataclass(frozen=True)
class Slime:
    """A slime checkout, the Megatron-LM beside it (None: installed) and the Python that has their packages."""

    path: Path
    megatron: Path | None
    python: str

    @classmethod
    def from_options(cls, slime_dir: str | None, megatron_dir: str | None, python: str) -> Slime:
        """Raises ValueError where a folder is not what its flag says."""
        if not slime_dir:
            raise ValueError("which slime checkout? give --slime-dir DIR or set SLIME_DIR")
        slime = Path(slime_dir).expanduser().resolve()
        if not (slime / "tools").is_dir() or not (slime / "slime").is_dir():
            raise ValueError(f"--slime-dir {slime_dir} is no slime checkout: no tools/ and slime/ in it")
        megatron = Path(megatron_dir).expanduser().resolve() if megatron_dir else None
        if megatron and not (megatron / "megatron").is_dir():
            raise ValueError(f"--megatron-dir {megatron_dir} is no Megatron-LM checkout: no megatron/ in it")
        return cls(slime, megatron, python)

    def tool(self, name: str) -> str:
        """The path of one of slime's tools. Raises ValueError where this checkout does not have it."""
        path = self.path / "tools" / name
        if not path.is_file():
            raise ValueError(f"slime's tools/{name} is not in {self.path}; v0.3.0 and later have it")
        return str(path)

    def variables(self) -> dict[str, str]:
        """PYTHONPATH with both checkouts before what is there already, and the order of kernels Megatron asks for."""
        folders = [*([self.megatron] if self.megatron else []), self.path, os.environ.get("PYTHONPATH")]
        python_path = os.pathsep.join(str(folder) for folder in folders if folder)
        return {"PYTHONPATH": python_path, "CUDA_DEVICE_MAX_CONNECTIONS": "1"}

    def model_script(self, name: str) -> Path:
        """scripts/models/NAME.sh of the checkout, or the script at a path. Raises ValueError, with the names it has."""
        models = self.path / "scripts" / "models"
        for path in (models / f"{name}.sh", models / name, Path(name).expanduser()):
            if path.is_file():
                return path.resolve()
        known = sorted(path.stem for path in models.glob("*.sh"))
        raise ValueError(f"--model-script {name}: neither a file nor one of {models}: {', '.join(known)}")

    def to_torch_dist(self, model: list[str], hf: Path, output: Path, processes: int, extra: list[str]) -> Command:
        """HF -> torch_dist, the layers spread over `processes` GPUs by pipeline stages."""
        tool = self.tool(TO_TORCH_DIST)
        launcher = [self.python]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        places = ["--hf-checkpoint", str(hf), "--save", str(output)]
        return Command([*launcher, tool, *model, *places, *extra], self.variables())

    def to_hf(self, iteration: Path, origin: Path, output: Path, parallel: bool, extra: list[str]) -> Command:
        """torch_dist -> HF on the CPU, with the tokenizer and the configuration of origin."""
        tool = self.tool(TO_HF_PARALLEL if parallel else TO_HF)
        places = ["--input-dir", str(iteration), "--origin-hf-dir", str(origin), "--output-dir", str(output)]
        return Command([self.python, tool, *places, *extra], self.variables())


def model_arguments(script: Path) -> list[str]:
    """The words of MODEL_ARGS after bash has sourced the script. Raises ValueError when it fails or sets none."""
    clean = {name: value for name, value in os.environ.items() if name not in ("BASH_ENV", "MODEL_ARGS")}
    shell = ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", READ_MODEL_ARGS, "model_args", str(script)]
    done = subprocess.run(shell, capture_output=True, env=clean, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise ValueError(f"{script} cannot be sourced: {said[-1]}")
    words = [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
    if words in ([], [""]):
        raise ValueError(f"{script} sets no MODEL_ARGS")
    return words
