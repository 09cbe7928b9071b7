"""A slime checkout whose converters are stand-ins that record their arguments, a checkpoint and a tiny HF model."""

import contextlib
import importlib
import io
import json
import shlex
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
TENSORS = {
    "model.embed_tokens.weight": np.arange(32, dtype=np.float32).reshape(8, 4),
    "model.norm.weight": np.ones(4, np.float32),
    "lm_head.weight": np.zeros((8, 4), np.float32),
}
INDEX = "model.safetensors.index.json"
SHARD = "model-00000-of-00001.safetensors"
WRITE_INDEX = (
    f"(out / '{INDEX}').write_text(json.dumps({{{{'weight_map': dict.fromkeys({{}}, '{SHARD}')}}}}))\n"  # for a format
)

# What both converters begin with; a test appends what goes wrong in them.
RECORD = """
import json, os, pathlib, shutil, sys, time
here = pathlib.Path(__file__).parent
(here / "called.json").write_text(json.dumps({"argv": sys.argv[1:], "path": os.environ["PYTHONPATH"]}))
value = lambda flag: pathlib.Path(sys.argv[sys.argv.index(flag) + 1])
"""
TO_HF = (
    RECORD
    + """
origin, out = value("--origin-hf-dir"), value("--output-dir")
if out.exists():
    sys.exit("the output exists")
out.mkdir()
for path in origin.iterdir():
    if path.name != "model.safetensors":
        shutil.copy(path, out / path.name)
shutil.copy(origin / "model.safetensors", out / "model-00000-of-00001.safetensors")
"""
    + WRITE_INDEX.format("json.loads((origin / 'model.safetensors.names').read_text())")
)
TO_TORCH_DIST = (
    RECORD
    + """
release = value("--save") / "release"
release.mkdir(parents=True)
(release / ".metadata").write_bytes(b"x __0_0.distcp y")
for name in ("common.pt", "__0_0.distcp"):
    (release / name).write_bytes(b"data")
(value("--save") / "latest_checkpointed_iteration.txt").write_text("release")
"""
)


class Trees:
    """Folders under `root`, whose name holds what breaks careless quoting."""

    def __init__(self, root):
        self.root = root / 'it\'s "a" $HOME; place'
        self.slime, self.megatron, self.origin = (self.root / name for name in ("slime", "Megatron-LM", "origin"))
        self.checkpoint, self.output = self.root / "checkpoints", self.root / "out, put" / "hf"
        for folder in (self.slime / "tools", self.slime / "slime", self.slime / "scripts" / "models", self.origin):
            folder.mkdir(parents=True)
        (self.megatron / "megatron").mkdir(parents=True)
        self.tool("convert_torch_dist_to_hf.py", TO_HF)
        self.tool("convert_torch_dist_to_hf_parallel.py", TO_HF)
        self.tool("convert_hf_to_torch_dist.py", TO_TORCH_DIST)
        (self.origin / "config.json").write_text('{"vocab_size": 8}')
        (self.origin / "tokenizer.json").write_text("{}")
        (self.origin / "model.safetensors.names").write_text(json.dumps(list(TENSORS)))
        save_file(TENSORS, self.origin / "model.safetensors")

    def tool(self, name, text):
        (self.slime / "tools" / name).write_text(text, encoding="utf-8")

    def spoil_to_hf(self, code):
        """Append code to the converter: `out` is its output folder, `origin` the model."""
        self.tool("convert_torch_dist_to_hf.py", TO_HF + code)

    def iteration(self, name):
        """A checkpoint as torch lays it out: two data files, named in .metadata."""
        folder = self.checkpoint / name
        folder.mkdir(parents=True)
        (folder / ".metadata").write_bytes(b"\x80\x04 __0_0.distcp \x94 __0_1.distcp \x94 __0_1.distcp")
        for file in ("common.pt", "__0_0.distcp", "__0_1.distcp"):
            (folder / file).write_bytes(b"data")
        (self.checkpoint / "latest_checkpointed_iteration.txt").write_text(
            name.removeprefix("iter_").lstrip("0") or "0"
        )
        return folder

    def command(self, program, *arguments):
        places = ["--slime-dir", str(self.slime), "--megatron-dir", str(self.megatron)]
        return [sys.executable, str(TOOLS / program), *places, *map(str, arguments)]

    def run(self, program, *arguments):
        """Exit code, standard output and standard error of the command, run in this process."""
        printed, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            try:
                code = importlib.import_module(program.removesuffix(".py")).main(self.command(program, *arguments)[2:])
            except SystemExit as stop:  # argparse
                code = stop.code
        return code, printed.getvalue(), said.getvalue()

    def to_hf(self, *arguments):
        places = ["--origin-hf-dir", self.origin, "--output-dir", self.output]
        return self.run("convert_megatron_checkpoint_to_hf.py", *places, *arguments)

    def called(self):
        """The arguments a stand-in was given, and its PYTHONPATH."""
        return json.loads((self.slime / "tools" / "called.json").read_text())

    def untouched(self):
        """Nothing was written where the output goes, not even beside it."""
        return not self.output.parent.exists() or not any(self.output.parent.iterdir())


def shell_words(line):
    """What a shell would make of a printed command: variables, words."""
    words = shlex.split(line)
    variables = {}
    while "=" in words[0]:
        name, _, variables[name] = words.pop(0).partition("=")
    return variables, words
