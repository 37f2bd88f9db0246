"""What the rows of each archive's table are called in a text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_scripts.derived.text_fields import TextField, text_fields
from data_scripts.harness.archive import Archive, TableConfig


__all__ = ["TextRow", "TextTable", "text_table"]

# Table to noun and name of a row. Other tables are called by their own name, their rows by their key.
_SUBJECTS = {
    "ensembl_genomes.genes": ("Gene", "{id}"),
    "ensembl_genomes.genomes": ("Genome", "{name}"),
    "ensembl_genomes.records": ("Sequence record", "{accession_version}"),
    "ensembl_genomes.sequences": ("Sequence", "{id}"),
    "eso_vlt.apex_quicklooks": ("APEX quick look", "{quicklook_id}"),
    "eso_vlt.obscore": ("ESO data product", "{dp_id}"),
    "eso_vlt.raw": ("ESO raw frame", "{dp_id}"),
    "eso_vlt.spectra": ("ESO spectrum", "{ARCFILE}"),
    "exoplanets_org.planets": ("Planet", "{NAME}"),
    "gemini.observations": ("Gemini file", "{name}"),
    "gtdb.metadata": ("Genome", "{accession}"),
    "gtdb.taxonomy": ("Genome", "{accession}"),
    "jwst_mast.data_set_products": ("File", "{filename}"),
    "jwst_mast.hsc_spectra": ("Hubble spectrum", "{DatasetName}"),
    "jwst_mast.hst_data_sets": ("HST data set", "{sci_data_set_name}"),
    "jwst_mast.jwst_data_sets": ("JWST data set", "{fileSetName}"),
    "jwst_mast.observations": ("Observation", "{obs_collection} {obsid}"),
    "jwst_mast.products": ("File", "{dataURI}"),
    "jwst_mast.spectra": ("JWST spectrum", "{FILENAME}, table {table}, integration {integration}"),
    "kepler_k2.koi_dr25": ("Kepler object of interest", "{kepoi_name}"),
    "kepler_k2.light_curves": ("Kepler light curve", "{OBJECT}, {OBSMODE} from cadence {cadence_start}"),
    "kepler_k2.observations": ("Kepler observation", "{obs_id}"),
    "kepler_k2.time_series": ("Kepler time series", "KIC {star_id}, quarter {quarter}, {targettype}"),
    "nasa_exoplanet_archive.cumulative": ("Kepler object of interest", "{kepoi_name}"),
    "nasa_exoplanet_archive.k2candidates": ("K2 candidate", "{epic_candname}"),
    "nasa_exoplanet_archive.k2pandc": ("K2 planet or candidate", "{pl_name}"),
    "nasa_exoplanet_archive.kepler_stellar": ("Kepler target star", "KIC {kepid}"),
    "nasa_exoplanet_archive.koi": ("Kepler object of interest", "{kepoi_name}"),
    "nasa_exoplanet_archive.mission_exocat": ("Nearby star", "{star_name}"),
    "nasa_exoplanet_archive.ps": ("Planet", "{pl_name}"),
    "nasa_exoplanet_archive.pscomppars": ("Planet", "{pl_name}"),
    "nasa_exoplanet_archive.toi": ("TESS object of interest", "TOI {toi}"),
    "ncbi_genbank.records": ("Sequence record", "{accession_version}"),
    "ncbi_genbank.sequences": ("Sequence", "{accession_version}"),
    "planet_hunters.candidates": ("Planet Hunters candidate", "TIC {candidate}"),
    "planet_hunters.tce": ("Threshold crossing event", "KIC {kepid}, event {tce_plnt_num}"),
    "planet_hunters.tce_dr25": ("Threshold crossing event", "KIC {kepid}, event {tce_plnt_num}"),
    "subaru_smoka.frames": ("Subaru frame", "{FRAMEID}"),
    "subaru_smoka.observations": ("Subaru exposure", "{FRAME_ID}"),
    "subaru_smoka.suprime_cam": ("Suprime-Cam exposure", "{FRAME_ID}"),
    "tess.cutouts": ("TESS cutout", "{file}"),
    "tess.light_curves": ("TESS light curve", "{OBJECT}, sector {SECTOR}"),
    "tess.observations": ("TESS observation", "{obs_id}"),
    "tess.tic": ("Star", "TIC {ID}"),
    "tess.toi": ("TESS object of interest", "TOI {Full TOI ID}"),
    "uniprotkb.catalytic_activities": ("Catalytic activity", "{id}, activity {activity}"),
    "uniprotkb.entries": ("Protein", "{id}"),
}


@dataclass(frozen=True, eq=False)
class TextTable:
    """A table as texts speak of it.

    Attributes:
        name: `source.config`.
        title: The archive's own name.
        noun: What a row is about.
        row_name: Template of a row's name over its cells.
        fields: Fields in the order of the columns, without those that the name is made of.
    """

    name: str
    title: str
    noun: str
    row_name: str
    fields: tuple[TextField, ...]


@dataclass(frozen=True, eq=False)
class TextRow:
    """A row as texts speak of it.

    Attributes:
        table: Its table.
        name: What the row is called.
        cells: Column to value.
        object_id: The star or organism.
        provenance: Columns that say where it is from.
        values: Column of a field to its text without uncertainties; fields without are absent.
    """

    table: TextTable
    name: str
    cells: Mapping[str, Any]
    object_id: str
    provenance: Mapping[str, str]
    values: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        texts = ((each.column, each.value(self.cells)) for each in self.table.fields)
        object.__setattr__(self, "values", {column: text for column, text in texts if text is not None})

    @property
    def title(self) -> str:
        """First line of a text about the row: `noun: name`."""
        return f"{self.table.noun}: {self.name}"


def text_table(archive: Archive, config: TableConfig) -> TextTable:
    """Return what a table is called, and its fields."""
    name = f"{archive.name}.{config.name}"
    by_key = ", ".join(f"{{{column}}}" for column in config.key)
    noun, row_name = _SUBJECTS.get(name, (f"{config.name.replace('_', ' ')} of {archive.title}", by_key))
    in_name = set(re.findall(r"{([^}]+)}", row_name))
    fields = tuple(each for each in text_fields(config) if each.column not in in_name)
    return TextTable(name, archive.title, noun, row_name, fields)
