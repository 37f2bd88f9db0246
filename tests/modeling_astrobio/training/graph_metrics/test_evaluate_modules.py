"""The metrics as modules of `evaluate`, as classes and by the path of their file."""

import importlib
from pathlib import Path

import pytest


pytest.importorskip("rdkit", reason="the extra chem is not installed")
pytest.importorskip("evaluate", reason="evaluate is not installed: pip install evaluate")
import evaluate

from modeling_astrobio.training import graph_metrics
from modeling_astrobio.training.errors import DataError


FOLDER = Path(graph_metrics.__file__).parent
SAMPLES = [None, "CCO", "C1CC2CC2C1", "", "NCC(=O)O", "CCO"]
REFERENCE = ["CCN", "C1CC2CC2C1", "CCO", "c1ccccc1", "C1CC2CC2C1"]
# Class and inputs; then one value that is known by hand.
MODULES = {
    "validity": ("Validity", {"predictions": SAMPLES}, "validity", 4 / 6),
    "uniqueness": ("Uniqueness", {"predictions": SAMPLES}, "uniqueness", 3 / 4),
    "novelty": ("Novelty", {"predictions": SAMPLES, "reference_set": REFERENCE}, "novelty", 1 / 3),
    "internal_diversity": ("InternalDiversity", {"predictions": ["C", "C"]}, "internal_diversity", 0),
    "reconstruction": (
        "ReconstructionRate",
        {"predictions": [None, "OCC"], "references": ["C", "CCO"]},
        "reconstruction_rate",
        0.5,
    ),
    "descriptor_distance": ("DescriptorDistance", {"predictions": REFERENCE, "reference_set": REFERENCE}, None, 0),
    "descriptor_kl": ("DescriptorKL", {"predictions": REFERENCE, "reference_set": REFERENCE}, None, 0),
    "frechet_descriptor_distance": (
        "FrechetDescriptorDistance",
        {"predictions": REFERENCE, "reference_set": REFERENCE},
        None,
        0,
    ),
    "fragment_similarity": ("FragmentSimilarity", {"predictions": REFERENCE, "reference_set": REFERENCE}, None, 1),
    "scaffold_similarity": ("ScaffoldSimilarity", {"predictions": SAMPLES, "reference_set": REFERENCE}, None, 1),
    "nearest_similarity": ("NearestSimilarity", {"predictions": REFERENCE[:2], "reference_set": REFERENCE}, None, 1),
    "active_units": ("ActiveUnits", {"predictions": [[0.0, 1.0], [2.0, 1.0]]}, None, 1),
    "gaussian_calibration": (
        "GaussianCalibration",
        {"predictions": [0.0], "standard_deviations": [1.0], "references": [-90.0]},
        "calibration_error",
        0.5,
    ),
    "interval_coverage": (
        "IntervalCoverage",
        {"lower": [0.0, 0.0], "upper": [1.0, 1.0], "references": [0.5, 2.0]},
        "coverage",
        0.5,
    ),
}


def test_every_metric_is_here():
    helpers = {"__init__", "count_similarity", "descriptors", "finite_numbers", "generation_report"}
    helpers |= {"molecule_grid", "molecule_metric", "molecule_set", "tanimoto"}
    assert {path.stem for path in FOLDER.glob("*.py")} == set(MODULES) | helpers


@pytest.mark.usefixtures("module_cache")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_gives_the_same_as_a_class_and_loaded_by_path(name, tmp_path):
    class_name, inputs, key, expected = MODULES[name]
    made = getattr(importlib.import_module(f"{graph_metrics.__name__}.{name}"), class_name)(cache_dir=str(tmp_path))
    found = made.compute(**inputs)
    assert found[key or name] == pytest.approx(expected, abs=1e-6)
    assert all(isinstance(value, (int, float)) for value in found.values())
    assert made.description
    loaded = evaluate.load(str(FOLDER / f"{name}.py"))
    assert type(loaded).__name__ == class_name
    assert loaded.compute(**inputs) == found
    # A second call starts anew.
    assert loaded.compute(**inputs) == found


def test_batches_are_added_up_and_may_begin_with_none(tmp_path):
    from modeling_astrobio.training.graph_metrics.validity import Validity

    metric = Validity(cache_dir=str(tmp_path))
    metric.add_batch(predictions=SAMPLES[:2])
    metric.add_batch(predictions=SAMPLES[2:])
    metric.add(prediction=None)
    assert metric.compute() == {"validity": 4 / 7}
    assert metric.compute(predictions=["[CH3]"]) == {"validity": 0}
    assert metric.compute(predictions=["[CH3]"], atom_types=[[6, 0, 1, 3]]) == {"validity": 1}


def test_what_cannot_be_computed_is_an_error(tmp_path):
    from modeling_astrobio.training.graph_metrics.nearest_similarity import NearestSimilarity

    metric = NearestSimilarity(cache_dir=str(tmp_path))
    with pytest.raises(DataError, match="needs samples with at least 1 valid molecules; got 0 of 2"):
        metric.compute(predictions=[None, "C("], reference_set=REFERENCE)
    with pytest.raises(DataError, match="reference_set must hold at least one molecule; got none"):
        metric.compute(predictions=["C"], reference_set=[])
    # An error leaves nothing behind.
    assert metric.compute(predictions=["CCO"], reference_set=REFERENCE)["nearest_similarity"] == pytest.approx(1)
    with pytest.raises(DataError, match="samples must hold at least one entry; got none"):
        metric.compute(predictions=[], reference_set=REFERENCE)
