"""Metabolic networks: cobra's stoichiometry, round trips through files and tensors, errors that name the item."""

import gzip
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from metabolic_models import compound, small_network, stoichiometry

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.constraint_balance import (
    BalanceError,
    balance_residual,
    balanced_stoichiometry,
    conservation_matrix,
    conserved_amounts,
    integer_null_space,
)
from modeling_astrobio.graph_features import EDGE_TYPES, FORMULA_ELEMENTS, MOTIF_TYPES, NODE_FEATURES
from modeling_astrobio.graph_record import GraphError
from modeling_astrobio.metabolic_network import Compound, MetabolicNetwork, NetworkError, NetworkReaction
from modeling_astrobio.metabolic_tensors import compound_features, network_record, stoichiometries_of


cobra = pytest.importorskip("cobra", reason="the extra chem is not installed")

from modeling_astrobio.metabolic_files import network_to_cobra, read_network, read_networks  # noqa: E402


CONFIG = AstroGraphVAEConfig.from_preset("tiny")
FEATURE = {name: place for place, name in enumerate(NODE_FEATURES)}


@pytest.mark.parametrize("suffix", [".xml", ".xml.gz", ".json", ".json.gz"])
def test_files_give_back_the_network(tmp_path, suffix):
    network = small_network()
    model = network_to_cobra(network)
    path = tmp_path / f"model{suffix}"
    plain = tmp_path / f"plain{suffix.removesuffix('.gz')}"
    if ".xml" in suffix:
        cobra.io.write_sbml_model(model, str(plain))
    else:
        cobra.io.save_json_model(model, str(plain))
    path.write_bytes(gzip.compress(plain.read_bytes()) if suffix.endswith(".gz") else plain.read_bytes())
    found = read_network(path)
    assert found.compounds == network.compounds
    assert {name: dict(each.stoichiometry) for name, each in found.reactions.items()} == {
        name: dict(each.stoichiometry) for name, each in network.reactions.items()
    }
    assert [(each.lower_bound, each.upper_bound) for each in found.reactions.values()] == [
        (each.lower_bound, each.upper_bound) for each in network.reactions.values()
    ]
    assert found.objective == network.objective
    # SBML as cobra writes it has no pathways.
    pathways = {""} if ".xml" in suffix else {"", "Glycolysis"}
    assert {each.subsystem for each in found.reactions.values()} == pathways


def test_a_cobra_model_is_read_as_its_file_is():
    network = small_network()
    assert read_network(network_to_cobra(network)) == network


def test_a_model_that_charges_nothing_states_no_charges():
    model = network_to_cobra(small_network())
    for metabolite in model.metabolites:
        metabolite.charge = 0
    assert {each.charge for each in read_network(model).compounds.values()} == {None}


def test_shared_models_have_cobras_stoichiometry(shared_dir):
    path = shared_dir / "graph_samples" / "metabolic" / "e_coli_core.xml"
    model, network = cobra.io.read_sbml_model(str(path)), read_network(path)
    assert len(network.reactions) == len(model.reactions) == 95
    for reaction in model.reactions:
        numbers = {each.id: number for each, number in reaction.metabolites.items()}
        assert {
            name: float(number) for name, number in network.reactions[reaction.id].stoichiometry.items()
        } == numbers


def bad_model(change):
    content = json.loads(cobra.io.to_json(network_to_cobra(small_network("bad"))))
    change(content)
    return json.dumps(content)


def set_coefficient(content, value):
    next(each for each in content["reactions"] if each["id"] == "PGI")["metabolites"]["g6p_c"] = value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused_by_name(tmp_path, value):
    path = tmp_path / "bad.json"
    path.write_text(bad_model(lambda content: set_coefficient(content, value)))
    with pytest.raises(NetworkError, match=r"PGI must have coefficients that are finite|bad.json must be"):
        read_network(path)
    reaction = NetworkReaction("R", {"glc_c": value})
    with pytest.raises(NetworkError, match=f"network n: reaction R must have coefficients .* got {value} for glc_c"):
        MetabolicNetwork("n", {"glc_c": compound("glc")}, {"R": reaction})


def test_empty_networks_and_reactions_are_refused_by_name(tmp_path):
    with pytest.raises(NetworkError, match="network n must hold reactions"):
        MetabolicNetwork("n", {}, {})
    with pytest.raises(NetworkError, match="network n: reaction R must have compounds; it has none"):
        MetabolicNetwork("n", {}, {"R": NetworkReaction("R", {})})
    with pytest.raises(NetworkError, match="reaction R must be of compounds of the network; got x"):
        MetabolicNetwork("n", {}, {"R": NetworkReaction("R", {"x": Fraction(1)})})
    reaction = NetworkReaction("R", {"glc_c": Fraction(1)}, math.nan, 1.0)
    with pytest.raises(NetworkError, match="reaction R must have bounds that are numbers"):
        MetabolicNetwork("n", {"glc_c": compound("glc")}, {"R": reaction})
    with pytest.raises(NetworkError, match="network empty must hold reactions"):
        read_network(cobra.Model("empty"))


def test_the_other_networks_are_unharmed(tmp_path):
    good = tmp_path / "good.json"
    cobra.io.save_json_model(network_to_cobra(small_network("good")), str(good))
    cut = tmp_path / "cut.xml.gz"
    cut.write_bytes(gzip.compress(b"<sbml>" * 99)[:30])
    text = tmp_path / "text.json"
    text.write_text("no model")
    networks, errors = read_networks([cut, good, tmp_path / "absent.xml", text, cobra.Model("empty")])
    assert [each.id for each in networks] == ["good"]
    assert len(errors) == 4
    assert "cut.xml.gz must be a whole file" in errors[str(cut)]
    assert "absent.xml must be a whole file" in errors[str(tmp_path / "absent.xml")]
    assert "text.json must be SBML or cobra's JSON" in errors[str(text)]
    assert "network empty must hold reactions" in errors["4: empty"]


def test_removed_reactions_take_their_compounds_with_them():
    network = small_network().without(["LDH", "lact"])
    assert "lac_c" not in network.compounds
    assert "pyr_c" in network.compounds
    assert "lac_e" in network.compounds  # the exchange still has it
    with pytest.raises(NetworkError, match="must hold what is removed; got no_such"):
        network.without(["no_such"])


def test_an_unbalanced_reaction_is_refused_by_name():
    network = small_network(leave_out=("PGI", "PFK"))
    back = network.with_reactions([NetworkReaction("PGI", stoichiometry("g6p", "f6p"))])
    assert "PGI" in back.reactions
    with pytest.raises(
        BalanceError, match=r"reaction BAD of network small .* it gains -3 O, -1 P, -1 H, 1 charge|BAD"
    ):
        network.with_reactions([NetworkReaction("BAD", stoichiometry("atp", "adp"))])
    with pytest.raises(NetworkError, match="must not hold what is added; got FBA"):
        network.with_reactions([NetworkReaction("FBA", stoichiometry("g6p", "f6p"))])
    unknown = Compound.of("x_c", "Ferredoxin", 0)
    with pytest.raises(BalanceError, match="compound x_c must have a formula"):
        network.with_reactions([NetworkReaction("R", {"x_c": Fraction(-1), "g6p_c": Fraction(1)})], [unknown])


def test_features_of_a_compound():
    row = compound_features(Compound.of("x", "C2H3Hg2AuNa", -3), external=True)
    expected = np.zeros(len(NODE_FEATURES), dtype=np.float32)
    counts = {"C": 2, "H": 3, "Na": 1, "other": 3}
    for element in FORMULA_ELEMENTS:
        expected[FEATURE[f"log_count_{element}"]] = math.log1p(counts.get(element, 0))
    expected[FEATURE["signed_log_charge"]] = -math.log(4)
    expected[FEATURE["compound_external"]] = 1
    np.testing.assert_array_equal(row, expected)


def test_the_graph_of_a_network():
    network = small_network()
    graph = network_record(network, CONFIG.atom_types)
    compounds, reactions = list(network.compounds), list(network.reactions)
    assert (graph.node_types[: len(compounds)] == CONFIG.compound_type).all()
    assert (graph.node_types[len(compounds) :] == CONFIG.reaction_type).all()
    assert graph.size == len(compounds) + len(reactions)
    dense = np.zeros((len(compounds), len(reactions)))
    for edge, (first, second) in enumerate(graph.edge_index.T):
        number = graph.edge_features[edge, 0]
        dense[first, second - len(compounds)] = math.copysign(math.expm1(abs(number)), number)
        assert EDGE_TYPES[graph.edge_types[edge]] == ("substrate" if number < 0 else "product")
    expected = cobra.util.create_stoichiometric_matrix(network_to_cobra(network))
    np.testing.assert_allclose(dense, expected, atol=1e-6)
    reversible = graph.node_features[len(compounds) :, FEATURE["reaction_reversible"]]
    assert reversible.tolist() == [float(each.reversible) for each in network.reactions.values()]
    external = graph.node_features[: len(compounds), FEATURE["compound_external"]]
    assert {compounds[place] for place in np.flatnonzero(external)} == {"glc_e", "lac_e"}
    assert graph.motif_types.tolist() == [MOTIF_TYPES.index("pathway")]
    members = {reactions[place - len(compounds)] for place in np.flatnonzero(graph.motif_nodes[0])}
    assert members == {name for name, each in network.reactions.items() if each.subsystem}


def test_reactions_come_back_from_the_graph():
    network = small_network()
    biomass = {"atp_c": Fraction("-53.95"), "adp_c": Fraction("53.95"), "pyr_c": Fraction("-0.333")}
    reactions = {**network.reactions, "BIOMASS": NetworkReaction("BIOMASS", biomass)}
    network = MetabolicNetwork("n", network.compounds, reactions)
    graph = network_record(network, CONFIG.atom_types)
    found = stoichiometries_of(graph, list(network.compounds), CONFIG.atom_types)
    assert found == [dict(each.stoichiometry) for each in network.reactions.values()]
    with pytest.raises(GraphError, match="names must be 22"):
        stoichiometries_of(graph, ["a"], CONFIG.atom_types)


def test_a_backward_reaction_is_drawn_the_way_it_runs():
    reaction = NetworkReaction("R", stoichiometry("f6p", "g6p"), -1000.0, 0.0)
    compounds = {name: compound(name.removesuffix("_c")) for name in reaction.stoichiometry}
    graph = network_record(MetabolicNetwork("n", compounds, {"R": reaction}), CONFIG.atom_types)
    (found,) = stoichiometries_of(graph, list(compounds), CONFIG.atom_types)
    assert found == stoichiometry("g6p", "f6p")


@pytest.mark.parametrize(("file", "least"), [("textbook.xml.gz", 50), ("iIT341.xml.gz", 350)])
def test_curated_reactions_are_recovered_from_their_compounds(shared_dir, file, least):
    network = read_network(shared_dir / "graph_samples" / "metabolic" / file)
    amounts = {
        name: conserved_amounts(name, each.elements, each.charge)
        for name, each in network.compounds.items()
        if each.elements is not None and each.charge is not None
    }
    recovered = 0
    for reaction in network.reactions.values():
        whole = all(name in amounts and number.denominator == 1 for name, number in reaction.stoichiometry.items())
        if reaction.boundary or not whole or balance_residual(reaction.stoichiometry, amounts):
            continue
        chosen = {name: amounts[name] for name in reaction.stoichiometry}
        if len(integer_null_space(conservation_matrix(list(chosen.values())), len(chosen))) > 1:
            # Isomers on one side, or protons on both: compounds alone do not tell the reaction.
            continue
        found = balanced_stoichiometry(chosen)
        factor = next(number / found[name] for name, number in reaction.stoichiometry.items())
        assert reaction.stoichiometry == {name: factor * number for name, number in found.items()}
        recovered += 1
    assert recovered >= least
