"""Metrics of generated molecules, against naive references and cases computed by hand."""

import math
from collections import Counter

import numpy as np
import pytest


pytest.importorskip("rdkit", reason="the extra chem is not installed")
pytest.importorskip("evaluate", reason="evaluate is not installed: pip install evaluate")
from rdkit import Chem, DataStructs
from rdkit.Chem import QED, Descriptors, rdFingerprintGenerator

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.count_similarity import count_similarity
from modeling_astrobio.training.graph_metrics.descriptor_distance import descriptor_distance, wasserstein
from modeling_astrobio.training.graph_metrics.descriptor_kl import descriptor_kl
from modeling_astrobio.training.graph_metrics.descriptors import DESCRIPTORS
from modeling_astrobio.training.graph_metrics.fragment_similarity import fragment_similarity
from modeling_astrobio.training.graph_metrics.frechet_descriptor_distance import (
    frechet,
    frechet_descriptor_distance,
)
from modeling_astrobio.training.graph_metrics.internal_diversity import internal_diversity
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet, canonical_smiles, radical_kinds
from modeling_astrobio.training.graph_metrics.nearest_similarity import nearest_similarity
from modeling_astrobio.training.graph_metrics.novelty import novelty
from modeling_astrobio.training.graph_metrics.reconstruction import reconstruction_rate
from modeling_astrobio.training.graph_metrics.scaffold_similarity import scaffold_similarity
from modeling_astrobio.training.graph_metrics.tanimoto import tanimoto_rows
from modeling_astrobio.training.graph_metrics.uniqueness import uniqueness
from modeling_astrobio.training.graph_metrics.validity import validity


FIRST = ("CCO", "c1ccccc1", "CC(=O)Nc1ccccc1", "C1CC2CC2C1", "NCC(=O)O", "C", "CCOC(=O)c1ccco1")
SECOND = ("CCN", "c1ccncc1", "CC(=O)NC", "C1CC2CC2C1", "OCC(O)CO", "O=C1CC2CC2C1", "FC(F)F", "CCO", "c1ccc2ccccc2c1")


def sets() -> tuple[MoleculeSet, MoleculeSet]:
    return MoleculeSet.known(FIRST, "first"), MoleculeSet.known(SECOND, "second")


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("OCC", "CCO"),
        ("C[C@H](F)O", "CC(O)F"),
        ("F/C=C/F", "FC=CF"),
        ("[13CH4]", "C"),
        ("[O-][N+](=O)C", "C[N+](=O)[O-]"),
        ("C[C]([NH])OC=O", None),
        ("[CH3]", None),
        ("CC.O", None),
        ("C*", None),
        ("CO(C)C", None),
        ("c1cccc1", None),
        ("C(C", None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_valid(smiles, expected):
    assert canonical_smiles(smiles, radical_kinds([[6, 0, 0, 4], [8, 0, 0, 2]])) == expected


def test_unpaired_electrons_of_the_vocabulary_are_valid():
    atom_types = [[6, 0, 0, 4], [6, 0, 1, 3], [7, 0, 1, 2]]
    assert radical_kinds(atom_types) == {(6, 0, 1), (7, 0, 1)}
    samples = ["[CH3]", "C[C]([NH])OC=O", "[CH2]", "[OH]", "C"]
    assert MoleculeSet.generated(samples, atom_types).smiles == ["[CH3]", "C[C]([NH])OC=O", "C"]
    assert MoleculeSet.generated(samples).smiles == ["C"]
    assert len(MoleculeSet.known(samples, "reference").smiles) == 5


def test_validity_uniqueness_and_novelty_by_hand():
    samples = MoleculeSet.generated([None, "CCO", "OCC", "", "CCN", "C[C@H](F)O", "C[C@@H](F)O", "C1CC"])
    assert validity(samples) == 5 / 8
    assert uniqueness(samples) == 3 / 5
    assert novelty(samples, MoleculeSet.known(["C(N)C", "C"], "training")) == 2 / 3


def test_wasserstein_is_the_mean_difference_of_sorted_copies():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=7), generator.integers(-2, 3, size=13).astype(float)
    naive = np.abs(np.sort(np.repeat(first, 13)) - np.sort(np.repeat(second, 7))).mean()
    assert wasserstein(first, second) == pytest.approx(naive, abs=1e-12)
    assert wasserstein(second, first) == pytest.approx(naive, abs=1e-12)
    assert wasserstein(first, first) == 0
    assert wasserstein(np.array([1.0]), np.array([4.0, 4.0])) == 3


def test_descriptor_distance_is_in_standard_deviations_of_the_reference():
    samples, reference = sets()
    found = descriptor_distance(samples, reference)
    for name, of in (
        ("molecular_weight", Descriptors.MolWt),
        ("qed", QED.qed),
        ("rings", lambda mol: len(rings(mol))),
    ):
        sampled, known = ([of(Chem.MolFromSmiles(smiles)) for smiles in each] for each in (FIRST, SECOND))
        copies = np.sort(np.repeat(sampled, 9)) - np.sort(np.repeat(known, 7))
        assert found[f"descriptor_distance_{name}"] == pytest.approx(np.abs(copies).mean() / np.std(known), abs=1e-9)
    parts = [value for name, value in found.items() if name != "descriptor_distance"]
    assert len(parts) == len(DESCRIPTORS)
    assert found["descriptor_distance"] == pytest.approx(sum(parts) / len(parts), abs=1e-12)


def rings(mol):
    return Chem.GetSymmSSSR(mol)


def test_a_descriptor_that_is_constant_in_the_reference_counts_in_its_own_unit():
    chains = MoleculeSet.known(["CC", "CCC", "CCCC"], "reference")
    found = descriptor_distance(MoleculeSet.known(["C1CC1", "CC"], "samples"), chains)
    assert found["descriptor_distance_rings"] == pytest.approx(0.5)
    assert found["descriptor_distance_aromatic_rings"] == 0


def test_descriptor_kl_by_hand():
    samples, reference = sets()
    assert set(descriptor_kl(reference, reference).values()) == {0.0}
    # No molecule of the reference has a bridgehead: bins below 0, 0, and above 0 have 0, 9 and 0 of it.
    bridged = MoleculeSet.known(["C1CC2CC1CC2", "CCO"], "samples")
    expected, sampled = (0.5 / 10.5, 9.5 / 10.5, 0.5 / 10.5), (0.5 / 3.5, 1.5 / 3.5, 1.5 / 3.5)
    divergence = sum(p * math.log(p / q) for p, q in zip(expected, sampled, strict=True))
    assert descriptor_kl(bridged, reference)["descriptor_kl_bridgeheads"] == pytest.approx(divergence, abs=1e-12)
    found = descriptor_kl(samples, reference)
    assert min(found.values()) >= 0
    assert found["descriptor_kl"] == pytest.approx(np.mean([found[f"descriptor_kl_{name}"] for name in DESCRIPTORS]))


def test_frechet_against_the_root_of_the_product():
    generator = np.random.default_rng(1)
    first = generator.normal(size=(37, 5)) @ generator.normal(size=(5, 5))
    second = generator.normal(size=(23, 5)) + 2
    covariances = np.cov(first.T), np.cov(second.T)
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).sum().real
    means = first.mean(0) - second.mean(0)
    naive = means @ means + np.trace(covariances[0] + covariances[1]) - 2 * root
    assert frechet(first, second) == pytest.approx(naive, rel=1e-9)
    assert frechet(second, first) == pytest.approx(naive, rel=1e-9)
    assert frechet(first, first + np.array([0, 3, 0, 0, 4])) == pytest.approx(25, rel=1e-9)


def test_frechet_distance_of_molecules():
    samples, reference = sets()
    assert frechet_descriptor_distance(reference, reference) == pytest.approx(0, abs=1e-6)
    assert frechet_descriptor_distance(samples, reference) > 1


def naive_cosine(first: Counter, second: Counter) -> float:
    keys = sorted(first | second)
    one, two = (np.array([counts[key] for key in keys], dtype=float) for counts in (first, second))
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def test_fragments_by_hand():
    # Acetanilide is cut at its amide bond and at its bond to the ring, diethyl ether on both sides of its oxygen.
    assert MoleculeSet.known(["CC(=O)Nc1ccccc1", "CCOCC", "CC"], "x").fragments == [
        Counter({"[1*]C(C)=O": 1, "[5*]N[5*]": 1, "[16*]c1ccccc1": 1}),
        Counter({"[4*]CC": 2, "[3*]O[3*]": 1}),
        Counter({"CC": 1}),
    ]
    samples, reference = sets()
    counts = [sum(each.fragments, Counter()) for each in (samples, reference)]
    assert fragment_similarity(samples, reference) == pytest.approx(naive_cosine(*counts), abs=1e-12)
    assert fragment_similarity(samples, samples) == pytest.approx(1)


def test_scaffolds_by_hand():
    samples, reference = sets()
    assert samples.scaffolds == [None, None, None, "C1CC2CC2C1", None, None, None]
    assert [scaffold for scaffold in reference.scaffolds if scaffold] == [
        "C1CC2CC2C1",
        "O=C1CC2CC2C1",
        "c1ccc2ccccc2c1",
    ]
    assert scaffold_similarity(samples, reference) == pytest.approx(1 / math.sqrt(3))
    assert scaffold_similarity(MoleculeSet.known(["C"], "x"), reference) == 0


def test_count_similarity():
    first, second = Counter(a=3, b=4), Counter(b=2, c=5)
    assert count_similarity(first, second, "x") == pytest.approx(naive_cosine(first, second), abs=1e-12)
    with pytest.raises(DataError, match="x needs a reference that has some; got none"):
        count_similarity(first, Counter(), "x")


def naive_tanimoto(first, second):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    bits = [[generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in each] for each in (first, second)]
    return np.array([[DataStructs.TanimotoSimilarity(one, two) for two in bits[1]] for one in bits[0]])


def test_similarities_of_fingerprints():
    samples, reference = sets()
    naive = naive_tanimoto(FIRST, SECOND)
    found = np.concatenate(list(tanimoto_rows(samples.fingerprints, reference.fingerprints, rows=3)))
    np.testing.assert_allclose(found, naive, atol=1e-7)
    assert nearest_similarity(samples, reference) == pytest.approx(naive.max(axis=1).mean(), abs=1e-6)
    assert internal_diversity(samples) == pytest.approx(1 - naive_tanimoto(FIRST, FIRST).mean(), abs=1e-6)
    assert internal_diversity(MoleculeSet.known(["C"] * 3, "x")) == pytest.approx(0)


def test_reconstruction_ignores_stereo_and_spelling():
    decoded = ["OCC", "C[C@@H](F)O", None, "CC", "not", "C1=CC=CC=C1", ""]
    references = ["CCO", "C[C@H](F)O", "C", "CCC", "C", "c1ccccc1", "C"]
    assert reconstruction_rate(decoded, references) == 3 / 7
    with pytest.raises(DataError, match="an entry for each of 7 references; got 2"):
        reconstruction_rate(decoded[:2], references)
    with pytest.raises(DataError, match=r"references must hold molecules in one piece; got 'C\.C' at 1"):
        reconstruction_rate(["C", "C"], ["C", "C.C"])
    with pytest.raises(DataError, match="references must hold at least one molecule"):
        reconstruction_rate([], [])


@pytest.mark.parametrize(
    "metric",
    [
        descriptor_distance,
        descriptor_kl,
        frechet_descriptor_distance,
        fragment_similarity,
        scaffold_similarity,
        nearest_similarity,
        novelty,
        lambda samples, reference: uniqueness(samples),
        lambda samples, reference: internal_diversity(samples),
    ],
)
def test_no_valid_sample_is_an_error_not_nan(metric):
    with pytest.raises(DataError, match=r"needs (samples|molecules) with at least [12] valid molecules; got 0 of 3"):
        metric(MoleculeSet.generated([None, "", "C1CC"]), MoleculeSet.known(SECOND, "reference"))


def test_empty_and_wrong_sets_are_refused():
    with pytest.raises(DataError, match="samples must hold at least one entry"):
        MoleculeSet.generated([])
    with pytest.raises(DataError, match="training must hold at least one molecule"):
        MoleculeSet.known([], "training")
    with pytest.raises(DataError, match="reference must hold molecules in one piece; got None at 1"):
        MoleculeSet.known(["C", None], "reference")
    with pytest.raises(DataError, match="smiles must be a text or None; got 7"):
        MoleculeSet.generated([7])


def test_taken_molecules_keep_what_was_computed():
    names = ("descriptors", "fingerprints", "morgan_counts", "fragments", "scaffolds")
    whole, places = MoleculeSet.known(SECOND, "x"), np.array([7, 2, 2])
    for name in names:
        getattr(whole, name)
    taken, fresh = whole.take(places), MoleculeSet.known([SECOND[place] for place in places], "x")
    assert taken.smiles == fresh.smiles
    for name in names:
        assert name in taken.__dict__
        np.testing.assert_array_equal(getattr(taken, name), getattr(fresh, name))
