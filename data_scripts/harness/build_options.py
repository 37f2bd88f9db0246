"""How a data set is built from an archive."""

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.harness.executors import Engine


__all__ = ["BuildOptions"]


@dataclass(frozen=True)
class BuildOptions:
    """How a data set is built.

    Attributes:
        store: Folder of snapshots and parsed pages.
        configs: Tables; those that are built by default if empty.
        limit: Most rows of each table.
        since: Only what the archive added or changed from this day on.
        release: Release of the archive; its default if None.
        options: Values of options that the tables declare.
        offline: Use nothing but the snapshot.
        from_files: Files that a person downloaded; they are built alone, without the network.
        max_age_days: Ask again for bodies that are older.
        allow_below_gate: Build although a quality gate or a request fails, and say so in report and card.
        processes: Bodies read at once.
        engine: What runs them.
        mirrors: Origins to ask instead, by origin.
        identity: Folder of the data set `object_identity`, or None to name objects by the table alone.
        compare_with: For `pscomppars` of `nasa_exoplanet_archive`, the built folder of `exoplanets_org`.
        environment: Environment variables with credentials and the cache's size.
        attempts: Attempts at each request.
        timeout_seconds: Longest wait for an answer's head, and for the next bytes.
    """

    store: Path
    configs: tuple[str, ...] = ()
    limit: int | None = None
    since: datetime.date | None = None
    release: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    from_files: tuple[Path, ...] = ()
    max_age_days: float | None = None
    allow_below_gate: bool = False
    processes: int = 1
    engine: Engine = "processes"
    mirrors: Mapping[str, str] = field(default_factory=dict)
    identity: Path | None = None
    compare_with: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    attempts: int = 6
    timeout_seconds: float = 60.0
