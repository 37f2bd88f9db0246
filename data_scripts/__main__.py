"""Command line of the builders: `python -m data_scripts {list,build}`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.registry import BUILDERS, builder_named


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program's name; `sys.argv` if omitted.

    Returns:
        Exit status: 0, or 2 if the data set or the folder cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m data_scripts", description="Build data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the data sets")
    build = commands.add_parser("build", help="write a data set as a folder that load_dataset opens")
    build.add_argument("name", help="data set, see list")
    build.add_argument("--out", type=Path, required=True, help="new or empty folder to write")
    build.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    parsed = parser.parse_args(arguments)
    if parsed.command == "list":
        for name, builder in sorted(BUILDERS.items()):
            print(f"{name}: {builder.card.summary}")
        return 0
    try:
        builder = builder_named(parsed.name)
        folder = write_hub_folder(builder.build(parsed.seed), builder.card, parsed.out)
    except (ValueError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{parsed.name} written to {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
