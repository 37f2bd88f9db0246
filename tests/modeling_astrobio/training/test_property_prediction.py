"""Labels, splits, ensembles and training of models of properties."""

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import Crippen, rdMolDescriptors

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_record import collate_graphs
from modeling_astrobio.modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction
from modeling_astrobio.molecule_tensors import molecule_record
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.property_config import with_properties
from modeling_astrobio.training.property_ensemble import combine_gaussians
from modeling_astrobio.training.property_splits import murcko_scaffold, split_with_scaffolds
from modeling_astrobio.training.property_table import PROPERTIES, PROPERTY_FAMILIES, compute_properties
from modeling_astrobio.training.property_training import embed_graphs, predict_properties, train_properties


TINY = AstroGraphVAEConfig.from_preset("tiny")
SMILES = (
    *("CCO", "CCN", "CC(=O)O", "C1CC1", "c1ccccc1", "CC#N", "OCCO", "CCCCC", "NC=O", "C1CCOC1", "CC(C)O", "c1ccoc1"),
    *("CC(N)=O", "CCOC", "C=CC=O", "FC(F)F", "CNC", "O=C1CCC1"),
)


def graphs():
    return [molecule_record(each, TINY.atom_types, TINY.max_nodes) for each in SMILES]


def test_properties_are_rdkits_without_stereo():
    names = ("MolLogP", "TPSA", "fr_Al_OH", "partial_charge_std")
    table = compute_properties(["C[C@H](N)O", "CCO", "C"], names)
    mol = Chem.MolFromSmiles("CC(N)O")
    assert table[0, :3].tolist() == [Crippen.MolLogP(mol), rdMolDescriptors.CalcTPSA(mol), 1.0]
    assert table[2, 3] == 0
    assert set(names) <= set(PROPERTIES)
    assert sum(map(len, PROPERTY_FAMILIES.values())) == len(PROPERTIES)  # none stands in two families


def test_values_that_are_not_finite_are_unknown():
    properties = {"inverse_rings": lambda mol: 1.0 if mol.GetRingInfo().NumRings() else float("inf")}
    table = compute_properties(["C", "C1CC1"], ["inverse_rings"], properties)
    assert np.isnan(table[0, 0])
    assert table[1, 0] == 1


def test_every_property_is_known_of_small_molecules():
    assert np.isfinite(compute_properties(SMILES, list(PROPERTIES))).all()


def test_bad_tables_are_refused():
    with pytest.raises(DataError, match=r"got \['weight'\]"):
        compute_properties(["C"], ["weight"])
    with pytest.raises(DataError, match=r"got 'C1' at 1"):
        compute_properties(["C", "C1"], ["MolWt"])


def test_the_config_has_names_and_scale_of_known_labels():
    labels = np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 9.0]])
    named = with_properties(TINY, ("a", "b"), labels)
    assert named.id2label == {0: "a", 1: "b"}
    assert named.label2id == {"a": 0, "b": 1}
    assert named.num_labels == 2
    assert (named.label_means, named.label_scales) == ([2.0, 7.0], [1.0, 2.0])
    assert getattr(TINY, "label_means", None) is None
    again = AstroGraphVAEConfig.from_dict(named.to_dict())
    assert (again.label_means, again.label_scales) == ([2.0, 7.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[1.0, 2.0], [3.0, 2.0]], "b must vary over the training molecules; got 2.0 in all 2"),
        ([[1.0, np.nan], [3.0, np.nan]], "b must vary .* got no known label"),
        ([[1.0, 2.0], [np.inf, 3.0]], "labels must be finite"),
        ([[1.0], [2.0]], r"labels must have the shape \(N, 2\)"),
    ],
)
def test_labels_without_a_scale_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        with_properties(TINY, ("a", "b"), labels)


def test_the_ensemble_is_the_mixture():
    rng = np.random.default_rng(0)
    means, variances = rng.standard_normal((4, 3, 2)), rng.uniform(0.1, 2, (4, 3, 2))
    mean, variance = combine_gaussians(means, variances)
    np.testing.assert_allclose(mean, sum(means) / 4)
    np.testing.assert_allclose(variance, sum(variances + means**2) / 4 - (sum(means) / 4) ** 2)
    drawn = means[:, 1, 0] + np.sqrt(variances[:, 1, 0]) * rng.standard_normal((200_000, 4))
    assert drawn.mean() == pytest.approx(mean[1, 0], abs=0.01)
    assert drawn.var() == pytest.approx(variance[1, 0], rel=0.02)
    alone = combine_gaussians(means[:1], variances[:1])
    np.testing.assert_array_equal(alone, (means[0], variances[0]))


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (np.zeros((0, 3, 2)), "at least one member"),
        (np.zeros((2, 3)), "must have one shape"),
        (np.full((1, 1, 1), np.nan), "must be finite"),
    ],
)
def test_ensembles_that_are_none_are_refused(means, message):
    with pytest.raises(DataError, match=message):
        combine_gaussians(means, np.ones_like(means))


def test_scaffolds_of_the_test_are_in_no_other_part():
    smiles = [f"{'C' * size}{ring}" for ring in ("C1CC1", "c1ccccc1", "C1CCOC1", "O") for size in range(1, 14)]
    parts = split_with_scaffolds(smiles, scaffold_test=9, calibration=7, test=5, seed=3)
    places = [place for part in parts.values() for place in part]
    assert sorted(places) == list(range(len(smiles)))
    assert [len(parts[name]) for name in ("calibration", "test")] == [7, 5]
    assert len(parts["scaffold_test"]) == 13
    unseen = {murcko_scaffold(smiles[place]) for place in parts["scaffold_test"]}
    assert not unseen & {murcko_scaffold(smiles[place]) for name in ("train", "calibration", "test")
                         for place in parts[name]}  # fmt: skip
    assert "" not in unseen
    assert parts == split_with_scaffolds(smiles, scaffold_test=9, calibration=7, test=5, seed=3)
    assert parts != split_with_scaffolds(smiles, scaffold_test=9, calibration=7, test=5, seed=4)


def test_splits_that_leave_nothing_are_refused():
    with pytest.raises(DataError, match="1 molecules of unseen scaffolds"):
        split_with_scaffolds(["C", "CC"], scaffold_test=1, calibration=1, test=0)
    with pytest.raises(DataError, match="must leave some for training; got 3"):
        split_with_scaffolds(["C", "CC", "CCC"], scaffold_test=0, calibration=2, test=1)


def test_training_learns_and_ignores_unknown_labels():
    labels = compute_properties(SMILES, ("MolLogP", "TPSA"))
    labels[3, 0] = np.nan
    torch.manual_seed(0)
    model = AstroGraphVAEForPropertyPrediction(with_properties(TINY, ("MolLogP", "TPSA"), labels))
    before, _ = predict_properties(model.eval(), graphs())
    result = train_properties(model, graphs(), labels, epochs=30, batch_size=7, learning_rate=3e-3)
    means, variances = predict_properties(model, graphs())
    assert result["steps"] == 90
    assert len(result["loss"]) == 30
    assert not model.training
    assert (np.nanmean((means - labels) ** 2, 0) < 0.7 * np.nanmean((before - labels) ** 2, 0)).all()
    assert (variances > 0).all()
    with torch.no_grad():
        batch = collate_graphs(graphs())
        torch.testing.assert_close(embed_graphs(model, graphs()), model(**batch).readout)


def test_training_without_graphs_or_labels_is_refused():
    model = AstroGraphVAEForPropertyPrediction(with_properties(TINY, ("a",), [[0.0], [1.0]]))
    with pytest.raises(DataError, match="labels must have a row for each graph; got 2 and 18"):
        train_properties(model, graphs(), [[0.0], [1.0]], epochs=1)
    with pytest.raises(DataError, match="graphs must hold at least one"):
        predict_properties(model, [])
