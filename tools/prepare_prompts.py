"""Prompts in slime's form: `prepare_prompts.py --input FILE --output FILE`, deduplicated, with a held-out shard."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "slime_patch"))

from prompt_files.preparing import HELD_OUT, TRAIN, Prepared, Settings, prepare
from prompt_files.records import INPUT_KEYS, LABEL_KEYS, LABELS, Form
from prompt_files.shards import held_out_before, parse_held_out
from prompt_files.writing import check_outputs, write_shards

EPILOG = """\
The output is for slime's --prompt-data with --input-key prompt --label-key label: text, or with --as-messages,
--system or a chat in the source a list of messages, which needs slime's --apply-chat-template. metadata carries the
source's own metadata and prompt_id, the beginning of the prompt's content hash.

Two prompts are the same when they differ in white space and Unicode's composed forms only; the first stays.

--held-out takes a number or a share. Who is held out depends on a prompt's content and --seed, not on its place. With
a share (0.05) nothing that is appended later changes sides. A number takes the lowest hashes of all prompts; after
appending, --keep-held-out OLD.index.json keeps the earlier choice.

OUTPUT.index.json has source, line, hash and shard of every row, the settings, and the sha256 of the outputs.

exit codes: 0 written; 1 could not be written; 2 refused, broken lines without --skip-broken, or wrong usage

examples:
  python tools/prepare_prompts.py --input gsm8k/train.jsonl --label-from gsm8k --output train.jsonl --held-out 300
  python tools/prepare_prompts.py --input hub:openai/gsm8k --hub-config main --label-from gsm8k --output train.parquet
"""
_LINES_SHOWN = 10


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="prepare_prompts.py",
        description="Bring prompts into slime's form, deduplicated, with a held-out shard and an index of both.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--input", nargs="+", required=True, metavar="FILE", help=".jsonl or .parquet files, or hub:NAME")
    add("--output", type=Path, required=True, metavar="FILE", help=".jsonl or .parquet to train on")
    add("--input-key", help=f"key of the prompt (default: the first of {', '.join(INPUT_KEYS)})")
    add("--label-key", help=f"key of the label (default: the first of {', '.join(LABEL_KEYS)}, if there is one)")
    add("--label-from", choices=LABELS, default="whole", help="gsm8k: what follows #### (default: the whole label)")
    add("--prompt-template", metavar="TEXT", help="text around {prompt}")
    add("--system", metavar="TEXT", help="a system message before the prompt; makes messages")
    add("--as-messages", action="store_true", help="write prompts as lists of messages")
    add("--held-out", metavar="N", help="number of prompts, or share of them, that are not trained on")
    add("--held-out-output", type=Path, metavar="FILE", help="where they go (default: OUTPUT's name with .held_out)")
    add("--keep-held-out", type=Path, metavar="INDEX", help="an earlier index file: what it held out stays so")
    add("--seed", type=int, default=42, help="another seed holds other prompts out (default: %(default)s)")
    add("--max-prompt-tokens", type=int, metavar="N", help="leave longer prompts out, counted in the chat template")
    add("--tokenizer", metavar="NAME", help="tokenizer that counts them, folder or hub name")
    add("--hub-config", metavar="NAME", help="configuration of a hub dataset")
    add("--hub-split", default="train", metavar="NAME", help="split of a hub dataset (default: %(default)s)")
    add("--skip-broken", action="store_true", help="count empty prompts and broken lines, and go on")
    add("--force", action="store_true", help="write over outputs that are there")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        return _run(options)
    except ValueError as error:
        print(f"prepare_prompts.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"prepare_prompts.py: error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    output, index = options.output, options.output.with_name(f"{options.output.name}.index.json")
    if options.held_out is None and (options.held_out_output or options.keep_held_out):
        raise ValueError("--held-out-output and --keep-held-out go with --held-out")
    held_out = options.held_out_output or output.with_name(f"{output.stem}.held_out{output.suffix}")
    paths = [output, held_out] if options.held_out is not None else [output]
    check_outputs([*paths, index], options.input, options.force)
    prepared = prepare(options.input, _settings(options))
    for entry in prepared.broken[:_LINES_SHOWN]:
        print(f"broken: {entry.row.where}: {entry.note}", file=sys.stderr)
    if prepared.broken and not options.skip_broken:
        count = len(prepared.broken)
        raise ValueError(f"{count} broken line{'s' if count > 1 else ''}; --skip-broken leaves them out")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    shards = {path: prepared.prompts(shard) for path, shard in zip(paths, (TRAIN, HELD_OUT), strict=False)}
    write_shards(shards, index, _index(options, prepared))
    _print_report(prepared, shards, options)
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    form = Form(options.prompt_template, options.system, options.as_messages, options.label_from)
    return Settings(
        input_key=options.input_key,
        label_key=options.label_key,
        form=form,
        held_out=None if options.held_out is None else parse_held_out(options.held_out),
        kept=frozenset(held_out_before(options.keep_held_out)) if options.keep_held_out else frozenset(),
        seed=options.seed,
        max_prompt_tokens=options.max_prompt_tokens,
        tokenizer=options.tokenizer,
        hub_config=options.hub_config,
        hub_split=options.hub_split,
    )


def _index(options: argparse.Namespace, prepared: Prepared) -> dict:
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in sorted(vars(options).items())
        if name != "force"
    }
    return {
        "settings": settings,
        "counts": prepared.counts() | {"duplicates_with_another_label": prepared.labels_differ},
        "prompts": [entry.line() for entry in prepared.entries],
    }


def _print_report(prepared: Prepared, shards: dict, options: argparse.Namespace) -> None:
    for path, prompts in shards.items():
        print(f"{path}: {len(prompts):,} prompts")
    counts = prepared.counts()
    if counts["duplicate"]:
        others = f", {prepared.labels_differ:,} of them with another label" if prepared.labels_differ else ""
        print(f"{counts['duplicate']:,} duplicates left out{others}")
    if counts["too_long"]:
        print(f"{counts['too_long']:,} prompts of more than {options.max_prompt_tokens:,} tokens left out")
    if counts["broken"]:
        print(f"{counts['broken']:,} broken lines left out")
    first = next(iter(shards.values()))
    if any(isinstance(prompt.prompt, list) for prompt in first):
        print("the prompts are messages: slime needs --apply-chat-template")


if __name__ == "__main__":
    sys.exit(main())
