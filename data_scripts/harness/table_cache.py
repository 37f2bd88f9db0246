"""Finished tables on disk, so that one is put together once for as long as nothing changes that it is made from."""

import dataclasses
import functools
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from data_scripts.harness.archive import Answer, TableConfig
from data_scripts.harness.assemble import TableQuality
from data_scripts.harness.disk_cache import DiskCache
from data_scripts.harness.parse_cache import page_key
from data_scripts.harness.tallies import Tallies
from data_scripts.identity import IdentityTable


__all__ = ["TableCache", "table_key"]

QUALITY = "quality.json"


class TableCache(DiskCache):
    """The files that `assemble` wrote for a table, and what it returned, by everything that they depend on."""

    def load(self, key: str, folder: Path) -> TableQuality | None:
        """Write a table's files into a data set's folder and return what is known of it; None if it is not kept."""
        path = self.find(key)
        if path is None:
            return None
        try:
            with tarfile.open(path) as files:
                counts = json.load(files.extractfile(QUALITY) or io.BytesIO())
                members = [member for member in files.getmembers() if member.name != QUALITY]
                files.extractall(folder, members, filter="data")
        except FileNotFoundError:
            return None  # another process made room
        return TableQuality(**{**counts, "tallies": Tallies.from_dict(counts["tallies"])})

    def save(self, key: str, config: TableConfig, folder: Path, quality: TableQuality) -> None:
        """Keep the files of a table."""
        files = [*sorted((folder / config.name).iterdir()), folder / "rejected" / f"{config.name}.parquet"]
        # A larger one would only be written to be thrown away.
        if sum(file.stat().st_size for file in files) <= self.most_bytes:
            self.store(key, functools.partial(_pack, folder, files, quality))


def table_key(
    config: TableConfig, answers: Sequence[Answer], source: str, identity: IdentityTable | None, limit: int | None
) -> str:
    """SHA-256 (hex) of everything that a table depends on."""
    digest = hashlib.sha256(json.dumps([source, config.name, config.objects, limit]).encode())
    for answer in answers:
        digest.update(page_key(config, answer, source).encode())
    if identity is not None:
        digest.update(_sha256_of_table(identity.rows))
    return digest.hexdigest()


def _pack(folder: Path, files: Sequence[Path], quality: TableQuality, file: BinaryIO) -> None:
    with tarfile.open(fileobj=file, mode="w") as packed:
        counts = json.dumps(dataclasses.asdict(quality)).encode()
        head = tarfile.TarInfo(QUALITY)
        head.size = len(counts)
        packed.addfile(head, io.BytesIO(counts))
        for path in files:
            packed.add(path, str(path.relative_to(folder)))


def _sha256_of_table(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).digest()
