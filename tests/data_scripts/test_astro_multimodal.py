"""Rows of several modalities: joined by object and by nothing else, split as every other data set."""

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from real_tables import write_built

from data_scripts.derived.astro_multimodal import (
    ASTRO_MULTIMODAL_CARD,
    ASTRO_MULTIMODAL_FEATURES,
    build_astro_multimodal,
)
from data_scripts.derived.climate_cubes import CLIMATE_CUBES_FEATURES
from data_scripts.derived.metabolic_networks import METABOLIC_NETWORKS_FEATURES
from data_scripts.derived.multimodal_parts import NODE_FEATURES, PLANET_PARAMETERS, graph_cells
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import write_hub_folder
from data_scripts.identity import IdentityTable
from data_scripts.splits import split_of
from modeling_astrobio.training.loading import ArrowRows, ResumableLoader, UnifiedBatchCollator


PLANETS = [("Test-1 b", "Test-1"), ("Test-1 c", "Test-1"), ("Test-2 b", "Test-2"), ("Test-3 b", "Test-3")]


def planets() -> pa.Table:
    numbers = {column: [1.0 + row for row in range(4)] for column in PLANET_PARAMETERS.values() if column}
    return pa.table(
        {
            "pl_name": [planet for planet, _ in PLANETS],
            "hostname": [star for _, star in PLANETS],
            "tic_id": ["TIC 11", "TIC 11", "TIC 22", None],
            **numbers,
            "pl_eqt": [None, 300.0, None, 500.0],
            "source_sha256": ["a" * 64] * 4,
        }
    )


def spectra() -> pa.Table:
    """Two of one star, which its proposal calls by its TIC number, and one without a usable point."""
    return pa.table(
        {
            "TARGNAME": ["TIC 22", "TIC 22", "Test-3"],
            "WAVELENGTH": [[1.0, 2.0, 3.0]] * 3,
            "FLUX": [[1.0, None, 3.0], [4.0, 5.0, 6.0], [None] * 3],
            "FLUX_ERROR": [[0.1, 0.1, None]] * 3,
            "mask": [[True, False, False], [True, True, False], [False] * 3],
            "source_sha256": ["b" * 64, "c" * 64, "d" * 64],
        }
    )


def network() -> dict:
    """A -> B, and an exchange of A; B's formula is not known."""
    row = {name: [] for name in METABOLIC_NETWORKS_FEATURES}
    return row | {
        "model_id": "toy", "name": "toy", "species": "Testia prima", "taxon_id": 1, "object_id": "taxon 1",
        "elements": ["C", "H", "Fe"],
        "metabolite_id": ["A", "B", "C"],
        "metabolite_formula_known": [True, False, True],
        "metabolite_charge": [-1.0, float("nan"), -1.0],
        "element_counts": [2.0, 4.0, 0.0, np.nan, np.nan, np.nan, 2.0, 4.0, 0.0], "element_counts_shape": [3, 3],
        "reaction_id": ["r1", "r2", "ex"],
        "edge_index": [0, 1, 0, 2, 0, 0, 0, 1, 1, 2], "edge_index_shape": [2, 5],
        "stoichiometry": [-1.0, 1.0, -1.0, 1.0, -1.0],
        "reaction_can_run_forward": [True, True, True], "reaction_can_run_backward": [False, True, True],
        "reaction_boundary": [False, False, True],
        "reaction_elements_balanced": [-1, 1, 0],
        "source_file": "toy.xml", "source_sha256": "e" * 64,
    }  # fmt: skip


def cube() -> dict:
    row = dict.fromkeys(CLIMATE_CUBES_FEATURES)
    return row | {
        "name": "run", "object_id": "0123456789abcdef",
        "atmosphere": [1.0, float("nan"), 3.0, 4.0], "atmosphere_shape": [1, 1, 1, 2, 2],
        "atmosphere_variables": ["ta"],
        "stellar_flux_w_m2": 2722.0, "radius_m": 6_378_100.0, "eccentricity": 0.0, "stellar_temperature_k": 3000.0,
        "gravity_m_s2": 9.0, "rotation_period_days": 2.0, "obliquity_deg": 0.0, "dry_surface_pressure_pa": 1e5,
        "co2_partial_pressure_pa": 40.0, "dry_air_molar_mass_g_mol": 29.0, "source_sha256": "f" * 64,
    }  # fmt: skip


def texts() -> list[dict]:
    source = {"source_release": "", "source_sha256": "9" * 64, "license": "other", "messages": None}
    told = "nasa_exoplanet_archive:pscomppars"
    return [
        {"text": "of Test-1", "kind": "record", "object_id": "test-1", "source": told, **source},
        {"text": "no record", "kind": "value", "object_id": "test-2", "source": told, **source},
        {"text": "not graded", "kind": "record", "object_id": "taxon 1", "source": "gtdb:metadata", **source},
    ]


def single(folder: Path, rows: list[dict], features: datasets.Features | None = None) -> Path:
    (folder / "data").mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    nasa = write_built(folder / "nasa", "pscomppars", planets())
    (nasa / "quality").mkdir()
    scores = {"configs": {"pscomppars": {"overall": 0.97}, "ps": {"overall": None}}}
    (nasa / "quality" / "quality.json").write_text(json.dumps(scores))
    (folder / "identity" / "data").mkdir(parents=True)
    identity = IdentityTable.from_tables({"nasa_exoplanet_archive.pscomppars": planets()})
    identity.save(folder / "identity" / "data" / "train-00000-of-00001.parquet")
    return {
        "nasa_exoplanet_archive": nasa,
        "jwst_mast": write_built(folder / "jwst", "spectra", spectra()),
        "climate_cubes": single(folder / "cubes", [cube()], CLIMATE_CUBES_FEATURES),
        "metabolic_networks": single(folder / "networks", [network()], METABOLIC_NETWORKS_FEATURES),
        "astro_text": single(folder / "text", texts()),
        "object_identity": folder / "identity",
    }


@pytest.fixture(scope="module")
def splits(inputs) -> datasets.DatasetDict:
    return build_astro_multimodal(inputs)


def rows_of(splits: datasets.DatasetDict) -> dict[str, dict]:
    return {row["name"]: row for rows in splits.values() for row in rows}


def test_what_is_of_one_object_is_in_one_row(splits):
    rows = rows_of(splits)
    assert set(rows) == {*(planet for planet, _ in PLANETS), "run", "toy"}
    # Two planets of a star share its record; the spectrum is found by the number that the proposal used.
    assert {name for name, row in rows.items() if row["text"] == "of Test-1"} == {"Test-1 b", "Test-1 c"}
    assert {name for name, row in rows.items() if row["flux"] is not None} == {"Test-2 b"}
    assert rows["Test-2 b"]["flux"] == [4.0, 5.0, 6.0]
    assert rows["Test-2 b"]["spectrum_quality"] == pytest.approx(2 / 3)
    assert rows["Test-2 b"]["source_sha256"] == ["a" * 64, "c" * 64]
    assert rows["Test-1 b"]["text_quality"] == pytest.approx(0.97)
    # A text whose table has no score is left out, and so is what is no record.
    assert rows["toy"]["text"] is None
    assert rows["Test-2 b"]["text"] is None
    # Nothing is joined by resemblance.
    assert all((row["climate"] is not None) == (name == "run") for name, row in rows.items())


def test_an_organism_has_a_text_where_the_quality_of_its_table_is_given(inputs, tmp_path):
    (tmp_path / "gtdb" / "quality").mkdir(parents=True)
    (tmp_path / "gtdb" / "quality" / "quality.json").write_text('{"configs": {"metadata": {"overall": 0.75}}}')
    row = rows_of(build_astro_multimodal({**inputs, "gtdb": tmp_path / "gtdb"}))["toy"]
    assert (row["text"], row["text_source"], row["text_quality"]) == ("not graded", "gtdb:metadata", 0.75)


def test_parameters_are_in_their_places(splits):
    rows = rows_of(splits)
    names = list(PLANET_PARAMETERS)
    planet = dict(zip(names, rows["Test-1 c"]["planet_parameters"], strict=True))
    assert (planet["orbital_period_days"], planet["equilibrium_temperature_k"]) == (2.0, 300.0)
    assert np.isnan(planet["gravity_m_s2"])
    assert rows["Test-1 c"]["planet_parameters_quality"] == pytest.approx(11 / 17)
    assert rows["Test-1 b"]["planet_parameters_quality"] == pytest.approx(10 / 17)
    simulated = dict(zip(names, rows["run"]["planet_parameters"], strict=True))
    assert simulated["insolation_earth_fluxes"] == pytest.approx(2.0)
    assert simulated["radius_earth_radii"] == pytest.approx(1.0)
    assert np.isnan(simulated["orbital_period_days"])


def test_a_network_is_one_graph_of_metabolites_and_reactions():
    cells = graph_cells(network())
    features = np.reshape(cells["node_features"], cells["node_features_shape"])
    column = {name: features[:, place].tolist() for place, name in enumerate(NODE_FEATURES)}
    assert column["is_reaction"] == [0, 0, 0, 1, 1, 1]
    assert column["C_atoms"] == [2, 0, 2, 0, 0, 0]
    assert column["formula_known"] == [1, 0, 1, 0, 0, 0]
    assert column["charge"] == [-1, 0, -1, 0, 0, 0]
    assert column["charge_known"] == [1, 0, 1, 0, 0, 0]
    assert column["can_run_backward"] == [0, 0, 0, 0, 1, 1]
    assert column["exchanges_with_surroundings"] == [0, 0, 0, 0, 0, 1]
    assert np.reshape(cells["edge_index"], (2, 5)).tolist() == [[0, 1, 0, 2, 0], [3, 3, 4, 4, 5]]
    # Of the two that are no exchange one can be judged, and balances.
    assert cells["metabolic_graph_quality"] == 1.0
    assert graph_cells(network() | {"reaction_elements_balanced": [-1, -1, 0]}) is None


def test_splits_are_those_of_the_objects(splits):
    for split, rows in splits.items():
        assert {split_of(object_id) for object_id in rows["object_id"]} <= {split}
    assert len({row["object_id"] for row in rows_of(splits).values() if row["name"].startswith("Test-1")}) == 1


def test_the_folder_becomes_batches(splits, tmp_path):
    folder = write_hub_folder(splits, ASTRO_MULTIMODAL_CARD, tmp_path / "out")
    # Splits without rows are not there.
    parts = datasets.load_dataset(str(folder), "astro_multimodal", cache_dir=str(tmp_path / "cache"))
    loaded = datasets.concatenate_datasets(list(parts.values()))
    assert loaded.features == ASTRO_MULTIMODAL_FEATURES
    rows = ArrowRows(datasets.Dataset.from_list(loaded.to_list(), features=loaded.features))
    batch = next(iter(ResumableLoader(rows, len(loaded), UnifiedBatchCollator(["ta", "ua"]))))
    assert batch["climate_present"].sum() == batch["metabolic_graph_present"].sum() == 1
    assert batch["spectrum_present"].sum() == 1
    assert batch["planet_parameters_present"].sum() == 5
    assert batch["climate"].shape == (6, 2, 1, 1, 2, 2)
    assert batch["climate_mask"].sum() == 3
    assert batch["node_features"].shape == (6, len(NODE_FEATURES))
    assert batch["spectrum_mask"].sum() == 2


def test_another_content_of_the_same_folder_is_read(inputs, tmp_path):
    changed = dict(inputs)
    changed["climate_cubes"] = single(tmp_path / "cubes", [cube() | {"name": "first"}], CLIMATE_CUBES_FEATURES)
    assert "first" in rows_of(build_astro_multimodal(changed))
    (tmp_path / "cubes" / "data" / "train-00000-of-00001.parquet").unlink()
    (tmp_path / "cubes" / "data").rmdir()
    single(tmp_path / "cubes", [cube() | {"name": "second"}], CLIMATE_CUBES_FEATURES)
    assert {"second"} == set(rows_of(build_astro_multimodal(changed))) & {"first", "second"}


def test_what_is_missing_is_named(inputs, tmp_path):
    with pytest.raises(BuildError, match="must give object_identity and one of"):
        build_astro_multimodal({"climate_cubes": inputs["climate_cubes"]})
    with pytest.raises(BuildError, match=r"must hold the configuration pscomppars\. Build it with --config"):
        build_astro_multimodal({**inputs, "nasa_exoplanet_archive": inputs["jwst_mast"]})
    with pytest.raises(BuildError, match="it has no Parquet file"):
        build_astro_multimodal({**inputs, "climate_cubes": tmp_path})
