"""Columns of the instrument tables of the Keck Observatory Archive.

Names and meanings: https://koa.ipac.caltech.edu/UserGuide/PyKOA/TAPClients.html, the keyword pages of each instrument
that it links, and https://koa.ipac.caltech.edu/UserGuide/results.html.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["INSTRUMENTS"]


def text(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.string(), description, required=required)


def real(name: str, description: str, unit: str | None = None, minimum: float | None = None) -> Column:
    return Column(name, pa.float64(), description, unit, False, minimum)


SHARED = (
    text("koaid", "Name of the file, <instrument>.<UT day>.<second of the day>", required=True),
    text("koaimtyp", "Kind of frame by the archive, such as object, arclamp or flatlamp", required=True),
    text("targname", "Target"),
    Column("ra", pa.float64(), "Right ascension of the telescope", "deg", minimum=0, maximum=360),
    Column("dec", pa.float64(), "Declination of the telescope", "deg", minimum=-90, maximum=90),
)
DAY = (text("date_obs", "UT day of the observation"), text("ut", "UT of the start of the observation"))
KPF_TIMES = (text("date_beg", "UT of the start of the exposure"), text("date_end", "UT of the end of the exposure"))
PROGRAMME = (
    real("elaptime", "Time from the start to the end of the exposure", "s", 0),
    text("progid", "Programme"),
    text("semid", "Semester and programme"),
    text("progpi", "Principal investigator"),
    text("progtitl", "Title of the programme"),
    Column("propint", pa.int64(), "Months for which the data were proprietary", minimum=0),
    text("filehand", "Path of the file in the archive", required=True),
)
WAVELENGTHS = (
    real("waveblue", "Shortest wavelength", "Angstrom", 0),
    real("wavered", "Longest wavelength", "Angstrom", 0),
)
READOUT = (
    real("itime", "Integration time of one coadd", "s", 0),
    Column("coadds", pa.int64(), "Integrations added up in one frame", minimum=0),
)

INSTRUMENTS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "hires": (
        "High Resolution Echelle Spectrometer",
        (
            *SHARED,
            *DAY,
            *PROGRAMME,
            *WAVELENGTHS,
            text("deckname", "Decker"),
            text("iodin", "Iodine cell in the beam"),
        ),
    ),
    "nirspec": (
        "Near Infrared Spectrometer",
        (
            *SHARED,
            *DAY,
            *PROGRAMME,
            *WAVELENGTHS,
            *READOUT,
            text("filter", "Filter"),
            text("slitname", "Slit"),
            real("echlpos", "Angle of the echelle", "deg"),
            real("disppos", "Angle of the cross disperser", "deg"),
            text("dispers", "Mode, high or low dispersion"),
        ),
    ),
    "kpf": ("Keck Planet Finder", (*SHARED, *KPF_TIMES, *PROGRAMME)),
    "nires": ("Near-Infrared Echellette Spectrometer", (*SHARED, *DAY, *PROGRAMME)),
    "esi": ("Echellette Spectrograph and Imager", (*SHARED, *DAY, *PROGRAMME)),
    "mosfire": ("Multi-Object Spectrometer for Infra-Red Exploration", (*SHARED, *DAY, *PROGRAMME)),
    "lris": ("Low Resolution Imaging Spectrometer", (*SHARED, *DAY, *PROGRAMME)),
    "deimos": (
        "Deep Extragalactic Imaging Multi-Object Spectrograph",
        (*SHARED, *DAY, *PROGRAMME, text("gratenam", "Grating"), text("dwfilval", "Filter")),
    ),
    "kcwi": (
        "Keck Cosmic Web Imager",
        (
            *SHARED,
            *DAY,
            *PROGRAMME,
            *WAVELENGTHS,
            text("camera", "Arm, BLUE or RED"),
            text("ifunam", "Slicer"),
            text("bgratnam", "Grating of the blue arm"),
            text("bfiltnam", "Filter of the blue arm"),
            text("binning", "Binning of the detector"),
            text("ampmode", "Amplifiers in use"),
        ),
    ),
    "osiris": (
        "OH-Suppressing Infra-Red Integral-field Spectrograph",
        (
            *SHARED,
            *DAY,
            *PROGRAMME,
            *READOUT,
            text("instr", "Part of the instrument, spectrograph or imager"),
            text("sfilter", "Filter of the spectrograph"),
            text("ifilter", "Filter of the imager"),
            text("sscale", "Scale of the spectrograph"),
        ),
    ),
    "nirc2": (
        "Near-Infrared Camera 2",
        (
            *SHARED,
            *DAY,
            *PROGRAMME,
            *READOUT,
            text("camname", "Camera"),
            text("filter", "Filter"),
            text("slitname", "Slit"),
        ),
    ),
}
