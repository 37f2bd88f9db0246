"""The command `build`: an archive, or a data set derived from others."""

import argparse
import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.registry import ARCHIVES, BUILDERS, archive_named, builder_named, needs_extra


if TYPE_CHECKING:
    from data_scripts.harness.build import BuildOptions, BuildReport


__all__ = ["add_build_arguments", "build_named", "pairs"]

DEFAULT_STORE = "~/.cache/modeling_astrobio/archives"


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; those that do not fit the data set are refused when it is built."""
    parser.add_argument("name", help="archive or data set, see list")
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder to write")
    derived = parser.add_argument_group("data sets made here")
    derived.add_argument("--seed", type=int, help="seed of everything random (default 0)")
    derived.add_argument(
        "--from-folder", action="append", metavar="SOURCE=DIR", help="built folder of a source that it is made from"
    )
    archives = parser.add_argument_group("archives")
    archives.add_argument("--config", action="append", metavar="TABLE", help="table; those built by default if none")
    archives.add_argument("--limit", type=int, help="most rows of each table")
    archives.add_argument("--since", type=_day, metavar="DAY", help="changed on or after a day")
    archives.add_argument("--release", help="release of the archive")
    archives.add_argument("--set", action="append", metavar="OPTION=VALUE", help="option of a table")
    archives.add_argument("--offline", action="store_true", default=None, help="build from the store alone")
    archives.add_argument(
        "--from", dest="from_files", nargs="+", type=Path, metavar="FILE", help="build from downloaded files alone"
    )
    archives.add_argument("--max-age-days", type=float, metavar="DAYS", help="ask again for what is older")
    archives.add_argument(
        "--allow-below-gate", action="store_true", default=None, help="build although a gate or a request fails"
    )
    archives.add_argument("--processes", type=int, help="answers read at once (default 1)")
    archives.add_argument("--engine", choices=("processes", "ray", "dask"), help="what reads them")
    archives.add_argument("--mirror", action="append", metavar="ORIGIN=ORIGIN", help="ask the second for the first")
    archives.add_argument("--identity", type=Path, metavar="DIR", help="built folder of object_identity")
    archives.add_argument("--compare-with", type=Path, metavar="DIR", help="built folder of exoplanets_org")
    archives.add_argument("--store", type=Path, help=f"what is kept; ASTROBIO_STORE, or {DEFAULT_STORE}")


def build_named(parsed: argparse.Namespace) -> int:
    """Build what the arguments name and say what came of it.

    Raises:
        ValueError: If it cannot be built.
        FileExistsError: If the folder has content.
    """
    given = {name for name, value in vars(parsed).items() if value is not None}
    given -= {"command", "run", "name", "out"}
    if parsed.name in ARCHIVES:
        _refuse(parsed.name, sorted(given & {"seed", "from_folder"}))
        archive = archive_named(parsed.name)
        # The data sets made here need no package of the extra.
        with needs_extra(parsed.name):
            from data_scripts.harness.build import build_archive
        print(_summary(parsed.name, build_archive(archive, parsed.out, _options(parsed))))
        return 0
    if parsed.name not in BUILDERS:
        raise BuildError(
            f"name must be one of {', '.join(sorted([*ARCHIVES, *BUILDERS]))}; got {parsed.name!r}. "
            "See python -m data_scripts list."
        )
    builder = builder_named(parsed.name)
    _refuse(parsed.name, sorted(given - {"seed"} - ({"from_folder"} if builder.sources else set())))
    inputs = {name: Path(folder) for name, folder in pairs(parsed.from_folder or (), "--from-folder").items()}
    if builder.sources and not (inputs and set(inputs) <= set(builder.sources)):
        raise BuildError(
            f"--from-folder must name folders of {', '.join(builder.sources)} for {parsed.name}; got "
            f"{', '.join(inputs) or 'none'}. Pass --from-folder NAME=DIR."
        )
    folder = write_hub_folder(builder.build(inputs, parsed.seed or 0), builder.card, parsed.out)
    print(f"{parsed.name} written to {folder}")
    return 0


def pairs(texts: Sequence[str], argument: str) -> dict[str, str]:
    """Read texts of the form `name=value`.

    Raises:
        BuildError: If one is not, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            raise BuildError(f"{argument} must be NAME=VALUE, each name once; got {text!r}.")
        found[name] = value
    return found


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"it must be a day such as 2024-02-29; got {text!r}") from None


def _refuse(name: str, arguments: Sequence[str]) -> None:
    if arguments:
        flags = ", ".join(f"--{'from' if each == 'from_files' else each.replace('_', '-')}" for each in arguments)
        raise BuildError(f"{name} has no use for {flags}. Leave that out.")


def _options(parsed: argparse.Namespace) -> "BuildOptions":
    from data_scripts.harness.build_options import BuildOptions

    store = parsed.store or Path(os.environ.get("ASTROBIO_STORE", DEFAULT_STORE))
    return BuildOptions(
        store=store.expanduser(),
        configs=tuple(parsed.config or ()),
        limit=parsed.limit,
        since=parsed.since,
        release=parsed.release,
        options=pairs(parsed.set or (), "--set"),
        offline=bool(parsed.offline),
        from_files=tuple(parsed.from_files or ()),
        max_age_days=parsed.max_age_days,
        allow_below_gate=bool(parsed.allow_below_gate),
        processes=1 if parsed.processes is None else parsed.processes,
        engine=parsed.engine or "processes",
        mirrors=pairs(parsed.mirror or (), "--mirror"),
        identity=parsed.identity,
        compare_with=parsed.compare_with,
        environment=os.environ,
    )


def _summary(name: str, report: "BuildReport") -> str:
    from data_scripts.harness.quality.gates import grade_of

    lines = [f"{name} written to {report.folder}: {report.fetched} answers fetched, {report.kept} kept before"]
    for each in report.quality.tables:
        table = each.table
        counts = f"{table.rows} rows, {table.tallies.rejected} rejected, {table.duplicates} duplicate"
        lines.append(f"  {each.config.name}: {counts}; quality {grade_of(each.scores.overall)}")
    lines += [f"  gate failed: {gate}" for gate in report.quality.failed_gates]
    lines += [f"  no answer: {missing}" for missing in report.quality.missing]
    return "\n".join(lines)
