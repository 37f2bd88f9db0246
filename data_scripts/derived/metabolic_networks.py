"""The data set `metabolic_networks`: metabolic models as graphs of metabolites and reactions."""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import DatasetDict, Features, List, Value

from data_scripts.chemistry.metabolic_models import MetabolicModel, Reaction, read_model
from data_scripts.chemistry.model_files import model_files
from data_scripts.chemistry.model_species import SPECIES_FILE, model_species, read_species_file
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES


__all__ = [
    "METABOLIC_NETWORKS_CARD",
    "METABOLIC_NETWORKS_FEATURES",
    "METABOLIC_NETWORKS_SOURCES",
    "build_metabolic_networks",
]

METABOLIC_NETWORKS_SOURCES = ("models", "object_identity")
_BALANCED, _UNBALANCED, _UNKNOWN = 1, 0, -1
_BALANCE_CODES = "1 yes, 0 no, -1 not known"

# Column to type and description; lists have an item a metabolite, a reaction, or an edge.
_COLUMNS: dict[str, tuple[Any, str]] = {
    "model_id": (Value("string"), "the model's identifier"),
    "name": (Value("string"), "the model's name; empty if it has none"),
    "species": (Value("string"), "species of the organism"),
    "taxon_id": (Value("int64"), "NCBI taxon that the file states, of a strain as a rule; or null"),
    "object_id": (Value("string"), "the species as splits know it; models of one species share it"),
    "compartments": (List(Value("string")), "identifiers of the compartments"),
    "compartment_names": (List(Value("string")), "their names"),
    "genes": (List(Value("string")), "identifiers of the genes"),
    "elements": (List(Value("string")), "elements of the formulas, and open groups R, X, Z, in the order of E"),
    "metabolite_id": (List(Value("string")), "per metabolite: identifier"),
    "metabolite_name": (List(Value("string")), "per metabolite: name"),
    "metabolite_compartment": (List(Value("int32")), "per metabolite: place in `compartments`"),
    "metabolite_formula": (List(Value("string")), "per metabolite: formula, as the file has it; empty if it has none"),
    "metabolite_formula_known": (List(Value("bool")), "per metabolite: whether that is a formula"),
    "metabolite_charge": (List(Value("float64")), "per metabolite: charge, elementary charges; NaN where unknown"),
    "metabolite_chebi_ids": (List(List(Value("string"))), "per metabolite: entries of ChEBI that the file states"),
    "element_counts": (List(Value("float64")), "atoms of each element in each metabolite, (M, E); NaN where unknown"),
    "element_counts_shape": (List(Value("int32")), "the shape (M, E)"),
    "edge_index": (List(Value("int32")), "metabolite and reaction of each edge, flattened from (2, edges)"),
    "edge_index_shape": (List(Value("int32")), "the shape (2, edges)"),
    "stoichiometry": (
        List(Value("float64")),
        "per edge: coefficient, negative where the metabolite is consumed, dimensionless; its shortest decimal is the "
        "number that the file has",
    ),
    "reaction_id": (List(Value("string")), "per reaction: identifier"),
    "reaction_name": (List(Value("string")), "per reaction: name"),
    "reaction_lower_bound": (List(Value("float64")), "per reaction: least flux, mmol per gram dry weight and hour"),
    "reaction_upper_bound": (List(Value("float64")), "per reaction: greatest flux, mmol per gram dry weight and hour"),
    "reaction_can_run_forward": (List(Value("bool")), "per reaction: whether the bounds allow a flux above 0"),
    "reaction_can_run_backward": (List(Value("bool")), "per reaction: whether the bounds allow a flux below 0"),
    "reaction_objective": (List(Value("float64")), "per reaction: coefficient in the model's objective"),
    "reaction_gene_rule": (List(Value("string")), "per reaction: genes that it needs, joined by `and` and `or`"),
    "reaction_subsystem": (List(Value("string")), "per reaction: pathway; empty if the file has none"),
    "reaction_ec_numbers": (List(List(Value("string"))), "per reaction: EC numbers that the file states"),
    "reaction_rhea_ids": (List(List(Value("string"))), "per reaction: entries of Rhea that the file states"),
    "reaction_boundary": (
        List(Value("bool")),
        "per reaction: whether it exchanges one metabolite with what is not modelled; such a reaction cannot balance",
    ),
    "reaction_elements_balanced": (
        List(Value("int8")),
        f"per reaction: whether every element and open group balances exactly: {_BALANCE_CODES}",
    ),
    "reaction_charge_balanced": (List(Value("int8")), f"per reaction: whether the charge does: {_BALANCE_CODES}"),
    "element_residual": (
        List(Value("float64")),
        "what each reaction gains of each element, (R, E), atoms; computed in fractions, so 0 is exact; NaN where a "
        "formula is unknown",
    ),
    "element_residual_shape": (List(Value("int32")), "the shape (R, E)"),
    "charge_residual": (
        List(Value("float64")),
        "per reaction: gain of charge, elementary charges; computed in fractions; NaN where a charge is unknown",
    ),
    "source_file": (Value("string"), "file"),
    "source_sha256": (Value("string"), "SHA-256 of the file"),
}
METABOLIC_NETWORKS_FEATURES = Features({name: dtype for name, (dtype, _) in _COLUMNS.items()})
METABOLIC_NETWORKS_CARD = DatasetCard(
    name="metabolic_networks",
    pretty_name="Metabolic models as graphs",
    summary=(
        "Genome-scale metabolic models as bipartite graphs of metabolites and reactions, with stoichiometry, "
        "formulas, charges, flux bounds, genes, and the exact balance of every reaction."
    ),
    columns={name: description for name, (_, description) in _COLUMNS.items()},
    source="Models in SBML, JSON or YAML given to the builder; each is the work of its publication, to be cited.",
    method=(
        "Files are read with cobra. A formula counts as known if all its symbols are elements or open groups (R, X, "
        "Z), which are conserved like elements; charges count as unknown where a file gives 0 for every metabolite. "
        "Balances are sums of fractions of the decimal numbers in the file, without rounding. A reaction without "
        "metabolites is not judged. The species is that of `species.csv` beside the files, of the model's published "
        "name, or of the file itself; a model whose species is not known ends the build. A species is in one split "
        "with all its models, as in every other data set of this project."
    ),
    limits=(
        "Identifiers differ between models: what one calls `atp_c` may be `ATP[c]` in another. So do the columns of "
        "`element_counts` and `element_residual`: place them by `elements` to batch models. Bounds hold the "
        "modeller's medium and knock-outs beside what is known of directions. Biomass reactions do not balance by "
        "design, and no reaction can be judged where a formula or charge is missing, which is so for whole models. "
        "With few species a split can be empty: leave out one `object_id` after another to test on new organisms."
    ),
    license="other",
    license_name="as-the-models",
    license_link="http://bigg.ucsd.edu/license",
    license_note="The terms of each model's publication hold; models of BiGG are free for research, not for commerce.",
    citation=(
        "@article{ebrahim2013cobrapy,\n"
        "  author  = {Ebrahim, Ali and Lerman, Joshua A. and Palsson, Bernhard O. and Hyduke, Daniel R.},\n"
        "  title   = {{COBRApy}: COnstraints-Based Reconstruction and Analysis for Python},\n"
        "  journal = {BMC Systems Biology},\n"
        "  volume  = {7}, pages = {74}, year = {2013}, doi = {10.1186/1752-0509-7-74}\n"
        "}"
    ),
)


def build_metabolic_networks(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from a folder of models.

    Args:
        inputs: `models`: folder of SBML files and cobra's JSON or YAML, plain or .gz, with `species.csv` beside them
            if they do not tell their species. `object_identity`: its folder, if there is one, so that the species is
            named as in other data sets.
        seed: Not used: nothing is drawn.

    Returns:
        Splits `train`, `validation` and `test` with `METABOLIC_NETWORKS_FEATURES`, a row a model.

    Raises:
        BuildError: If there is no model, one cannot be read, is there twice, or its species is not known.
    """
    if "models" not in inputs or not set(inputs) <= set(METABOLIC_NETWORKS_SOURCES):
        raise BuildError(
            f"from-folder must name models, and may name object_identity; got {', '.join(sorted(inputs)) or 'none'}. "
            "Pass --from-folder models=DIR."
        )
    paths = model_files(inputs["models"])
    stated = read_species_file(inputs["models"])
    identity = IdentityTable.load(inputs["object_identity"]) if "object_identity" in inputs else None
    files: dict[str, str] = {}
    unknown: list[str] = []
    with SplitWriter(METABOLIC_NETWORKS_FEATURES, SPLIT_NAMES) as writer:
        for path in paths:
            model = read_model(path)
            if model.sha256 in files:
                raise BuildError(
                    f"{path.name} must be another model than {files[model.sha256]}; they hold the same bytes. "
                    "Remove one."
                )
            files[model.sha256] = path.name
            species = model_species(path.name, model.id, model.name, model.taxon_id is not None, stated)
            if species is None:
                unknown.append(path.name)
            if not unknown:
                named = pa.table({"species": [species], "taxon_id": pa.array([model.taxon_id], pa.int64())})
                (object_id,), (split,) = split_rows(named, ("species", "taxon_id"), identity)
                source = {"species": species, "object_id": object_id, "source_file": path.name}
                writer.write(split, [_row(model) | source])
        if unknown:
            raise BuildError(
                f"species must be known of each model; got none for {', '.join(unknown)}. "
                f"State them in {SPECIES_FILE} beside the files, with the columns file and species."
            )
        return writer.finish()


def _row(model: MetabolicModel) -> dict[str, Any]:
    compartments = sorted({*model.compartments, *(metabolite.compartment for metabolite in model.metabolites)})
    elements = sorted({element for metabolite in model.metabolites for element in metabolite.elements or ()})
    return {
        "model_id": model.id,
        "name": model.name,
        "taxon_id": model.taxon_id,
        "compartments": compartments,
        "compartment_names": [model.compartments.get(compartment, "") for compartment in compartments],
        "genes": model.genes,
        "elements": elements,
        "source_sha256": model.sha256,
        **_metabolite_cells(model, elements, compartments),
        **_edge_cells(model),
        **_reaction_cells(model.reactions, elements),
    }


def _metabolite_cells(model: MetabolicModel, elements: list[str], compartments: list[str]) -> dict[str, Any]:
    metabolites = model.metabolites
    return {
        "metabolite_id": [metabolite.id for metabolite in metabolites],
        "metabolite_name": [metabolite.name for metabolite in metabolites],
        "metabolite_compartment": [compartments.index(metabolite.compartment) for metabolite in metabolites],
        "metabolite_formula": [metabolite.formula for metabolite in metabolites],
        "metabolite_formula_known": [metabolite.elements is not None for metabolite in metabolites],
        "metabolite_charge": [_number(metabolite.charge) for metabolite in metabolites],
        "metabolite_chebi_ids": [metabolite.chebi_ids for metabolite in metabolites],
        "element_counts": _matrix((metabolite.elements for metabolite in metabolites), elements),
        "element_counts_shape": [len(metabolites), len(elements)],
    }


def _edge_cells(model: MetabolicModel) -> dict[str, Any]:
    places = {metabolite.id: place for place, metabolite in enumerate(model.metabolites)}
    edges = [
        (places[metabolite], place, float(coefficient))
        for place, reaction in enumerate(model.reactions)
        for metabolite, coefficient in reaction.stoichiometry.items()
    ]
    return {
        "edge_index": [edge[end] for end in (0, 1) for edge in edges],
        "edge_index_shape": [2, len(edges)],
        "stoichiometry": [coefficient for _, _, coefficient in edges],
    }


def _reaction_cells(reactions: tuple[Reaction, ...], elements: list[str]) -> dict[str, Any]:
    return {
        "reaction_id": [reaction.id for reaction in reactions],
        "reaction_name": [reaction.name for reaction in reactions],
        "reaction_lower_bound": [reaction.lower_bound for reaction in reactions],
        "reaction_upper_bound": [reaction.upper_bound for reaction in reactions],
        "reaction_can_run_forward": [reaction.upper_bound > 0 for reaction in reactions],
        "reaction_can_run_backward": [reaction.lower_bound < 0 for reaction in reactions],
        "reaction_objective": [reaction.objective for reaction in reactions],
        "reaction_gene_rule": [reaction.gene_rule for reaction in reactions],
        "reaction_subsystem": [reaction.subsystem for reaction in reactions],
        "reaction_ec_numbers": [reaction.ec_numbers for reaction in reactions],
        "reaction_rhea_ids": [reaction.rhea_ids for reaction in reactions],
        "reaction_boundary": [reaction.boundary for reaction in reactions],
        "reaction_elements_balanced": [_balanced(reaction, reaction.element_gains) for reaction in reactions],
        "reaction_charge_balanced": [_balanced(reaction, reaction.charge_gain) for reaction in reactions],
        "element_residual": _matrix((reaction.element_gains for reaction in reactions), elements),
        "element_residual_shape": [len(reactions), len(elements)],
        "charge_residual": [_number(reaction.charge_gain) for reaction in reactions],
    }


def _balanced(reaction: Reaction, gain: Mapping[str, Fraction] | Fraction | None) -> int:
    if gain is None or not reaction.stoichiometry:
        return _UNKNOWN
    return _UNBALANCED if gain else _BALANCED


def _matrix(rows: Iterable[Mapping[str, Fraction] | None], elements: list[str]) -> list[float]:
    return [math.nan if counts is None else float(counts.get(element, 0)) for counts in rows for element in elements]


def _number(value: Fraction | None) -> float:
    return math.nan if value is None else float(value)
