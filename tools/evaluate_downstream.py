"""GSM8K, MATH-hard and AIME for a trained student, by EleutherAI's lm-evaluation-harness (installed apart).

python tools/evaluate_downstream.py --model DIR --tasks gsm8k,math_hard,aime --output OUT
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from downstream import harness
from downstream.benchmarks import ANY_TASK, HARNESS_TASKS, parse_benchmarks
from downstream.evaluation import evaluate
from downstream.harness import BACKENDS, INSTALL, Harness

PROG = "evaluate_downstream"
TASK_HELP = "\n".join(f"  {name:10} {task}" for name, task in HARNESS_TASKS.items())
EPILOG = f"""\
tasks, and what the harness calls them:
{TASK_HELP}
  {ANY_TASK}NAME   any other task of the harness, or one of --include-path

Each benchmark is a run of the harness in OUT/TASK; OUT/downstream.json and downstream.csv hold task, metric, value,
standard error, number of problems, version of the harness and command. Called again, a benchmark that finished with
the same command, harness and model files is not run again.
Install the harness where it does not disturb slime's packages, and name its Python: pip install {INSTALL}

exit codes: 0 every benchmark has a result, 1 one has none (the others are written), 2 a mistake in the call
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROG, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of a Hugging Face model")
    parser.add_argument("--tasks", default="gsm8k,math_hard,aime", help="benchmarks (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder of the results")
    parser.add_argument("--aime-limit", type=int, default=30, help="problems of AIME asked (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="problems of every benchmark: for trying out, not for reporting")
    parser.add_argument("--backend", choices=BACKENDS, default="hf", help="what generates (default: %(default)s)")
    parser.add_argument("--device", help="of --backend hf: cuda:0, cpu (default: the harness chooses)")
    parser.add_argument("--batch-size", default="auto", help="auto, auto:N or a number (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of the harness and its examples (default: %(default)s)")
    parser.add_argument("--chat-template", action="store_true", help="wrap the prompts in the model's chat template")
    parser.add_argument(
        "--model-arg", action="append", default=[], metavar="NAME=VALUE", help="of the backend: tensor_parallel_size=2"
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that the model's folder brings")
    parser.add_argument("--include-path", type=Path, metavar="DIR", help="folder of more task files of the harness")
    parser.add_argument("--log-samples", action="store_true", help="keep every answer of the model beside the results")
    parser.add_argument("--python", default=sys.executable, help="the Python that has lm_eval (default: this one)")
    parser.add_argument("--force", action="store_true", help="run finished benchmarks again")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and run and write nothing")
    return parser


def model_arguments(pairs: list[str]) -> dict:
    """NAME=VALUE, the value as JSON where it is JSON (2, true), else as text. Raises ValueError."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--model-arg {pair}: must be NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    try:
        model = options.model.expanduser().resolve()
        if not (model / "config.json").is_file():
            raise ValueError(f"--model {options.model} is no Hugging Face model: no config.json in it")
        benchmarks = parse_benchmarks(options.tasks, options.limit, options.aime_limit)
        how = Harness(
            python=options.python,
            model=model,
            backend=options.backend,
            device=options.device,
            batch_size=options.batch_size,
            seed=options.seed,
            model_arguments=model_arguments(options.model_arg),
            chat_template=options.chat_template,
            trust_remote_code=options.trust_remote_code,
            log_samples=options.log_samples,
            include_path=options.include_path and options.include_path.expanduser().resolve(),
        )
        output = options.output.expanduser().absolute()
        if options.dry_run:
            for benchmark in benchmarks:
                print(shlex.join(how.command(benchmark, output / benchmark.name.replace(":", "-") / "harness")))
            return 0
        done = evaluate(how, benchmarks, output, harness.version(options.python), options.force)
    except (ValueError, OSError) as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted; finished benchmarks are kept", file=sys.stderr)
        return 130
    print(f"wrote {output / 'downstream.json'} and downstream.csv")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
