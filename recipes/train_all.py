"""Run a whole pipeline: data, tokenizer, memory plan, training, evaluation and card.

    python recipes/train_all.py [PIPELINE] [--out FOLDER] [--list] [--from STAGE] [--only STAGE]

PIPELINE is a name in recipes/pipelines (default: nano) or a YAML file of stages. The same command again goes on where
the last one stopped; stages that have finished are skipped while nothing that they depend on has changed. Ctrl-C lets
the running stage save. FOLDER, by default outputs/pipeline-NAME, gets pipeline.json, logs/ and what the stages write.
"""

import argparse
import shlex
import sys
from pathlib import Path

from modeling_astrobio.training.errors import UserError
from modeling_astrobio.training.hardware import make_output_safe
from modeling_astrobio.training.stage_runner import StageRunner
from modeling_astrobio.training.stages import load_pipeline


HERE = Path(__file__).resolve().parent


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="nano", help="name in recipes/pipelines, or a YAML file")
    parser.add_argument("--out", type=Path, help="folder of the run (default: outputs/pipeline-NAME)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--list", action="store_true", help="show the stages and what would run; run nothing")
    chosen.add_argument("--from", dest="again_from", metavar="STAGE", help="run STAGE and all that need it again")
    chosen.add_argument("--only", metavar="STAGE", help="run STAGE alone, whether it has finished or not")
    return parser.parse_args(arguments)


def show(runner: StageRunner) -> None:
    """Print each stage with its status, what it needs, and why it would run."""
    reasons = runner.outlook()
    width = max(len(stage.name) for stage in runner.pipeline.stages)
    for stage in runner.pipeline.stages:
        reason = reasons[stage.name]
        plan = "would be skipped" if reason is None else f"would run: {reason}"
        needs = f"; needs {', '.join(stage.needs)}" if stage.needs else ""
        print(f"{stage.name:{width}}  {runner.status(stage):9} {plan}{needs}")


def main(arguments: list[str] | None = None) -> int:
    make_output_safe()
    parsed = parse_arguments(arguments)
    try:
        pipeline = load_pipeline(parsed.pipeline, parsed.out, HERE / "pipelines", HERE.parent)
        runner = StageRunner(pipeline, lambda line: print(line, flush=True))
        if parsed.list:
            show(runner)
            return 0
        status = runner.run(parsed.only, parsed.again_from)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if status:
        again = [
            "python",
            "recipes/train_all.py",
            parsed.pipeline,
            *(["--out", str(parsed.out)] if parsed.out else []),
        ]
        print(f"continue with: {shlex.join(again)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
