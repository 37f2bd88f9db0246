"""The smallest archive that the harness accepts, for tests of the harness itself."""

from dataclasses import replace
from typing import Any

from data_scripts.harness.archive import Archive


def small_archive(**changes: Any) -> Archive:
    """Return an archive at `archive.test` that lets a thousand requests a second through."""
    archive = Archive(
        name="small",
        title="Small archive",
        homepage="https://archive.test",
        license="cc0-1.0",
        license_link="https://archive.test/terms",
        acknowledgement="Thanks.",
        citation="",
        tables=(),
        hosts=("archive.test",),
        requests_per_second=1000.0,
        burst=10,
        probe=("table", {}),
        size="tiny",
    )
    return replace(archive, **changes)
