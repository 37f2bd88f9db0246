"""What each source gives to a row of `astro_multimodal`: a modality's cells and its quality from 0 to 1."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_scripts.derived.astronomical_constants import EARTH_RADIUS_KM


__all__ = [
    "NODE_FEATURES",
    "PLANET_PARAMETERS",
    "climate_cells",
    "graph_cells",
    "parameters_of_cube",
    "parameters_of_planet",
    "rows_of_parquet",
    "short_hash",
    "spectrum_cells",
    "text_qualities",
]

# Parameter to the column of the NASA Exoplanet Archive's `pscomppars`, None where it has none.
PLANET_PARAMETERS: dict[str, str | None] = {
    "orbital_period_days": "pl_orbper",
    "semi_major_axis_au": "pl_orbsmax",
    "eccentricity": "pl_orbeccen",
    "radius_earth_radii": "pl_rade",
    "mass_earth_masses": "pl_bmasse",
    "insolation_earth_fluxes": "pl_insol",
    "equilibrium_temperature_k": "pl_eqt",
    "stellar_temperature_k": "st_teff",
    "stellar_radius_solar_radii": "st_rad",
    "stellar_mass_solar_masses": "st_mass",
    "stellar_metallicity_dex": "st_met",
    "gravity_m_s2": None,
    "rotation_period_days": None,
    "obliquity_deg": None,
    "dry_surface_pressure_pa": None,
    "co2_partial_pressure_pa": None,
    "dry_air_molar_mass_g_mol": None,
}
# W m-2: the nominal total solar irradiance of IAU 2015 Resolution B3.
_SOLAR_IRRADIANCE = 1361.0
_OF_CUBES = (
    "eccentricity",
    "stellar_temperature_k",
    "gravity_m_s2",
    "rotation_period_days",
    "obliquity_deg",
    "dry_surface_pressure_pa",
    "co2_partial_pressure_pa",
    "dry_air_molar_mass_g_mol",
)
_ELEMENTS = ("C", "H", "N", "O", "P", "S")
NODE_FEATURES = (
    "is_reaction",
    *(f"{element}_atoms" for element in _ELEMENTS),
    "formula_known",
    "charge",
    "charge_known",
    "can_run_forward",
    "can_run_backward",
    "exchanges_with_surroundings",
)


def rows_of_parquet(paths: list[Path], columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield rows of Parquet files, a row group in memory at a time."""
    for path in paths:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group, columns=columns).to_pylist()


def short_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parameters_of_planet(row: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a row of `pscomppars`, NaN where unknown; quality is the share that is known."""
    return _parameters({name: row.get(column) for name, column in PLANET_PARAMETERS.items() if column is not None})


def parameters_of_cube(row: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a row of `climate_cubes`; quality is the share that is known."""
    known = {name: row[name] for name in _OF_CUBES}
    known["insolation_earth_fluxes"] = row["stellar_flux_w_m2"] / _SOLAR_IRRADIANCE
    known["radius_earth_radii"] = row["radius_m"] / 1e3 / float(EARTH_RADIUS_KM)
    return _parameters(known)


def _parameters(known: Mapping[str, Any]) -> dict[str, Any]:
    values = [known.get(name) for name in PLANET_PARAMETERS]
    cells = [float("nan") if value is None else float(value) for value in values]
    return {
        "planet_parameters": cells,
        "planet_parameters_quality": float(np.isfinite(cells).mean()),
    }


def climate_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """The variables on levels of a row of `climate_cubes`; quality is the share of values that are there."""
    values = np.asarray(row["atmosphere"], dtype=np.float32)
    return {
        "climate": values,
        "climate_shape": row["atmosphere_shape"],
        "climate_variables": row["atmosphere_variables"],
        "climate_quality": float(np.isfinite(values).mean()),
    }


def graph_cells(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row of `metabolic_networks` as one graph: metabolites, then reactions; None if no reaction can be judged.

    Quality is the share of reactions, of those whose elements can be judged and that are not exchanges, that balance.
    """
    judged = [
        balanced
        for balanced, boundary in zip(row["reaction_elements_balanced"], row["reaction_boundary"], strict=True)
        if balanced >= 0 and not boundary
    ]
    if not judged:
        return None
    metabolites, reactions = len(row["metabolite_id"]), len(row["reaction_id"])
    counts = np.reshape(row["element_counts"], row["element_counts_shape"])
    features = np.zeros((metabolites + reactions, len(NODE_FEATURES)), dtype=np.float32)
    column = {name: features[:, place] for place, name in enumerate(NODE_FEATURES)}
    known = np.asarray(row["metabolite_formula_known"], dtype=bool)
    for element in _ELEMENTS:
        if element in row["elements"]:
            column[f"{element}_atoms"][:metabolites] = np.where(known, counts[:, row["elements"].index(element)], 0)
    charge = np.asarray(row["metabolite_charge"], dtype=np.float64)
    column["formula_known"][:metabolites] = known
    column["charge"][:metabolites] = np.nan_to_num(charge)
    column["charge_known"][:metabolites] = np.isfinite(charge)
    column["is_reaction"][metabolites:] = 1
    column["can_run_forward"][metabolites:] = row["reaction_can_run_forward"]
    column["can_run_backward"][metabolites:] = row["reaction_can_run_backward"]
    column["exchanges_with_surroundings"][metabolites:] = row["reaction_boundary"]
    edges = np.reshape(np.asarray(row["edge_index"], dtype=np.int64), row["edge_index_shape"]).copy()
    edges[1] += metabolites
    return {
        "node_features": features.reshape(-1),
        "node_features_shape": list(features.shape),
        "edge_index": edges.reshape(-1),
        "edge_index_shape": list(edges.shape),
        "edge_features": np.asarray(row["stoichiometry"], dtype=np.float32),
        "edge_features_shape": [edges.shape[1], 1],
        "metabolic_graph_quality": sum(judged) / len(judged),
    }


def spectrum_cells(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row of `spectra` of `jwst_mast`; None if no point is usable. Quality is the share of usable points."""
    mask = np.asarray(row["mask"], dtype=bool)
    if not mask.any():
        return None

    def numbers(name: str) -> np.ndarray:
        return np.array([np.nan if value is None else value for value in row[name]], dtype=np.float64)

    return {
        "wavelength_um": numbers("WAVELENGTH"),
        "flux": numbers("FLUX"),
        "flux_error": numbers("FLUX_ERROR"),
        "spectrum_mask": mask,
        "spectrum_quality": float(mask.mean()),
    }


def text_qualities(inputs: Mapping[str, Path]) -> dict[str, float]:
    """Overall scores by `archive:table`, from the quality reports of the inputs that have one."""
    found = {}
    for name, folder in inputs.items():
        report = folder / "quality" / "quality.json"
        if report.is_file():
            for table, scores in json.loads(report.read_text(encoding="utf-8"))["configs"].items():
                if scores["overall"] is not None:
                    found[f"{name}:{table}"] = float(scores["overall"])
    return found
