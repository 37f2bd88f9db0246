"""The species that a metabolic model is of: from the file, a table beside it, or the model's published name."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from data_scripts.archives.protocols.species_names import species_name
from data_scripts.harness.errors import BuildError


__all__ = ["SPECIES_FILE", "model_species", "read_species_file"]

SPECIES_FILE = "species.csv"
_COLUMNS = ["file", "species"]
# Names that publications gave to models whose files name no organism; a suffix _fixed is not part of them. Species
# are called as the publications call them.
_PUBLISHED = {
    "Acinetobacter baumannii": "AbyMBEL891",
    "Acinetobacter baylyi": "iAbaylyiV4",
    "Arabidopsis thaliana": "AraGEM iRS1597",
    "Aspergillus nidulans": "iHD666",
    "Aspergillus niger": "iMA871",
    "Aspergillus oryzae": "iWV1314",
    "Bacillus subtilis": "iBsu1103 iYO844",
    "Burkholderia cenocepacia": "iKF1028",
    "Chlamydomonas reinhardtii": "iRC1080",
    "Clostridium acetobutylicum": "iCac802 iJL432",
    "Clostridium beijerinckii": "iCB925",
    "Clostridium thermocellum": "iSR432",
    "Cryptosporidium hominis": "iNV213",
    "Corynebacterium glutamicum": "iKK446 iYS277",
    "Dehalococcoides ethenogenes": "iAI549",
    "Escherichia coli": "e_coli_core textbook mini_textbook iAF1260 iCA1273 iJO1366 iJR904 iML1515",
    "Francisella tularensis": "iRS605",
    "Geobacter metallireducens": "iJS747 iAF987",
    "Geobacter sulfurreducens": "iRM588",
    "Haemophilus influenzae": "iCS400",
    "Helicobacter pylori": "iCS291 iIT341",
    "Homo sapiens": "RECON1 Recon3D",
    "Ketogulonicigenium vulgare": "iWZ663",
    "Klebsiella pneumoniae": "iYL1228",
    "Lactobacillus plantarum": "iBT721",
    "Lactococcus lactis": "iAO358",
    "Leishmania major": "iAC560",
    "Mannheimia succiniciproducens": "iSH335 iTY425",
    "Methanosarcina acetivorans": "iMB745 iVS941",
    "Methanosarcina barkeri": "iAF692",
    "Mus musculus": "iMM1415 iSS724 mus_musculus",
    "Mycobacterium tuberculosis": "GSMN_TB iNJ661 iNJ661m iEK1008",
    "Mycoplasma genitalium": "iPS189",
    "Natronomonas pharaonis": "iOG654",
    "Neisseria meningitidis": "iGB555",
    "Pichia pastoris": "PpaMBEL1254 iLC915 iPP668",
    "Pichia stipitis": "iSS884 iTL885",
    "Plasmodium falciparum": "iTH366 iAM_Pf480",
    "Porphyromonas gingivalis": "iVM679",
    "Pseudomonas aeruginosa": "iMO1056",
    "Pseudomonas putida": "PpuMBEL1071 iJN746 iJP815 iJN1463",
    "Rhizobium etli": "iOR363",
    "Rhodobacter sphaeroides": "iRsp1095",
    "Rhodoferax ferrireducens": "iCR744",
    "Saccharomyces cerevisiae": "iFF708 iIN800 iLL672 iMM904 iND750",
    "Salmonella enterica": "STM_v1_0 iMA945 iRR1083 iYS1720",
    "Schizosaccharomyces pombe": "SpoMBEL1693",
    "Shewanella oneidensis": "iSO783",
    "Staphylococcus aureus": "iMH551 iSB619 iYS854",
    "Streptococcus thermophilus": "iMP429",
    "Streptomyces coelicolor": "S_coilicolor iIB711",
    "Synechocystis sp. PCC 6803": "iJN678 iSyn669",
    "Thermotoga maritima": "T_Maritima iLJ478",
    "Vibrio vulnificus": "VvuMBEL943",
    "Yersinia pestis": "iAN818m iAN840m iPC815",
    "Zea mays": "iRS1563",
    "Zymomonas mobilis": "iZM363 iZmobMBEL601",
}
_SPECIES_OF_ID = {name: species for species, names in _PUBLISHED.items() for name in names.split()}


def model_species(file: str, model_id: str, model_name: str, has_taxon: bool, stated: Mapping[str, str]) -> str | None:
    """Return the species of a model, or None if nothing names it.

    What `species.csv` states of the file comes first, then the published name of the model: its identifier, else a
    word of the model's name or the file's name, since old files are numbered by the program that wrote them. Last
    comes the model's own name, which is the organism's in files of BiGG; those state its taxon.

    Args:
        file: Name of the file.
        model_id: The model's identifier.
        model_name: Its name, empty if it has none.
        has_taxon: Whether the file states an NCBI taxon.
        stated: File to species, see `read_species_file`.
    """
    if file in stated:
        return stated[file]
    for name in (model_id, *model_name.split(), file.partition(".")[0]):
        published = _SPECIES_OF_ID.get(name.removesuffix("_fixed"))
        if published is not None:
            return published
    if has_taxon and re.match(r"(Candidatus )?[A-Z][a-z]+ [a-z]", model_name):
        return species_name(model_name)
    return None


def read_species_file(folder: Path) -> dict[str, str]:
    """Read `species.csv` with the columns `file` and `species` from a folder of models; empty if it is not there.

    Raises:
        BuildError: If it has other columns, an empty cell, a file twice, or one that is not in the folder.
    """
    path = folder / SPECIES_FILE
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text)
        if reader.fieldnames != _COLUMNS:
            raise BuildError(f"{SPECIES_FILE} must have the columns {', '.join(_COLUMNS)}; got {reader.fieldnames}.")
        for row in reader:
            file, species = ((row[column] or "").strip() for column in _COLUMNS)
            if not species or file in found or not (folder / file).is_file():
                raise BuildError(
                    f"{SPECIES_FILE} must name each file of the folder once, with its species; got {file!r}, "
                    f"{species!r} in line {reader.line_num}. Correct the line."
                )
            found[file] = species
    return found
