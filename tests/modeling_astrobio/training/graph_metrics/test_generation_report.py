"""The report of all metrics at once, and the floor of two halves."""

import gzip
import json
import logging
import math

import numpy as np
import pytest


pytest.importorskip("rdkit", reason="the extra chem is not installed")
pytest.importorskip("evaluate", reason="evaluate is not installed: pip install evaluate")
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.descriptors import DESCRIPTORS
from modeling_astrobio.training.graph_metrics.generation_report import generation_report, split_half_floor
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


CHAINS = ["CCO", "CCCO", "CCN", "CC(C)O", "C1CC2CC2C1", "c1ccc2ccccc2c1", "CCOC(C)=O", "NCC(=O)O"]
DISTANCES = {
    "descriptor_distance",
    *(f"descriptor_distance_{name}" for name in DESCRIPTORS),
    "descriptor_kl",
    "frechet_descriptor_distance",
    "fragment_similarity",
    "scaffold_similarity",
    "nearest_similarity",
    "internal_diversity",
}
COUNTS = {"samples", "valid_samples", "validity", "uniqueness", "novelty"}


def test_the_report_is_flat_finite_and_json():
    report = generation_report([None, *CHAINS, "CCO"], CHAINS[:4], CHAINS)
    assert set(report) == COUNTS | DISTANCES
    assert all(math.isfinite(value) for value in json.loads(json.dumps(report)).values())
    assert {name: report[name] for name in COUNTS} == {
        "samples": 10,
        "valid_samples": 9,
        "validity": 0.9,
        "uniqueness": pytest.approx(8 / 9),
        "novelty": 0.5,
    }
    assert report["nearest_similarity"] == pytest.approx(1)


def test_a_set_that_was_read_gives_the_same():
    known, trained = MoleculeSet.known(CHAINS, "reference"), MoleculeSet.known(CHAINS[:4], "training")
    samples = ["CCCC", "CO", None]
    assert generation_report(samples, trained, known) == generation_report(samples, CHAINS[:4], CHAINS)
    assert generation_report(samples, trained, known) == generation_report(samples, trained, known)


def test_what_has_no_value_is_absent_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        report = generation_report([None, "C("], CHAINS, CHAINS)
    assert report == {"samples": 2, "valid_samples": 0, "validity": 0}
    assert "uniqueness is left out: uniqueness needs samples with at least 1 valid molecules; got 0" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        report = generation_report(["CCO"], CHAINS, CHAINS[:4])
    assert COUNTS | DISTANCES - set(report) == COUNTS | {"frechet_descriptor_distance", "scaffold_similarity"}
    assert "scaffold_similarity is left out: scaffold_similarity needs a reference that has some" in caplog.text


def test_unpaired_electrons_of_the_vocabulary():
    assert generation_report(["[CH3]", "C"], CHAINS, CHAINS)["validity"] == 0.5
    assert generation_report(["[CH3]", "C"], CHAINS, CHAINS, atom_types=[[6, 0, 1, 3]])["validity"] == 1


def test_wrong_sets_are_refused():
    with pytest.raises(DataError, match="samples must hold at least one entry"):
        generation_report([], CHAINS, CHAINS)
    with pytest.raises(DataError, match="training must hold at least one molecule"):
        generation_report(["C"], [], CHAINS)
    with pytest.raises(DataError, match=r"reference must hold molecules in one piece; got 'C\.C' at 0"):
        generation_report(["C"], CHAINS, ["C.C"])
    with pytest.raises(DataError, match="reference with at least 4 valid molecules; got 3 of 3"):
        split_half_floor(CHAINS[:3])


def test_the_floor_compares_disjoint_halves():
    reference = CHAINS * 2
    floor = split_half_floor(reference, seed=3)
    places = np.random.default_rng(3).permutation(16)
    halves = [[reference[place] for place in part] for part in (places[:8], places[8:])]
    report = generation_report(halves[0], CHAINS, halves[1])
    assert floor == {name: value for name, value in report.items() if name in DISTANCES}
    assert split_half_floor(reference, seed=3) == floor
    assert split_half_floor(reference, seed=4) != floor


@pytest.mark.slow
def test_qm9_is_nearer_to_itself_than_chains_are(shared_dir):
    path = shared_dir / "graph_samples" / "molecules" / "qm9_smiles.txt.gz"
    if not path.is_file():
        pytest.skip(f"the QM9 sample is absent: no {path}")
    with gzip.open(path, "rt") as lines:
        molecules = [line.strip() for _, line in zip(range(4000), lines, strict=False)]
    reference = MoleculeSet.known(molecules[:2000], "reference")
    radicals = [[6, 0, 1, 3], [6, 0, 2, 2], [7, 0, 1, 2], [8, 0, 1, 1]]
    near = generation_report(molecules[2000:], molecules[:2000], reference, atom_types=radicals)
    far = generation_report(["C" * length for length in range(1, 10)] * 200, molecules[:2000], reference)
    assert near["validity"] > 0.99
    assert near["descriptor_distance"] < 0.06 < 0.5 < far["descriptor_distance"]
    assert near["frechet_descriptor_distance"] < 8 < far["frechet_descriptor_distance"]
    assert near["fragment_similarity"] > 0.9 > far["fragment_similarity"]
    floor = split_half_floor(reference)
    assert floor["descriptor_distance"] < 0.08
