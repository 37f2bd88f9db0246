"""Command line of the builders: `python -m data_scripts {list,build,check,push}`."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.build_command import add_build_arguments, build_named, pairs
from data_scripts.harness.errors import BuildError
from data_scripts.harness.push import push_folder
from data_scripts.registry import ARCHIVES, BUILDERS, archive_named, builder_named, needs_extra


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program's name; `sys.argv` if omitted.

    Returns:
        Exit status: 0; 1 if a check found something wrong; 2 if the data set or the folder cannot be used; 130 if
        interrupted.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    # cf_xarray gives units of its own the names that pint has, and pint warns of each.
    logging.getLogger("pint").setLevel(logging.ERROR)
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        return status
    except (ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = ". Make room and run the same command again; it goes on with what is kept." if full else ""
        print(f"error: {error}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_scripts", description="Build data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the data sets").set_defaults(run=_list)
    build = commands.add_parser("build", help="write a data set as a folder that load_dataset opens")
    add_build_arguments(build)
    build.set_defaults(run=build_named)
    check = commands.add_parser("check", help="ask archives one small question each")
    check.add_argument("names", nargs="*", metavar="NAME", help="archives; all of them if none is named")
    check.add_argument(
        "--mirror", action="append", default=[], metavar="ORIGIN=ORIGIN", help="ask the second instead of the first"
    )
    check.set_defaults(run=_check)
    push = commands.add_parser("push", help="upload a built folder to the Hub; HF_TOKEN holds the token")
    push.add_argument("folder", type=Path, help="what build wrote")
    push.add_argument("repository", help="owner/name; made if absent")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--allow-below-gate", action="store_true", help="upload although a quality gate failed")
    push.set_defaults(run=_push)
    return parser


def _list(parsed: argparse.Namespace) -> int:
    for name in sorted([*ARCHIVES, *BUILDERS]):
        try:
            print("\n".join(_archive_lines(name) if name in ARCHIVES else _builder_lines(name)))
        except BuildError as error:
            print(f"{name}: {error}")
    return 0


def _builder_lines(name: str) -> list[str]:
    builder = builder_named(name)
    made_from = [f"  made from: {', '.join(builder.sources)}"] if builder.sources else []
    return [f"{name}: {builder.card.summary}", *made_from]


def _archive_lines(name: str) -> list[str]:
    archive = archive_named(name)
    with needs_extra(name):
        from data_scripts.harness.archive_card import reader_text
    tables = [f"{table.name}{'' if table.default else ' (if named)'}" for table in archive.tables]
    variables = [f"{' and '.join(each.variables)} ({each.purpose})" for each in archive.credentials]
    return [
        f"{name}: {archive.title}, {archive.homepage}",
        f"  tables: {', '.join(tables)}",
        f"  licence: {archive.license_name or archive.license}, {archive.license_link}",
        *([f"  note on the licence: {archive.license_note}"] if archive.license_note else []),
        f"  size: {archive.size}",
        f"  variables: {'; '.join(variables) or 'none'}",
        f"  reader: {reader_text(archive)}",
    ]


def _check(parsed: argparse.Namespace) -> int:
    archives = [archive_named(name) for name in parsed.names or sorted(ARCHIVES)]
    with needs_extra("check"):
        from data_scripts.harness.check import check_archives
    results = check_archives(archives, os.environ, mirrors=pairs(parsed.mirror, "--mirror"))
    for result in results:
        reachable = "reachable" if result.reachable else "not reachable"
        print(f"{result.source}: {reachable}; credentials: {result.credentials}; schema: {result.schema}")
        if result.detail:
            print(f"  {result.detail}")
    return 0 if all(result.passed for result in results) else 1


def _push(parsed: argparse.Namespace) -> int:
    address = push_folder(
        parsed.folder,
        parsed.repository,
        os.environ,
        private=parsed.private,
        below_gate=parsed.allow_below_gate,
    )
    print(f"{parsed.folder} uploaded: {address}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
