"""The data set `reaction_networks`: what the proteins of a species catalyse, as UniProtKB has it, as graphs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import DatasetDict, Features, List, Value

from data_scripts.chemistry.rhea_equations import parse_equation
from data_scripts.derived.source_tables import read_config
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES, SplitName


__all__ = [
    "REACTION_NETWORKS_CARD",
    "REACTION_NETWORKS_FEATURES",
    "REACTION_NETWORKS_SOURCES",
    "build_reaction_networks",
]

REACTION_NETWORKS_SOURCES = ("uniprotkb", "object_identity")
_CONFIG = "catalytic_activities"
_ORGANISM = ("species", "organism_id")
_READ = (
    *_ORGANISM,
    "accession",
    "reaction",
    "rhea_id",
    "chebi_ids",
    "rhea_compounds",
    "ec_number",
    "direction",
    "source_release",
    "source_sha256",
)
_FORWARD, _BACKWARD = "left-to-right", "right-to-left"

# Column to type and description; lists have an item a participant, a compound, a reaction, or an edge.
_COLUMNS: dict[str, tuple[Any, str]] = {
    "object_id": (Value("string"), "the species as splits know it; a row has all its strains"),
    "species": (List(Value("string")), "names of the species"),
    "taxon_ids": (List(Value("int64")), "NCBI taxa of the organisms, strains among them"),
    "participant_name": (List(Value("string")), "per participant: name in the equations, with `(in)` or `(out)`"),
    "edge_index": (List(Value("int32")), "participant and reaction of each edge, flattened from (2, edges)"),
    "edge_index_shape": (List(Value("int32")), "the shape (2, edges)"),
    "stoichiometry": (
        List(Value("float64")),
        "per edge: coefficient, negative on the left side, dimensionless; NaN where it is a letter, as of polymers",
    ),
    "compound_id": (List(Value("string")), "per compound: identifier in ChEBI, or in Rhea for generic ones"),
    "compound_edge_index": (
        List(Value("int32")),
        "compound and reaction of each membership, flattened from (2, memberships); UniProt does not say which "
        "participant is which compound",
    ),
    "compound_edge_index_shape": (List(Value("int32")), "the shape (2, memberships)"),
    "reaction_equation": (List(Value("string")), "per reaction: the equation, or what the enzyme does in words"),
    "reaction_is_equation": (List(Value("bool")), "per reaction: whether it is an equation; others have no edges"),
    "reaction_rhea_id": (List(Value("string")), "per reaction: identifier in Rhea, without direction; or null"),
    "reaction_seen_forward": (List(Value("bool")), "per reaction: whether it was seen to run from left to right"),
    "reaction_seen_backward": (List(Value("bool")), "per reaction: whether it was seen to run from right to left"),
    "reaction_ec_numbers": (List(List(Value("string"))), "per reaction: Enzyme Commission numbers"),
    "reaction_accessions": (List(List(Value("string"))), "per reaction: entries of UniProtKB that catalyse it"),
    "source_release": (List(Value("string")), "releases of UniProtKB"),
    "source_sha256": (List(Value("string")), "SHA-256 of the bodies that the entries were read from"),
}
REACTION_NETWORKS_FEATURES = Features({name: dtype for name, (dtype, _) in _COLUMNS.items()})
REACTION_NETWORKS_CARD = DatasetCard(
    name="reaction_networks",
    pretty_name="Reactions of species as graphs",
    summary=(
        "What the proteins of a species catalyse, as a bipartite graph of participants and reactions, with "
        "identifiers of Rhea and ChEBI, enzymes, and directions where they were seen."
    ),
    columns={name: description for name, (_, description) in _COLUMNS.items()},
    source=(
        "UniProtKB, catalytic activities of proteins; reactions from Rhea, compounds from ChEBI. The UniProt "
        "Consortium, https://www.uniprot.org/."
    ),
    method=(
        "Activities of all proteins of a species are put together; those of one reaction of Rhea, or of one text "
        "where Rhea has none, are one reaction. Equations are read as UniProt writes them: sides parted by `=`, "
        "participants by `+`, with counts before names. A species is in one split, as in every other "
        "data set of this project."
    ),
    limits=(
        "A network has what is known of reviewed proteins, so it is far from complete but for a few organisms, and a "
        "reaction that is absent is not known to be absent. Spontaneous reactions and most transports are not there. "
        "Participants are names; formulas and charges are in ChEBI."
    ),
    license="cc-by-4.0",
    license_name="",
    license_link="https://www.uniprot.org/help/license",
    license_note="Data of UniProtKB, Rhea and ChEBI, CC BY 4.0: name them.",
    citation=(
        "@article{uniprot2025,\n"
        "  author  = {{The UniProt Consortium}},\n"
        "  title   = {{UniProt}: the Universal Protein Knowledgebase in 2025},\n"
        "  journal = {Nucleic Acids Research},\n"
        "  volume  = {53}, number = {D1}, pages = {D609--D617}, year = {2025}, doi = {10.1093/nar/gkae1010}\n"
        "}"
    ),
)


@dataclass
class _Reaction:
    equation: str
    rhea_id: str | None
    compounds: set[str] = field(default_factory=set)
    directions: set[str] = field(default_factory=set)
    ec_numbers: set[str] = field(default_factory=set)
    accessions: set[str] = field(default_factory=set)


@dataclass
class _Species:
    split: SplitName
    names: set[str] = field(default_factory=set)
    taxa: set[int] = field(default_factory=set)
    releases: set[str] = field(default_factory=set)
    bodies: set[str] = field(default_factory=set)
    reactions: dict[str, _Reaction] = field(default_factory=dict)


def build_reaction_networks(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from a built folder of `uniprotkb` with the configuration `catalytic_activities`.

    Args:
        inputs: `uniprotkb`: the folder. `object_identity`: its folder, if there is one, so that species are named as
            in other data sets.
        seed: Not used: nothing is drawn.

    Returns:
        Splits `train`, `validation` and `test` with `REACTION_NETWORKS_FEATURES`, a row a species.

    Raises:
        BuildError: If a folder is absent or lacks columns, or a direction is none of UniProt's.
    """
    if "uniprotkb" not in inputs or not set(inputs) <= set(REACTION_NETWORKS_SOURCES):
        raise BuildError(
            f"from-folder must name uniprotkb, and may name object_identity; got "
            f"{', '.join(sorted(inputs)) or 'none'}. Pass --from-folder uniprotkb=DIR."
        )
    table = read_config(inputs["uniprotkb"], _CONFIG, _READ)
    identity = IdentityTable.load(inputs["object_identity"]) if "object_identity" in inputs else None
    with SplitWriter(REACTION_NETWORKS_FEATURES, SPLIT_NAMES) as writer:
        for object_id, species in sorted(_by_species(table, identity).items()):
            writer.write(species.split, [_row(object_id, species)])
        return writer.finish()


def _by_species(table: pa.Table, identity: IdentityTable | None) -> dict[str, _Species]:
    objects, splits = split_rows(table, _ORGANISM, identity)
    found: dict[str, _Species] = {}
    numbers = iter(range(table.num_rows))
    for batch in table.to_batches(max_chunksize=10_000):
        for activity in batch.to_pylist():
            number = next(numbers)
            species = found.setdefault(objects[number], _Species(splits[number]))
            species.names.add(activity["species"])
            species.taxa.add(activity["organism_id"])
            species.releases.add(activity["source_release"] or "")
            species.bodies.add(activity["source_sha256"])
            _add(species.reactions, activity)
    return found


def _add(reactions: dict[str, _Reaction], activity: Mapping[str, Any]) -> None:
    directions = set(activity["direction"] or ())
    if not directions <= {_FORWARD, _BACKWARD}:
        raise BuildError(
            f"direction must be {_FORWARD} or {_BACKWARD} in {_CONFIG}; got {', '.join(sorted(directions))} for "
            f"{activity['accession']}. Did UniProt rename a direction?"
        )
    name = activity["rhea_id"] or activity["reaction"]
    reaction = reactions.setdefault(name, _Reaction(activity["reaction"], activity["rhea_id"]))
    reaction.compounds.update(activity["chebi_ids"] or (), activity["rhea_compounds"] or ())
    reaction.directions.update(directions)
    reaction.accessions.add(activity["accession"])
    if activity["ec_number"]:
        reaction.ec_numbers.add(activity["ec_number"])


def _row(object_id: str, species: _Species) -> dict[str, Any]:
    reactions = [reaction for _, reaction in sorted(species.reactions.items())]
    equations = [parse_equation(reaction.equation) for reaction in reactions]
    participants = sorted({name for equation in equations for name, _ in equation})
    compounds = sorted({compound for reaction in reactions for compound in reaction.compounds})
    return {
        "object_id": object_id,
        "species": sorted(species.names),
        "taxon_ids": sorted(species.taxa),
        "participant_name": participants,
        **_edges("edge_index", participants, ([name for name, _ in equation] for equation in equations)),
        "stoichiometry": [coefficient for equation in equations for _, coefficient in equation],
        "compound_id": compounds,
        **_edges("compound_edge_index", compounds, (sorted(reaction.compounds) for reaction in reactions)),
        "reaction_equation": [reaction.equation for reaction in reactions],
        "reaction_is_equation": [bool(equation) for equation in equations],
        "reaction_rhea_id": [reaction.rhea_id for reaction in reactions],
        "reaction_seen_forward": [_FORWARD in reaction.directions for reaction in reactions],
        "reaction_seen_backward": [_BACKWARD in reaction.directions for reaction in reactions],
        "reaction_ec_numbers": [sorted(reaction.ec_numbers) for reaction in reactions],
        "reaction_accessions": [sorted(reaction.accessions) for reaction in reactions],
        "source_release": sorted(species.releases),
        "source_sha256": sorted(species.bodies),
    }


def _edges(column: str, nodes: list[str], members: Iterable[list[str]]) -> dict[str, list[int]]:
    """Edges from nodes to reactions, in the order of reactions and their members."""
    places = {node: place for place, node in enumerate(nodes)}
    edges = [(places[node], reaction) for reaction, names in enumerate(members) for node in names]
    return {column: [edge[end] for end in (0, 1) for edge in edges], f"{column}_shape": [2, len(edges)]}
