"""The data set `molecules`: graphs of molecules with computed and measured properties."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import DatasetDict, Features, List, Value

from data_scripts.chemistry.molecule_files import Entry, Measurement, molecule_files, read_entries
from data_scripts.chemistry.molecule_graph import (
    ATOM_FEATURES,
    BOND_FEATURES,
    COMPUTED_PROPERTIES,
    MoleculeError,
    inchikey_of,
    molecule_cells,
    molecule_key,
    parse_smiles,
)
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.splits import SPLIT_NAMES, split_of


__all__ = ["MOLECULES_CARD", "MOLECULES_FEATURES", "MOLECULES_SOURCES", "REJECTED", "build_molecules"]

MOLECULES_SOURCES = ("molecules",)
REJECTED = "rejected"

MOLECULES_FEATURES = Features(
    {
        "smiles": Value("string"),
        "object_id": Value("string"),
        "inchikey": Value("string"),
        "name": Value("string"),
        "murcko_scaffold": Value("string"),
        **{name: List(Value(feature.dtype)) for name, feature in ATOM_FEATURES.items()},
        "edge_index": List(Value("int32")),
        "edge_index_shape": List(Value("int32")),
        **{name: List(Value(feature.dtype)) for name, feature in BOND_FEATURES.items()},
        **{name: Value(feature.dtype) for name, feature in COMPUTED_PROPERTIES.items()},
        "measured_names": List(Value("string")),
        "measured_units": List(Value("string")),
        "measured_values": List(Value("float64")),
        "left_out": List(Value("string")),
        "rejected": Value("string"),
        "source_smiles": Value("string"),
        "source_file": Value("string"),
        "source_line": Value("int64"),
        "source_sha256": Value("string"),
    }
)
MOLECULES_CARD = DatasetCard(
    name="molecules",
    pretty_name="Molecules as graphs",
    summary=(
        "Molecules as graphs of their heavy atoms, with features of atoms and bonds, properties computed from the "
        "graph, and measured properties where the source has them."
    ),
    columns={
        "smiles": "canonical SMILES of RDKit, with stereo and isotopes; atoms are numbered in its order",
        "object_id": "first block of the InChIKey, by which molecules are split",
        "inchikey": "InChIKey",
        "name": "name in the source, or null",
        "murcko_scaffold": "SMILES of the Murcko scaffold; empty for molecules without rings",
        **{name: f"per atom: {feature.description}" for name, feature in ATOM_FEATURES.items()},
        "edge_index": "the two atoms of each bond, each bond once, flattened from (2, bonds)",
        "edge_index_shape": "the shape (2, bonds)",
        **{name: f"per bond: {feature.description}" for name, feature in BOND_FEATURES.items()},
        **{name: feature.description for name, feature in COMPUTED_PROPERTIES.items()},
        "measured_names": "names of the properties that the source states, `log_solubility` for example",
        "measured_units": "their units",
        "measured_values": "their values",
        "left_out": "columns of the source that are not here, since no unit is stated for them",
        "rejected": "why the line cannot be used; null but in the split `rejected`",
        "source_smiles": "the SMILES as the source has it",
        "source_file": "file",
        "source_line": "line in it, from 1",
        "source_sha256": "SHA-256 of the file",
    },
    source="Lists of SMILES and tables given to the builder; `source_file` and `source_sha256` name them.",
    method=(
        "A line becomes a molecule if RDKit reads it and every valence is possible; its atoms are renumbered in the "
        "order of its canonical SMILES, so one molecule is one row however it was written. Lines with the molecule of "
        "an earlier one, and lines that cannot be used, are in the split `rejected` with the reason. "
        "Measured properties of such a duplicate that the earlier line lacks are given to that line. Molecules whose "
        "InChIKeys share the first block are in one split: stereoisomers, isotopologues, protonation states, and "
        "those tautomers that InChI knows as one. Salts, and ketones beside their enols, are molecules of their own."
    ),
    limits=(
        "Hydrogens are counts, not nodes. Molecules of one Murcko scaffold are in different splits: group by "
        "`murcko_scaffold` to judge how a model does on new scaffolds. The split `rejected` is not for training; its "
        "graphs are null."
    ),
    license="other",
    license_name="as-the-files",
    license_link="https://doi.org/10.1038/sdata.2014.22",
    license_note=(
        "The terms of each list hold: QM9 is CC0; ESOL is data of Delaney 2004, redistributed by MoleculeNet (MIT)."
    ),
    citation=(
        "@article{ramakrishnan2014qm9,\n"
        "  author  = {Ramakrishnan, Raghunathan and Dral, Pavlo O. and Rupp, Matthias and von Lilienfeld, O. A.},\n"
        "  title   = {Quantum chemistry structures and properties of 134 kilo molecules},\n"
        "  journal = {Scientific Data},\n"
        "  volume  = {1}, pages = {140022}, year = {2014}, doi = {10.1038/sdata.2014.22}\n"
        "}\n"
        "@article{delaney2004esol,\n"
        "  author  = {Delaney, John S.},\n"
        "  title   = {{ESOL}: Estimating Aqueous Solubility Directly from Molecular Structure},\n"
        "  journal = {Journal of Chemical Information and Computer Sciences},\n"
        "  volume  = {44}, pages = {1000--1005}, year = {2004}, doi = {10.1021/ci034243x}\n"
        "}"
    ),
)

_Measurements = dict[str, dict[tuple[str, str], Measurement]]


def build_molecules(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from a folder of lists and tables; see `read_entries` for their form.

    Args:
        inputs: `molecules`: the folder; files are read in the order of their names.
        seed: Not used: nothing is drawn.

    Returns:
        Splits `train`, `validation`, `test` and `rejected`, with `MOLECULES_FEATURES`.

    Raises:
        BuildError: If another source is named, there is no file, one cannot be read, or no line is a molecule.
    """
    if set(inputs) != set(MOLECULES_SOURCES):
        raise BuildError(
            f"from-folder must name molecules; got {', '.join(sorted(inputs)) or 'none'}. "
            "Pass --from-folder molecules=DIR."
        )
    paths = molecule_files(inputs["molecules"])
    measurements = _all_measurements(entry for path in paths for entry in read_entries(path))
    # Sixteen bytes of a hash for each molecule stay in memory.
    seen: dict[bytes, str] = {}
    with SplitWriter(MOLECULES_FEATURES, (*SPLIT_NAMES, REJECTED)) as writer:
        for path in paths:
            sha256 = _sha256(path)
            for entry in read_entries(path):
                split, cells = _cells(entry, seen, measurements)
                row = {**dict.fromkeys(MOLECULES_FEATURES), **cells, **_source_cells(entry), "source_sha256": sha256}
                writer.write(split, [row])
        splits = writer.finish()
    if not seen:
        reasons = splits[REJECTED].select(range(min(3, len(splits[REJECTED]))))["rejected"]
        raise BuildError(
            f"molecules must hold SMILES; got {len(splits[REJECTED])} lines in {inputs['molecules']} that are none"
            f"{': ' if len(reasons) else ''}{'; '.join(reasons)}. See the form of lists and tables."
        )
    return splits


def _cells(entry: Entry, seen: dict[bytes, str], measurements: _Measurements) -> tuple[str, dict[str, Any]]:
    """The split of a line, and its cells but for the source."""
    cells: dict[str, Any] = dict(_measured_cells(entry.measured))
    if entry.problem is not None:
        return REJECTED, {**cells, "rejected": entry.problem}
    try:
        mol, smiles = parse_smiles(entry.smiles)
        cells["smiles"] = smiles
        key = molecule_key(mol, smiles)
        digest = hashlib.sha256(key.encode()).digest()[:16]
        if digest in seen:
            return REJECTED, {**cells, "rejected": f"the molecule of {seen[digest]}"}
        inchikey = inchikey_of(mol)
    except MoleculeError as error:
        return REJECTED, {**cells, "rejected": str(error)}
    seen[digest] = f"line {entry.line} of {entry.file}"
    skeleton = inchikey[:14]
    cells |= {"object_id": skeleton, "inchikey": inchikey, **molecule_cells(mol)}
    if key in measurements:
        cells |= _measured_cells(measurements[key].values())
    return split_of(skeleton), cells


def _all_measurements(entries: Iterable[Entry]) -> _Measurements:
    """Properties by the key of the molecule, then by name and unit; the first value stays."""
    found: _Measurements = {}
    for entry in entries:
        if entry.measured and entry.problem is None:
            try:
                key = molecule_key(*parse_smiles(entry.smiles))
            except MoleculeError:
                # The line is rejected, with this reason, when the molecules are read.
                continue
            of_molecule = found.setdefault(key, {})
            for property in entry.measured:
                of_molecule.setdefault((property.name, property.unit), property)
    return found


def _measured_cells(measured: Iterable[Measurement]) -> Iterator[tuple[str, list[Any]]]:
    measured = list(measured)
    yield "measured_names", [property.name for property in measured]
    yield "measured_units", [property.unit for property in measured]
    yield "measured_values", [property.value for property in measured]


def _source_cells(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "left_out": list(entry.left_out),
        "source_smiles": entry.smiles,
        "source_file": entry.file,
        "source_line": entry.line,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as body:
        return hashlib.file_digest(body, "sha256").hexdigest()
