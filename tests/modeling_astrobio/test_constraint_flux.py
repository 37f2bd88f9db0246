"""Optimum and flux ranges equal what the network carries by hand, and cobra's own."""

import pytest
from metabolic_models import small_network, stoichiometry

from modeling_astrobio.metabolic_network import NetworkError, NetworkReaction


pytest.importorskip("cobra", reason="the extra chem is not installed")

from modeling_astrobio.constraint_flux import flux_report
from modeling_astrobio.metabolic_files import read_network


def test_glycolysis_yields_two_atp_a_glucose():
    # Ten of glucose come in; with lactate going out the redox balance closes and two of ATP are left for each.
    network = small_network(leave_out=("PPS", "ADK", "FBP"), exchanges=("glc", "lac", "h", "h2o", "pi"))
    report = flux_report(network, ["EX_lac", "PYK"])
    assert report.status == "optimal"
    assert report.optimum == pytest.approx(20.0, abs=1e-6)
    assert report.ranges["EX_lac"][1] == pytest.approx(20.0, abs=1e-6)
    assert report.carries("PYK")


def test_a_gap_stops_the_flux_and_the_reaction_restores_it():
    exchanges = ("glc", "lac", "h", "h2o", "pi")
    gapped = small_network(leave_out=("PPS", "ADK", "FBP", "ENO"), exchanges=exchanges)
    assert flux_report(gapped, []).optimum == pytest.approx(0.0, abs=1e-9)
    assert not flux_report(gapped, ["PYK"]).carries("PYK")
    filled = gapped.with_reactions([NetworkReaction("new", stoichiometry("2pg", "h2o pep"))])
    report = flux_report(filled, ["new"])
    assert report.optimum == pytest.approx(20.0, abs=1e-6)
    assert report.carries("new")
    assert report.ranges["new"] == pytest.approx((0.0, 20.0), abs=1e-5)


def test_a_dead_end_carries_nothing():
    network = small_network(exchanges=("glc", "h", "h2o", "pi"))
    assert not flux_report(network, ["LDH"]).carries("LDH")


def test_a_network_without_a_steady_state_is_infeasible():
    network = small_network(exchanges=("glc", "lac"))
    reactions = {**network.reactions, "ATPM": NetworkReaction("ATPM", stoichiometry("atp", "adp"), 5.0, 10.0)}
    without = type(network)("stuck", network.compounds, {**reactions})
    report = flux_report(without, ["LDH"])
    assert report.status == "infeasible"
    assert report.optimum == 0.0
    assert not report.carries("LDH")


def test_unknown_reactions_are_refused():
    with pytest.raises(NetworkError, match="reaction_ids must be of network small; got no_such"):
        flux_report(small_network(), ["no_such"])


def test_the_shared_core_model_grows_as_cobra_says(shared_dir):
    network = read_network(shared_dir / "graph_samples" / "metabolic" / "textbook.xml.gz")
    report = flux_report(network, ["PGI"])
    assert report.optimum == pytest.approx(0.8739215, abs=1e-6)  # King et al. 2015, doi:10.1371/journal.pcbi.1004321
    assert report.carries("PGI")
