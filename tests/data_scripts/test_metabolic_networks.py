"""Metabolic models as graphs: cobra's stoichiometry, balances without rounding, nothing assumed of what is absent."""

import dataclasses
import gzip
import json
import math
import os
import shutil
import warnings
from fractions import Fraction
from pathlib import Path

import datasets
import numpy as np
import pytest

from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from modeling_astrobio.training.loading.array_cells import TableCells


pytest.importorskip("cobra", reason="the extra chem is not installed")
import cobra
import torch
from cobra.util import create_stoichiometric_matrix

from data_scripts.chemistry.formulas import balance, exact, parse_formula
from data_scripts.chemistry.metabolic_models import read_model
from data_scripts.chemistry.model_species import model_species
from data_scripts.derived.metabolic_networks import (
    METABOLIC_NETWORKS_CARD,
    METABOLIC_NETWORKS_FEATURES,
    build_metabolic_networks,
)
from data_scripts.derived.object_identity import OBJECT_IDENTITY_CARD, OBJECT_IDENTITY_FEATURES
from data_scripts.identity import IDENTITY_SCHEMA, IdentityTable
from data_scripts.splits import SPLIT_NAMES, split_of


SAMPLES = Path(os.environ.get("ASTROBIO_GRAPH_SAMPLES", Path(__file__).parents[3] / "shared" / "graph_samples"))
needs_samples = pytest.mark.skipif(
    not (SAMPLES / "metabolic").is_dir(),
    reason=f"{SAMPLES}/metabolic is absent (ASTROBIO_GRAPH_SAMPLES names another folder)",
)


def metabolite(name, formula, charge, compartment="c"):
    return cobra.Metabolite(name, formula=formula, charge=charge, compartment=compartment)


def made_up_model(name="made_up"):
    """Seven metabolites and six reactions: one balances but for rounding, one lacks hydrogen, two cannot be judged."""
    found = {
        each.id: each
        for each in (
            metabolite("a_c", "C2H4", 0),
            metabolite("b_c", "C2H4", 0),
            metabolite("c_c", "C2H4", 0),
            metabolite("d_c", "C2H3O2R", -1),
            metabolite("e_c", None, None),
            metabolite("f_c", "Ferredoxin", 2),
            metabolite("a_e", "C2H4", 0, "e"),
        )
    }
    model = cobra.Model(name)
    model.compartments = {"c": "cytosol", "e": "outside"}
    for reaction_id, amounts, bounds in (
        # In floats the sum is -5.6e-17 times the count.
        ("MIX", {"a_c": -0.1, "b_c": -0.2, "c_c": 0.3}, (-1000, 1000)),
        ("OXI", {"a_c": -2, "d_c": 2}, (0, 1000)),
        ("MYSTERY", {"a_c": -1, "e_c": 1}, (-1000, 0)),
        ("FERRE", {"f_c": -1, "b_c": 1}, (0, 0)),
        ("TRA", {"a_e": -1, "a_c": 1}, (-math.inf, 3.5)),
        ("EX_a", {"a_e": -1}, (-10, 1000)),
    ):
        reaction = cobra.Reaction(reaction_id, name=f"reaction {reaction_id}", subsystem="Testing")
        model.add_reactions([reaction])
        reaction.add_metabolites({found[each]: number for each, number in amounts.items()})
        reaction.bounds = bounds
    model.reactions.OXI.gene_reaction_rule = "(g1 and g2) or g3"
    model.reactions.OXI.annotation = {"rhea": ["10000", "10001"], "ec-code": "1.1.1.1"}
    model.metabolites.a_c.annotation = {"chebi": "CHEBI:18153"}
    model.objective = "OXI"
    return model


def folder_with(tmp_path, **models):
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    for name, model in models.items():
        cobra.io.save_json_model(model, str(folder / f"{name}.json"))
    lines = [f"{name}.json,Testella sp. {place}" for place, name in enumerate(models)]
    (folder / "species.csv").write_text("\n".join(["file,species", *lines]) + "\n")
    return {"models": folder}


def broken(**changes):
    content = json.loads(cobra.io.to_json(made_up_model()))
    for key, value in changes.items():
        kind, place, name = key.split("__")
        content[kind][int(place)][name] = value
    return json.dumps(content).encode()


def rows_of(splits):
    return [row for name in SPLIT_NAMES for row in splits[name]]


def matrix(row, name):
    return np.reshape(row[name], row[f"{name}_shape"])


def dense(row):
    stoichiometry = np.zeros((len(row["metabolite_id"]), len(row["reaction_id"])))
    np.add.at(stoichiometry, tuple(matrix(row, "edge_index")), row["stoichiometry"])
    return stoichiometry


def assert_is_cobras(row, model):
    """Everything but the rule for charges, against cobra."""
    assert row["metabolite_id"] == [each.id for each in model.metabolites]
    assert row["reaction_id"] == [each.id for each in model.reactions]
    np.testing.assert_array_equal(dense(row), create_stoichiometric_matrix(model))
    bounds = np.stack([row["reaction_lower_bound"], row["reaction_upper_bound"]], axis=1)
    np.testing.assert_array_equal(bounds, [reaction.bounds for reaction in model.reactions])
    assert row["reaction_can_run_backward"] == [reaction.lower_bound < 0 for reaction in model.reactions]
    assert row["reaction_gene_rule"] == [reaction.gene_reaction_rule for reaction in model.reactions]
    assert row["reaction_boundary"] == [reaction.boundary for reaction in model.reactions]
    elements, residual = row["elements"], matrix(row, "element_residual")
    for place, reaction in enumerate(model.reactions):
        known = all(
            parse_formula(each.formula) is not None and all(element in elements for element in each.elements)
            for each in reaction.metabolites
        )
        gains = dict(zip(elements, residual[place], strict=True))
        if known:
            theirs = {name: gain for name, gain in reaction.check_mass_balance().items() if name != "charge"}
            # cobra sums floats.
            assert gains == pytest.approx({element: theirs.get(element, 0.0) for element in elements}, abs=1e-6)
        elif elements:
            assert np.isnan(residual[place]).all(), reaction.id
            assert row["reaction_elements_balanced"][place] == -1


def test_a_model_is_cobras_model(tmp_path):
    model = made_up_model()
    (row,) = rows_of(build_metabolic_networks(folder_with(tmp_path, made_up=model)))
    assert_is_cobras(row, model)
    assert (row["elements"], row["compartments"], row["compartment_names"]) == (
        ["C", "H", "O", "R"],
        ["c", "e"],
        ["cytosol", "outside"],
    )
    assert row["reaction_objective"] == [0, 1, 0, 0, 0, 0]
    assert row["reaction_subsystem"] == ["Testing"] * 6
    assert row["reaction_rhea_ids"][1] == ["RHEA:10000", "RHEA:10001"]
    assert (row["reaction_ec_numbers"][1], row["metabolite_chebi_ids"][0]) == (["1.1.1.1"], ["CHEBI:18153"])
    assert sorted(row["genes"]) == ["g1", "g2", "g3"]


def test_balances_are_exact_and_what_is_unknown_is_not_judged(tmp_path):
    (row,) = rows_of(build_metabolic_networks(folder_with(tmp_path, made_up=made_up_model())))
    assert row["reaction_elements_balanced"] == [1, 0, -1, -1, 1, 0]
    assert row["reaction_charge_balanced"] == [1, 0, -1, 0, 1, 1]
    residual = matrix(row, "element_residual")
    # 2 C2H3O2R - 2 C2H4.
    assert dict(zip(row["elements"], residual[1], strict=True)) == {"C": 0, "H": -2, "O": 4, "R": 2}
    assert residual[0].tolist() == [0, 0, 0, 0]
    assert -0.1 * 4 - 0.2 * 4 + 0.3 * 4 != 0
    assert np.isnan(residual[2:4]).all()
    np.testing.assert_array_equal(row["charge_residual"], [0, -2, math.nan, -2, 0, 0])
    assert row["metabolite_formula_known"] == [True] * 4 + [False, False, True]
    counts = matrix(row, "element_counts")
    assert counts[3].tolist() == [2, 3, 2, 1]
    assert np.isnan(counts[4:6]).all()
    # What the residual says is what the matrices say.
    known = np.nan_to_num(counts)
    balanced = np.array(row["reaction_elements_balanced"]) == 1
    assert np.abs((dense(row).T @ known)[balanced]).max() < 1e-15


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("C10H12N5O13P3", {"C": 10, "H": 12, "N": 5, "O": 13, "P": 3}),
        ("CH4", {"C": 1, "H": 4}),
        ("CO", {"C": 1, "O": 1}),
        ("Co", {"Co": 1}),
        ("C2H3C2", {"C": 4, "H": 3}),
        ("C1.5H0", {"C": Fraction(3, 2), "H": 0}),
        ("C11H21N2O7PRS", {"C": 11, "H": 21, "N": 2, "O": 7, "P": 1, "R": 1, "S": 1}),
        ("", None),
        (None, None),
        ("Ammonia", None),
        ("C6H10(C2H4)n", None),
        ("C6 H6", None),
        ("2", None),
        ("C1.H2", None),
    ],
)
def test_formulas(text, counts):
    assert parse_formula(text) == counts


def test_numbers_are_those_that_were_written():
    assert exact(0.1) == Fraction(1, 10)
    assert exact(1e-05) == Fraction(1, 100_000)
    assert exact(-59.81) == Fraction(-5981, 100)
    assert balance({"a": exact(0.1), "b": exact(-0.3)}, {"a": {"C": Fraction(3)}, "b": {"C": Fraction(1)}}) == {}
    assert balance({"a": exact(1)}, {"a": None}) is None


def test_charges_that_a_file_does_not_state_are_unknown(tmp_path):
    model = made_up_model()
    for each in model.metabolites:
        each.charge = 0
    (row,) = rows_of(build_metabolic_networks(folder_with(tmp_path, made_up=model)))
    assert np.isnan(row["metabolite_charge"]).all()
    assert set(row["reaction_charge_balanced"]) == {-1}
    # In SBML the attribute can be left out, which cobra reads as 0.
    cobra.io.write_sbml_model(made_up_model(), str(tmp_path / "made_up.xml"))
    read = {each.id: each.charge for each in read_model(tmp_path / "made_up.xml").metabolites}
    assert (read["e_c"], read["a_c"], read["d_c"], read["f_c"]) == (None, 0, -1, 2)
    # Version 3 of the package has charges that are no whole numbers.
    text = (tmp_path / "made_up.xml").read_text().replace("fbc/version2", "fbc/version3")
    (tmp_path / "three.xml").write_text(text.replace('fbc:charge="2"', 'fbc:charge="1.5"'))
    read = {each.id: each.charge for each in read_model(tmp_path / "three.xml").metabolites}
    assert (read["e_c"], read["a_c"], read["d_c"], read["f_c"]) == (None, 0, -1, Fraction(3, 2))


def test_sbml_and_json_and_gzip_give_the_same(tmp_path):
    folder = folder_with(tmp_path, made_up=made_up_model())["models"]
    cobra.io.write_sbml_model(made_up_model(), str(folder / "made_up.xml"))
    (folder / "made_up.xml.gz").write_bytes(gzip.compress((folder / "made_up.xml").read_bytes()))
    models = [read_model(folder / name) for name in ("made_up.json", "made_up.xml", "made_up.xml.gz")]
    # cobra writes no subsystems into SBML without groups.
    reactions = [[dataclasses.replace(each, subsystem="") for each in model.reactions] for model in models]
    assert reactions[1:] == reactions[:1] * 2
    for model in models[1:]:
        assert [each.elements for each in model.metabolites] == [each.elements for each in models[0].metabolites]


def test_identifiers_of_old_files_do_not_end_the_process(tmp_path):
    cobra.io.write_sbml_model(made_up_model(), str(tmp_path / "old.xml"))
    text = (tmp_path / "old.xml").read_text().replace("M_b_c", "M_dTDP__4__b__45__c")
    (tmp_path / "old.xml").write_text(text)
    # 45 is the code of a hyphen, 4 of no character that one writes.
    assert read_model(tmp_path / "old.xml").metabolites[1].id == "dTDP__4__b-c"


def test_species_decide_the_split(tmp_path):
    folder = folder_with(tmp_path, **{f"m{number}": made_up_model(f"m{number}") for number in range(5)})
    splits = build_metabolic_networks(folder)
    for name, rows in splits.items():
        assert {split_of(species) for species in rows["species"]} == ({name} if len(rows) else set())
    assert {row["object_id"] for row in rows_of(splits)} == {f"testella sp. {number}" for number in range(5)}
    # Under the name that all data sets use.
    aliases = [("taxon 7", "species", f"testella sp. {number}", [], None) for number in range(5)]
    columns = zip(*aliases, strict=True)
    identity = IdentityTable.from_tables({}).rows.from_arrays(
        [list(column) for column in columns], schema=IDENTITY_SCHEMA
    )
    held = datasets.Dataset(identity.cast(OBJECT_IDENTITY_FEATURES.arrow_schema))
    write_hub_folder(datasets.DatasetDict({"train": held}), OBJECT_IDENTITY_CARD, tmp_path / "identity")
    together = build_metabolic_networks({**folder, "object_identity": tmp_path / "identity"})
    assert {row["object_id"] for row in rows_of(together)} == {"taxon 7"}
    assert len(together[split_of("taxon 7")]) == 5


def test_yaml_gives_what_json_gives(tmp_path):
    cobra.io.save_json_model(made_up_model(), str(tmp_path / "a.json"))
    cobra.io.save_yaml_model(made_up_model(), str(tmp_path / "a.yml"))
    json_model, yaml_model = (read_model(tmp_path / name) for name in ("a.json", "a.yml"))
    assert dataclasses.replace(yaml_model, sha256=json_model.sha256) == json_model


def test_what_json_leaves_open_is_read(tmp_path):
    body = broken(
        metabolites__0__charge=math.nan,
        metabolites__1__formula=5,
        metabolites__2__compartment=1,
        reactions__0__subsystem=["One", "Two"],
        reactions__0__annotation={"rhea": 10000, "ec-code": None},
    )
    (tmp_path / "a.json").write_bytes(body)
    model = read_model(tmp_path / "a.json")
    a, b, c = model.metabolites[:3]
    assert (a.charge, b.formula, b.elements, c.compartment) == (None, "5", None, "1")
    reaction = model.reactions[0]
    assert (reaction.subsystem, reaction.rhea_ids, reaction.ec_numbers) == ("One; Two", ("RHEA:10000",), ())


SBML_2 = """\
<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level2{version_name}" level="2" version="{version}"><model id="MODELID_1">
<listOfCompartments><compartment id="c"/></listOfCompartments>
<listOfSpecies>
<species id="M_a_c" compartment="c" charge="-1"><notes><html xmlns="http://www.w3.org/1999/xhtml">
<p>FORMULA: C2H3O2</p><p>CHARGE: -1</p></html></notes></species>
<species id="M_b_c" compartment="c"><notes><html xmlns="http://www.w3.org/1999/xhtml"><p>FORMULA: (C6H10O5)n</p></html>
</notes></species>
</listOfSpecies>
<listOfReactions><reaction id="R_AB" reversible="true"><notes><html xmlns="http://www.w3.org/1999/xhtml">
<p>GENE_ASSOCIATION: {rule}</p><p>SUBSYSTEM: Testing</p></html></notes>
<listOfReactants><speciesReference species="M_a_c" stoichiometry="0.5"/></listOfReactants>
<listOfProducts><speciesReference species="M_b_c"/></listOfProducts>
<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><ci>FLUX_VALUE</ci></math><listOfParameters>
<parameter id="LOWER_BOUND" value="-7"/><parameter id="UPPER_BOUND" value="8"/>
</listOfParameters></kineticLaw></reaction></listOfReactions></model></sbml>
"""


@pytest.mark.parametrize("rule", ["", "(b1 and  b2)", " b1", f"b1 or {'b' * 300}", "b1\u00a0b2"])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_sbml_of_level_2_is_read_whatever_its_rules(tmp_path, version, rule):
    path = tmp_path / "old.xml"
    version_name = f"/version{version}" if version > 1 else ""
    path.write_text(SBML_2.format(version=version, version_name=version_name, rule=rule))
    model = read_model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        theirs = cobra.io.read_sbml_model(str(path))
    (reaction,) = model.reactions
    assert reaction.stoichiometry == {"a_c": Fraction(-1, 2), "b_c": 1}
    assert (reaction.lower_bound, reaction.upper_bound) == (-7, 8)
    assert reaction.gene_rule == theirs.reactions.AB.gene_reaction_rule
    assert model.genes == tuple(gene.id for gene in theirs.genes)
    a, b = model.metabolites
    assert (a.charge, dict(a.elements), b.charge, b.elements) == (-1, {"C": 2, "H": 3, "O": 2}, None, None)


@pytest.mark.parametrize(
    ("model_id", "name", "has_taxon", "species"),
    [
        ("MODELID_2423527", "M. barkeri iAF692", False, "Methanosarcina barkeri"),
        ("iAF692", "", False, "Methanosarcina barkeri"),
        ("iGB555_fixed", "", False, "Neisseria meningitidis"),
        ("new", "Escherichia coli str. K-12 substr. MG1655", True, "Escherichia coli"),
        ("new", "Escherichia coli str. K-12 substr. MG1655", False, None),
        ("new", "Metabolic Reconstruction", True, None),
        ("new", "", True, None),
    ],
)
def test_the_species_of_a_model(model_id, name, has_taxon, species):
    assert model_species("file.xml", model_id, name, has_taxon, {}) == species
    assert model_species("file.xml", model_id, name, has_taxon, {"file.xml": "Testella"}) == "Testella"
    named = model_species("iIT341.xml.gz", model_id, name, has_taxon, {})
    assert named == (species if model_id != "new" else "Helicobacter pylori")


def test_the_folder_opens_and_gives_arrays(tmp_path):
    inputs = folder_with(tmp_path, a=made_up_model("a"), b=made_up_model("b"), c=made_up_model("c"))
    species = "a.json,Escherichia coli\nb.json,Methanosarcina barkeri\nc.json,Schizosaccharomyces pombe\n"
    (inputs["models"] / "species.csv").write_text(f"file,species\n{species}")
    splits = build_metabolic_networks(inputs)
    assert [len(splits[name]) for name in SPLIT_NAMES] == [1, 1, 1]
    folder = write_hub_folder(splits, METABOLIC_NETWORKS_CARD, tmp_path / "out")
    loaded = datasets.load_dataset(str(folder), "metabolic_networks", cache_dir=str(tmp_path / "cache"))
    assert loaded["test"].features == METABOLIC_NETWORKS_FEATURES
    cells = TableCells(loaded["train"].data.table).rows([0])[0]
    assert (cells["edge_index"].shape, cells["element_counts"].shape) == ((2, 12), (7, 4))
    assert set(METABOLIC_NETWORKS_CARD.columns) == set(METABOLIC_NETWORKS_FEATURES)


def test_models_of_other_elements_are_batched_by_pyg(tmp_path):
    pyg = pytest.importorskip("torch_geometric.data", reason="torch_geometric is not installed")
    with_iron = made_up_model("b")
    with_iron.metabolites.a_c.formula = "C2H4Fe"
    splits = build_metabolic_networks(folder_with(tmp_path, a=made_up_model("a"), b=with_iron))
    rows = [
        cells for name in SPLIT_NAMES for cells in TableCells(splits[name].data.table).rows(range(len(splits[name])))
    ]
    symbols = ["C", "Fe", "H", "O", "R"]
    graphs = []
    for row in rows:
        counts = torch.zeros(len(row["metabolite_id"]), len(symbols), dtype=torch.float64)
        counts[:, [symbols.index(each) for each in row["elements"]]] = torch.tensor(row["element_counts"])
        graph = pyg.HeteroData()
        graph["metabolite"].x = torch.column_stack([counts, torch.tensor(row["metabolite_charge"])])
        graph["reaction"].x = torch.tensor(
            np.stack([row["reaction_lower_bound"], row["reaction_upper_bound"]], axis=1)
        )
        graph["metabolite", "in", "reaction"].edge_index = torch.tensor(row["edge_index"])
        graph["metabolite", "in", "reaction"].edge_attr = torch.tensor(row["stoichiometry"])
        graphs.append(graph)
    batch = pyg.Batch.from_data_list(graphs)
    assert batch["metabolite"].x.shape == (14, 6)
    assert sorted(batch["metabolite"].x[[0, 7], 1].tolist()) == [0, 1]
    assert batch["metabolite", "in", "reaction"].edge_index.max(dim=1).values.tolist() == [13, 11]


def test_what_is_wrong_is_named(tmp_path):
    inputs = folder_with(tmp_path, made_up=made_up_model())
    folder = inputs["models"]
    with pytest.raises(BuildError, match="from-folder must name models, and may name object_identity; got none"):
        build_metabolic_networks({})
    with pytest.raises(BuildError, match=r"models must be a folder with \.json, \.sbml, \.xml"):
        build_metabolic_networks({"models": tmp_path / "nothing"})
    (folder / "other.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(
        BuildError, match=r"models must be SBML or cobra's JSON or YAML, plain or \.gz; got other\.mat"
    ):
        build_metabolic_networks(inputs)
    (folder / "other.mat").unlink()
    (folder / "species.csv").unlink()
    with pytest.raises(BuildError, match=r"species must be known of each model; got none for made_up\.json"):
        build_metabolic_networks(inputs)
    for text, message in (
        ("file\n", "species.csv must have the columns file, species; got"),
        ("file,species\nother.json,A b\n", "must name each file of the folder once, with its species; got 'other"),
        ("file,species\nmade_up.json,\n", "got 'made_up.json', '' in line 2"),
    ):
        (folder / "species.csv").write_text(text)
        with pytest.raises(BuildError, match=message):
            build_metabolic_networks(inputs)
    (folder / "species.csv").unlink()
    shutil.copy(folder / "made_up.json", folder / "twin.json")
    (folder / "species.csv").write_text("file,species\nmade_up.json,A b\ntwin.json,A b\n")
    with pytest.raises(BuildError, match=r"twin\.json must be another model than made_up\.json"):
        build_metabolic_networks(inputs)


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("a.xml", b"<html>Not found</html>", "a.xml must be a model that cobra reads"),
        ("a.xml", b"", "a.xml must be a model that cobra reads"),
        ("a.xml.gz", b"<sbml>", "a.xml.gz must be a whole file in UTF-8; got Not a gzipped file"),
        ("a.json", b"{}", "a.json must be a model that cobra reads; got KeyError: 'metabolites'"),
        ("a.json", b"[1, 2", "a.json must be a model that cobra reads; got JSONDecodeError"),
        ("a.json", b"\xff\xfe", "a.json must be a whole file in UTF-8"),
        ("a.json", broken(metabolites__0__id="a\x04c"), "an identifier must be 1 to 250 printable characters"),
        ("a.json", broken(metabolites__0__id="a" * 300), "an identifier must be 1 to 250 printable characters"),
        (
            "a.json",
            broken(reactions__0__metabolites={"a_c": math.nan}),
            r"a\.json .*; reaction MIX must have bounds and finite coefficients; got",
        ),
        ("a.json", broken(reactions__0__lower_bound=2000.0), "a.json must be a model that cobra reads"),
        ("a.json", broken(metabolites__0__charge="two"), "a.json must be a model with numbers and names .*'two'"),
        ("a.json", broken(metabolites__0__charge=math.inf), "a.json must be a model with numbers and names"),
        ("a.yml", b"- [", "a.yml must be a model that cobra reads"),
        ("a.json", b'{"metabolites": [], "reactions": [], "genes": [], "id": "x"}', "a.json must hold reactions"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path, name, body, message):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(BuildError, match=message):
        read_model(tmp_path / name)


# Reactions within the cell whose elements balance exactly, do not, and cannot be judged.
REAL = {
    "T_Maritima.xml.gz": ("thermotoga maritima", (554, 5, 4)),
    "e_coli_core.xml": ("escherichia coli", (74, 1, 0)),
    "iAF692.xml.gz": ("methanosarcina barkeri", (618, 2, 0)),
    "iAI549.xml.gz": ("dehalococcoides ethenogenes", (0, 0, 520)),
    "iIT341.xml.gz": ("helicobacter pylori", (471, 6, 0)),
    "iJN678.xml.gz": ("synechocystis sp. pcc 6803", (794, 12, 0)),
    "iJO1366.xml.gz": ("escherichia coli", (2251, 2, 0)),
    "iSB619.xml.gz": ("staphylococcus aureus", (640, 17, 0)),
    "iSR432.xml.gz": ("clostridium thermocellum", (0, 0, 560)),
    "mini.json": ("escherichia coli", (14, 0, 1)),
    "textbook.xml.gz": ("escherichia coli", (74, 1, 0)),
}


def check_real(tmp_path, names):
    for name in names:
        os.symlink(SAMPLES / "metabolic" / name, tmp_path / name)
    rows = {row["source_file"]: row for row in rows_of(build_metabolic_networks({"models": tmp_path}))}
    for name in names:
        path = SAMPLES / "metabolic" / name
        read = cobra.io.load_json_model if name.endswith(".json") else cobra.io.read_sbml_model
        assert_is_cobras(rows[name], read(str(path)))
        inside = [
            code
            for code, boundary in zip(
                rows[name]["reaction_elements_balanced"], rows[name]["reaction_boundary"], strict=True
            )
            if not boundary
        ]
        counts = tuple(inside.count(code) for code in (1, 0, -1))
        assert (rows[name]["object_id"], counts) == REAL[name]


@needs_samples
def test_real_models(tmp_path):
    check_real(tmp_path, ["e_coli_core.xml", "iSR432.xml.gz", "mini.json", "textbook.xml.gz"])


@needs_samples
@pytest.mark.slow
def test_all_real_models(tmp_path):
    found = {path.name for path in (SAMPLES / "metabolic").iterdir()}
    check_real(tmp_path, sorted(found & set(REAL)))
