"""Columns of the TESS Objects of Interest catalogue as the TESS Science Office releases it (tev.mit.edu).

Described in Guerrero et al. 2021, ApJS 254, 39, section 5.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["TOI_RELEASE"]

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int64()


def measured(name: str, description: str, unit: str, error: str = "Error", least: float | None = 0) -> list[Column]:
    """A value and its error."""
    return [
        Column(f"{name} Value", REAL, description, unit, minimum=least),
        Column(f"{name} {error}", REAL, f"{error} of {name} Value", unit, minimum=0),
    ]


TOI_RELEASE = (
    Column("Source Pipeline", TEXT, "Pipeline whose signal was chosen: spoc or qlp", required=True),
    Column("TIC", COUNT, "TIC identifier of the star", required=True, minimum=1),
    Column("Full TOI ID", TEXT, "Number of the object of interest: star, point, candidate", required=True),
    Column("TOI Disposition", TEXT, "PC, KP, CP, EB, IS, V, ...", required=True),
    Column("TIC Right Ascension", REAL, "Right ascension, epoch 2000", "deg", required=True, minimum=0, maximum=360),
    Column("TIC Declination", REAL, "Declination, epoch 2000", "deg", required=True, minimum=-90, maximum=90),
    Column("TIC Right Ascension 2015.5", REAL, "Right ascension, epoch 2015.5", "deg", minimum=0, maximum=360),
    Column("TIC Declination 2015.5", REAL, "Declination, epoch 2015.5", "deg", minimum=-90, maximum=90),
    *measured("TMag", "TESS magnitude", "mag", "Uncertainty", -30),
    *measured("Epoch", "Time of a transit's middle, BJD - 2457000, TDB", "d", least=None),
    *measured("Orbital Period", "Orbital period; null for a single transit", "d"),
    *measured("Transit Duration", "Transit duration", "h"),
    *measured("Transit Depth", "Transit depth in parts per million", "1e-6"),
    Column("Sectors", TEXT, "Sectors in which the star was observed, a list in brackets"),
    Column("Public Comment", TEXT, "Remark of the vetting team"),
    *measured("Surface Gravity", "Surface gravity of the star", "dex(cm/s2)", "Uncertainty", None),
    Column("Signal ID", COUNT, "Number of the signal of the pipeline", minimum=0),
    *measured("Star Radius", "Radius of the star", "solRad"),
    *measured("Planet Radius", "Radius of the planet", "earthRad"),
    Column("Planet Equilibrium Temperature (K) Value", REAL, "Equilibrium temperature", "K", minimum=0),
    *measured("Effective Temperature", "Effective temperature of the star", "K", "Uncertainty"),
    Column("Effective Stellar Flux Value", REAL, "Flux on the planet in those on the Earth", minimum=0),
    Column("Signal-to-noise", REAL, "Signal to noise of the transits", minimum=0),
    Column("Centroid Offset", pa.bool_(), "Whether the signal's centroid is off the star"),
    Column("TFOP Master", COUNT, "Priority for follow-up, 1 (highest) to 5", minimum=1, maximum=5),
    *(
        Column(f"TFOP SG{group}", COUNT, f"Priority for follow-up by subgroup {group}", minimum=1, maximum=5)
        for group in ("1a", "1b", "2", "3", "4", "5")
    ),
    Column("Alerted", TEXT, "Time of the alert"),
    Column("Updated", TEXT, "Time of the last change"),
)
