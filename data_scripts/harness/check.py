"""Ask archives one small question each: do they answer, do they take the credentials, is the schema as expected."""

import asyncio
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_scripts.harness.archive import Answer, Archive, Selection
from data_scripts.harness.crawl import crawl
from data_scripts.harness.credentials import Credentials
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import Page, read_page
from data_scripts.harness.snapshot import Snapshot
from data_scripts.harness.transport import Transport


__all__ = ["CheckResult", "check_archives"]


@dataclass(frozen=True)
class CheckResult:
    """What an archive answered.

    Attributes:
        source: Name of the archive.
        reachable: Whether it answered.
        credentials: Whether credentials were sent, and refused.
        schema: `as expected`, `not as expected`, or `not seen` if nothing was answered.
        detail: Reason of what is wrong; empty if nothing is.
    """

    source: str
    reachable: bool
    credentials: str
    schema: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.detail


def check_archives(
    archives: Sequence[Archive],
    environment: Mapping[str, str],
    *,
    mirrors: Mapping[str, str],
    attempts: int = 2,
    timeout_seconds: float = 30.0,
) -> list[CheckResult]:
    """Ask every archive its `probe`, all at once; whatever goes wrong is in the result.

    Args:
        archives: The archives.
        environment: Environment variables with credentials.
        mirrors: Origins to ask instead, by origin.
        attempts: Attempts at each request.
        timeout_seconds: Time that an archive has for an answer.
    """

    async def check_all() -> list[CheckResult]:
        checks = (_check(archive, environment, mirrors, attempts, timeout_seconds) for archive in archives)
        return list(await asyncio.gather(*checks))

    return asyncio.run(check_all())


async def _check(
    archive: Archive, environment: Mapping[str, str], mirrors: Mapping[str, str], attempts: int, timeout_seconds: float
) -> CheckResult:
    credentials = Credentials(archive, environment)
    sent = f"{', '.join(credentials.used)} sent" if credentials.used else ""
    unset = f"{', '.join(credentials.unset)} not set" if credentials.unset else ""
    said = "; ".join(filter(None, (sent, unset))) or "none needed"
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Snapshot(Path(folder))
        try:
            async with Transport(
                archive,
                environment=environment,
                mirrors=mirrors,
                attempts=attempts,
                timeout_seconds=timeout_seconds,
            ) as transport:
                rows = await _probe(archive, snapshot, transport)
        # One archive's trouble, also in its own module, must not hide what the others answer.
        except Exception as error:
            kind = "" if isinstance(error, BuildError) else f"{type(error).__name__}: "
            reason = credentials.redact(f"{kind}{error}")
            if isinstance(error.__cause__, BadBodyError) or snapshot.rejections:
                return CheckResult(archive.name, True, said, "not as expected", reason)
            status = re.search(r"failed: status (\d\d\d)\b", reason)
            if sent and status and status[1] in ("401", "403"):
                said += ", refused"
            # A server that refuses a question is there.
            there = status is not None and status[1].startswith("4")
            return CheckResult(archive.name, there, said, "not seen", reason)
    if not rows:
        return CheckResult(archive.name, True, said, "not as expected", "the probe found no row")
    return CheckResult(archive.name, True, said.replace(" sent", " sent, not refused"), "as expected")


async def _probe(archive: Archive, snapshot: Snapshot, transport: Transport) -> int:
    name, chosen = archive.probe
    table = archive.table(name)
    options = {**{option: each.default for option, each in table.options.items()}, **chosen}

    def read(answer: Answer) -> Page:
        return read_page(table, answer, archive.name)

    selection = Selection(limit=1, release=archive.default_release, options=options)
    found = await crawl(table, selection, snapshot, transport, read=read)
    return sum(node.good_rows for node in found.nodes)
