"""The data set `koi_disposition`: is a Kepler Object of Interest a planet, from its transits and its star alone."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, Value

from data_scripts.derived.source_tables import read_config
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identifiers import parse_identifier
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES, SplitName


__all__ = [
    "KOI_DISPOSITION_CARD",
    "KOI_DISPOSITION_FEATURES",
    "KOI_DISPOSITION_SOURCES",
    "MEASURED_COLUMNS",
    "build_koi_disposition",
    "koi_disposition_of",
]

KOI_DISPOSITION_SOURCES = ("nasa_exoplanet_archive", "object_identity")
_CONFIG = "cumulative"
_LABEL = "koi_disposition"
_USED = ("CONFIRMED", "FALSE POSITIVE")
_LEFT_OUT = ("CANDIDATE", "NOT DISPOSITIONED")
# The star is looked up by these; none of them is published, since a star's Kepler name tells that it has a planet.
_STAR_NAMES = ("kepid", "kepoi_name", "kepler_name")
_PROVENANCE = ("source", "source_release", "source_sha256")
# Light of an eclipsing binary that falls on other stars gives each of them its period and epoch, and the verdict with
# it (Coughlin et al. 2014, AJ 147, 119). Periods of two stars agree this well by chance in few of a thousand rows.
_SAME_PERIOD, _SAME_PHASE = 1e-4, 0.02

# Column to what it is, without uncertainties.
_WITH_ERRORS = {
    "koi_period": "orbital period, days",
    "koi_time0bk": "time of the first transit, BJD - 2454833, days",
    "koi_impact": "impact parameter of the transit, stellar radii",
    "koi_duration": "transit duration, hours",
    "koi_ingress": "duration of the ingress, hours",
    "koi_depth": "transit depth, parts per million",
    "koi_ror": "ratio of the planet's to the star's radius, dimensionless",
    "koi_srho": "stellar density from the transit fit, g/cm3",
    "koi_dor": "ratio of the star-planet distance to the star's radius, dimensionless",
    "koi_incl": "inclination of the orbit, degrees",
    "koi_sma": "semi-major axis, au",
    "koi_prad": "planet radius, Earth radii",
    "koi_teq": "equilibrium temperature, K",
    "koi_insol": "insolation, Earth's flux",
    "koi_steff": "stellar effective temperature, K",
    "koi_slogg": "stellar surface gravity, log10(cm/s2)",
    "koi_smet": "stellar metallicity, dex",
    "koi_srad": "stellar radius, solar radii",
    "koi_smass": "stellar mass, solar masses",
}
_WITHOUT_ERRORS = {
    "koi_model_snr": "signal-to-noise ratio of the transit, dimensionless",
    "koi_max_sngle_ev": "greatest single-event statistic, dimensionless",
    "koi_max_mult_ev": "greatest multiple-event statistic, dimensionless",
    "koi_num_transits": "transits observed, count",
    "koi_kepmag": "Kepler magnitude of the star, mag",
}
# The whitelist: nothing else of the archive's table reaches the data set but the label.
MEASURED_COLUMNS: dict[str, str] = {
    name: text
    for column, description in _WITH_ERRORS.items()
    for name, text in (
        (column, description),
        (f"{column}_err1", f"upper uncertainty of `{column}`"),
        (f"{column}_err2", f"lower uncertainty of `{column}`, negative"),
    )
} | _WITHOUT_ERRORS

KOI_DISPOSITION_FEATURES = Features(
    {
        "row_id": Value("string"),
        "star_id": Value("string"),
        _LABEL: Value("string"),
        **{column: Value("float64") for column in MEASURED_COLUMNS},
        **{column: Value("string") for column in _PROVENANCE},
    }
)
KOI_DISPOSITION_CARD = DatasetCard(
    name="koi_disposition",
    pretty_name="Kepler Objects of Interest: planet or false positive",
    summary=(
        "Kepler Objects of Interest that the NASA Exoplanet Archive calls CONFIRMED or FALSE POSITIVE, with what was "
        "measured of their transits and stars and nothing that the verdict was written into."
    ),
    columns={
        "row_id": "first 16 hex digits of the SHA-256 of `kepoi_name`; names the row without the order of discovery",
        "star_id": "the same of the star's label in `object_identity`; rows of one star share it",
        _LABEL: "the label: `CONFIRMED` or `FALSE POSITIVE`",
        **MEASURED_COLUMNS,
        "source": "archive",
        "source_release": "its release, empty where it has none",
        "source_sha256": "SHA-256 of the body that the row was read from",
    },
    source=(
        "NASA Exoplanet Archive, Kepler Objects of Interest, cumulative table (`cumulative`), DOI 10.26133/NEA4. This "
        "research has made use of the NASA Exoplanet Archive, which is operated by the California Institute of "
        "Technology, under contract with the National Aeronautics and Space Administration under the Exoplanet "
        "Exploration Program."
    ),
    method=(
        "Columns are chosen by a whitelist: the transit fit, the star, and their uncertainties. Left out are all "
        "columns that state or follow from the verdict (`koi_pdisposition`, `koi_score`, `koi_fpflag_*`, `koi_vet_*`, "
        "`koi_disp_prov`, `koi_comment`, `koi_tce_delivname`, `kepler_name`), names and numbers in order of discovery "
        "(`kepid`, `kepoi_name`), positions, centroids that the vetting used, and the column that counts the star's "
        "objects. Candidates are left out. A star is in one split with all its objects, and under all its names in "
        "every other data set of this project (`object_identity`). Light of one eclipsing binary on several stars "
        f"gives each of them the same transits and the same verdict, so rows whose period agrees to {_SAME_PERIOD:g} "
        f"and epoch to {_SAME_PHASE:g} periods with a row of another split are removed: from validation those that "
        "repeat one of test, from train those that repeat one of either. Rows are in an order drawn by hash."
    ),
    limits=(
        "The verdicts were reached with the transit fits that are given here, and partly by rules on them, so an "
        "accuracy says how well the vetting is imitated, not how often a planet is real. Confirmed planets lean to "
        "bright stars, high signal and several planets of one star; stars with planets were measured again, so the "
        "uncertainties of a star, and how many digits a value has, tell of the attention it got; `star_id` is for "
        "grouping, since counting its rows tells how many objects the star has. Missing values are not random: failed "
        "fits are more often false positives. Columns that the archive's export lacks are null in every row."
    ),
    license="other",
    license_name="nasa-exoplanet-archive",
    license_link="https://exoplanetarchive.ipac.caltech.edu/docs/acknowledge.html",
    license_note=(
        "The archive's data are public; it asks for the acknowledgement above and for the citation of the table's DOI."
    ),
    citation=(
        "@misc{nasa_exoplanet_archive_koi_cumulative,\n"
        "  author    = {{NASA Exoplanet Archive}},\n"
        "  title     = {Kepler Objects of Interest Cumulative Table},\n"
        "  publisher = {NExScI-Caltech/IPAC},\n"
        "  doi       = {10.26133/NEA4}\n"
        "}"
    ),
    task_categories=("tabular-classification",),
    count_by=_LABEL,
)


def build_koi_disposition(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from the archive's folder and the identities of stars.

    Args:
        inputs: Folders of `KOI_DISPOSITION_SOURCES`.
        seed: Chooses the order of rows. The splits do not depend on it.

    Returns:
        Splits `train`, `validation` and `test` with `KOI_DISPOSITION_FEATURES`.

    Raises:
        BuildError: If a folder is absent or lacks columns, a disposition is none of the archive's, or a star is not
            in `object_identity`.
    """
    if set(inputs) != set(KOI_DISPOSITION_SOURCES):
        raise BuildError(
            f"from-folder must name {' and '.join(KOI_DISPOSITION_SOURCES)}; got "
            f"{', '.join(sorted(inputs)) or 'none'}. Pass --from-folder SOURCE=DIR for each."
        )
    columns = (*_STAR_NAMES, _LABEL, *MEASURED_COLUMNS, *_PROVENANCE)
    table = read_config(inputs["nasa_exoplanet_archive"], _CONFIG, columns)
    return koi_disposition_of(table, IdentityTable.load(inputs["object_identity"]), seed)


def koi_disposition_of(table: pa.Table, identity: IdentityTable, seed: int = 0) -> DatasetDict:
    """Build the data set from rows of the cumulative table; see `build_koi_disposition`."""
    unknown = sorted(set(table[_LABEL].to_pylist()) - {*_USED, *_LEFT_OUT}, key=str)
    if unknown:
        raise BuildError(
            f"{_LABEL} must be one of {', '.join((*_USED, *_LEFT_OUT))}; got {', '.join(map(str, unknown))}. "
            "Did the archive rename a disposition?"
        )
    table = table.filter(pc.is_in(table[_LABEL], pa.array(_USED)))
    _require_known_stars(table, identity)
    stars, splits = split_rows(table, _STAR_NAMES, identity)
    names = table["kepoi_name"].to_pylist()
    published = pa.Table.from_arrays(
        [
            pa.array([_hash(name) for name in names], pa.string()),
            pa.array([_hash(star) for star in stars], pa.string()),
            table[_LABEL],
            *(table[column] for column in (*MEASURED_COLUMNS, *_PROVENANCE)),
        ],
        names=list(KOI_DISPOSITION_FEATURES),
    ).cast(KOI_DISPOSITION_FEATURES.arrow_schema)
    order = sorted(range(len(names)), key=lambda row: _hash(f"{seed}:{names[row]}"))
    kept = _without_shared_transits(table, splits)
    made = DatasetDict(
        {
            split: Dataset(published.take(pa.array([row for row in order if row in rows], pa.int64())))
            for split, rows in kept.items()
        }
    )
    removed = ", ".join(f"{splits.count(split) - len(rows)} of {split}" for split, rows in kept.items())
    for part in made.values():
        part.info.description = f"Removed because their transits are those of a row of another split: {removed}."
    return made


def _without_shared_transits(table: pa.Table, splits: Sequence[SplitName]) -> dict[SplitName, set[int]]:
    """Return the rows of each split whose transits are not those of a row of a split that is held out from it."""
    periods, epochs = (
        table[column].cast(pa.float64()).to_numpy(zero_copy_only=False) for column in ("koi_period", "koi_time0bk")
    )
    here = {split: np.flatnonzero(np.array([each == split for each in splits], bool)) for split in SPLIT_NAMES}
    kept: dict[SplitName, set[int]] = {}
    held_out = np.empty(0, np.int64)
    for split in reversed(SPLIT_NAMES):
        by_period = held_out[np.argsort(periods[held_out])]
        bounds = [np.searchsorted(periods[by_period], periods[here[split]] * (1 + s * _SAME_PERIOD)) for s in (-1, 1)]
        kept[split] = set()
        for row, start, end in zip(here[split].tolist(), *bounds, strict=True):
            phases = (epochs[by_period[start:end]] - epochs[row]) / periods[row]
            if not (np.abs(phases - np.round(phases)) <= _SAME_PHASE).any():
                kept[split].add(row)
        held_out = np.concatenate([held_out, here[split]])
    return {split: kept[split] for split in SPLIT_NAMES}


def _require_known_stars(table: pa.Table, identity: IdentityTable) -> None:
    stars = {kepid: parse_identifier(kepid, "kepid") for kepid in table["kepid"].to_pylist()}
    unknown = sorted(str(kepid) for kepid, star in stars.items() if star is None or not identity.knows(star))
    if unknown:
        raise BuildError(
            f"object_identity must know every kepid of {_CONFIG}; got a table without {len(unknown)} of them, "
            f"{', '.join(unknown[:5])}. Build object_identity from this folder of nasa_exoplanet_archive."
        )


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
