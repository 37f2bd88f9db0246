"""Measure how fast rows reach training, against plain reads of the same bytes.

    python recipes/benchmarks/data_loading.py --json recipes/benchmarks/results/data_loading.json

Four kinds of rows are written to a temporary folder, as builders write them: 5-D cubes, spectra, graphs, and rows of a
table. Each is then read in a shuffled order into batches of tensors, in turn with the limit: the same batches gathered
from a `numpy.memmap` of the same values (a table: `pyarrow.Table.take`). A ratio is the median over the rounds of
samples/s divided by those of the limit in the same round. `cold` drops the files from the page cache first, which
leaves pages that a process has mapped, so that it says little of the map-style reader. Workers are threads that read
ahead. `samples_per_cpu_second` divides by the time that this process had a core, which other processes hardly change.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from data_scripts.harness.split_file import write_split
from modeling_astrobio.training.loading import ArrowRows, ParquetRows, ResumableLoader, TableBatches, row_order


CUBE = (5, 12, 10, 32, 64)
KINDS = {"cubes": (96, 4), "spectra": (4096, 32), "graphs": (4096, 32), "table": (65536, 256)}
WORKERS = 2


def values_of(kind: str, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "cubes":
        return {"cube": rng.standard_normal((rows, *CUBE), dtype=np.float32)}
    if kind == "spectra":
        return {name: rng.standard_normal((rows, 2048), dtype=np.float32) for name in ("flux", "error")}
    if kind == "graphs":
        return {
            "x": rng.standard_normal((rows, 29, 16), dtype=np.float32),
            "edge_index": rng.integers(0, 29, (rows, 2, 60)),
        }
    return {f"column_{number}": rng.standard_normal(rows) for number in range(30)}


def arrow_table(values: dict[str, np.ndarray]) -> pa.Table:
    columns: dict[str, Any] = {}
    for name, array in values.items():
        if array.ndim == 1:
            columns[name] = pa.array(array)
            continue
        offsets = pa.array(np.arange(len(array) + 1) * np.prod(array.shape[1:]), pa.int32())
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(array.reshape(-1)))
        columns[name + "_shape"] = pa.array([list(array.shape[1:])] * len(array), pa.list_(pa.int32()))
    return pa.table(columns)


def stack(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def to_tensors(columns: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in columns.items()}


def write(kind: str, rows: int, folder: Path) -> dict[str, Path]:
    values = values_of(kind, rows)
    dataset = datasets.Dataset(arrow_table(values))
    paths = {"parquet": folder / "data" / "train-00000-of-00001.parquet", "saved": folder / "saved"}
    paths["parquet"].parent.mkdir(parents=True)
    write_split(dataset, paths["parquet"])
    dataset.save_to_disk(str(paths["saved"]))
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
        paths[name] = folder / f"{name}.npy"
    return paths


def readers(kind: str, paths: dict[str, Path], rows: int, batch: int) -> dict[str, Callable[[int], int]]:
    """Each takes the number of the round and reads all rows in that round's order; returns how many."""
    names = list(values_of(kind, 1))
    mapped = {name: np.load(paths[name], mmap_mode="r") for name in names}

    def limit(round_number: int) -> int:
        order, read = row_order([1] * rows, 0, round_number), 0
        for start in range(0, rows - batch + 1, batch):
            chosen = order[start : start + batch]
            tensors = {
                name: torch.from_numpy(np.stack([array[row] for row in chosen])) for name, array in mapped.items()
            }
            read += len(next(iter(tensors.values())))
        return read

    plain = datasets.Dataset.load_from_disk(str(paths["saved"])).with_format("arrow")[:]

    def arrow_limit(round_number: int) -> int:
        order, read = row_order([1] * rows, 0, round_number), 0
        for start in range(0, rows - batch + 1, batch):
            part = plain.take(pa.array(order[start : start + batch]))
            tensors = {name: torch.from_numpy(part.column(name).to_numpy()) for name in names}
            read += len(next(iter(tensors.values())))
        return read

    def loaded(make_rows: Callable[[], Any], collate: Callable[..., Any], workers: int) -> Callable[[int], int]:
        loader = ResumableLoader(make_rows(), batch, collate, num_workers=workers)

        def read(round_number: int) -> int:
            loader.epoch = round_number
            return sum(len(next(iter(tensors.values()))) for tensors in loader)

        return read

    saved = datasets.Dataset.load_from_disk(str(paths["saved"]))
    columns = [column for column in saved.column_names if column.removesuffix("_shape") in names]

    def streamed(_: int) -> int:
        stream = datasets.load_dataset(str(paths["parquet"].parent), split="train", streaming=True)
        found = DataLoader(stream.select_columns(names).with_format("torch"), batch_size=batch)
        return sum(len(next(iter(tensors.values()))) for tensors in found)

    table = kind == "table"
    map_rows: Callable[[], Any] = (
        (lambda: TableBatches(saved, names)) if table else (lambda: ArrowRows(saved, columns))
    )
    map_collate = to_tensors if table else stack
    made = {
        "limit": arrow_limit if table else limit,
        "map, 0 workers": loaded(map_rows, map_collate, 0),
        f"map, {WORKERS} workers": loaded(map_rows, map_collate, WORKERS),
    }
    if not table:
        made["row groups, 0 workers"] = loaded(lambda: ParquetRows([str(paths["parquet"])]), stack, 0)
        made[f"row groups, {WORKERS} workers"] = loaded(lambda: ParquetRows([str(paths["parquet"])]), stack, WORKERS)
        made["datasets, streaming"] = streamed
    return made


def drop_from_page_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prefetch_gain(rows: Any, batch: int, rounds: int) -> dict[str, Any]:
    """Time with one worker reading ahead against none, the loop spending as long on a batch as loading takes."""

    def epoch(workers: int, consume: float) -> float:
        loader = ResumableLoader(rows, batch, stack, num_workers=workers)
        started = None
        for _ in loader:
            # From the first batch on: starting a worker is no loading.
            started = started or time.perf_counter()
            time.sleep(consume)
        return time.perf_counter() - (started or 0.0)

    ratios = []
    for _ in range(rounds):
        alone = epoch(0, 0.0)
        consume = alone / (len(rows) // batch)
        ratios.append(epoch(0, consume) / epoch(1, consume))
    return {"ratio": statistics.median(ratios), "rounds": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"rounds": parsed.rounds, "cube_shape": CUBE, "kinds": {}}
    for kind in parsed.kinds:
        rows, batch = KINDS[kind]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = write(kind, rows, folder)
            found: dict[str, Any] = {"rows": rows, "batch": batch}
            for state, rounds in (("warm", parsed.rounds), ("cold", 5)):
                speeds: dict[str, list[float]] = {}
                of_cpu: dict[str, list[float]] = {}
                for round_number in range(rounds):
                    for reader, read in readers(kind, paths, rows, batch).items():
                        if state == "cold":
                            drop_from_page_cache(folder)
                        started, had = time.perf_counter(), time.process_time()
                        count = read(round_number)
                        of_cpu.setdefault(reader, []).append(count / (time.process_time() - had))
                        speeds.setdefault(reader, []).append(count / (time.perf_counter() - started))
                found[state] = {
                    reader: {
                        "samples_per_second": statistics.median(values),
                        "samples_per_cpu_second": statistics.median(of_cpu[reader]),
                        "of_limit": statistics.median(a / b for a, b in zip(values, speeds["limit"], strict=True)),
                    }
                    for reader, values in speeds.items()
                }
            if kind == "cubes":
                saved = datasets.Dataset.load_from_disk(str(paths["saved"]))
                found["prefetch_gain"] = {
                    "map": prefetch_gain(ArrowRows(saved), batch, 5),
                    "row groups": prefetch_gain(ParquetRows([str(paths["parquet"])]), batch, 5),
                }
        result["kinds"][kind] = found
        print(kind, json.dumps(found, indent=1))
    if parsed.json:
        parsed.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
