"""Prove, before a long run, that it will run: on its own recipe, data and machine.

    python recipes/preflight.py RECIPE [section.key=value ...] [--strategy NAME] [--days 28]
        [--launch "accelerate launch --config_file recipes/hardware/fsdp2.yaml"]

Every check is executed, some in short runs of the training script itself, one of which is killed and resumed. Prints
a table of PASS, FAIL and NOT TESTED with the evidence for each line, and the list that a person signs before the
start; writes both as preflight.json and preflight.md. Exit status 0 without a FAIL, 1 with one, 2 if nothing could be
checked.
"""

import argparse
import shlex
import sys
from pathlib import Path

from transformers.utils.logging import set_verbosity_error

from modeling_astrobio.training.errors import UserError
from modeling_astrobio.training.hardware import make_output_safe
from modeling_astrobio.training.preflight.execute import run_preflight
from modeling_astrobio.training.preflight.outcome import FAIL
from modeling_astrobio.training.preflight.report import redact
from modeling_astrobio.training.preflight.source import Source


HERE = Path(__file__).resolve().parent
INTERRUPTED = 130


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="as for the training script: a name, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument("--strategy", help="name in recipes/strategies, or a file: laid over the recipe")
    parser.add_argument("--script", type=Path, default=HERE / "train_llm.py", help="training script to start")
    parser.add_argument(
        "--launch", default="", metavar="COMMAND", help="what starts the script (default: this Python)"
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default: outputs/preflight-RECIPE)")
    parser.add_argument("--only", default="", metavar="CHECK,CHECK", help="names or groups of checks (default: all)")
    parser.add_argument("--steps", type=int, default=100, help="length of the short runs")
    parser.add_argument("--days", type=float, help="time that the run may take")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    make_output_safe()
    # A model is built several times; what transformers says of each is of no use here.
    set_verbosity_error()
    parsed = parse_arguments(arguments)
    out = parsed.out or Path("outputs") / f"preflight-{Path(parsed.recipe).stem}"
    command = shlex.join(["python", "recipes/preflight.py", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        report = run_preflight(
            Source(str(parsed.script), parsed.recipe, tuple(parsed.overrides), parsed.strategy),
            out,
            command=command,
            launch=shlex.split(parsed.launch),
            only=[name.strip() for name in parsed.only.split(",") if name.strip()],
            steps=parsed.steps,
            days=parsed.days,
        )
    except UserError as error:
        print(redact(f"error: {' '.join(str(error).split())}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; what was found so far is in {out}", file=sys.stderr)
        return INTERRUPTED
    return 1 if report.status == FAIL else 0


if __name__ == "__main__":
    sys.exit(main())
