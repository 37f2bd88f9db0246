"""Columns of annotated sequences, as GenBank and EMBL flat files give them."""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["RECORDS", "SEQUENCES"]

TEXT, WORDS = pa.string(), pa.list_(pa.string())

NAMES = (
    Column("accession_version", TEXT, "Accession and version of the sequence", required=True),
    Column("organism", TEXT, "Scientific name, with the strain if it has a taxon of its own", required=True),
    Column("species", TEXT, "Genus and epithet taken from the organism's name, else the whole name", required=True),
    Column("taxid", pa.int64(), "NCBI taxon of the organism, from the source feature", minimum=1),
    Column("molecule_type", TEXT, "Molecule: DNA, mRNA, protein, ...", required=True),
    Column("length", pa.int64(), "Length in bases or residues; records in a master record", required=True, minimum=0),
)

RECORDS = (
    *NAMES,
    Column("locus", TEXT, "Name on the first line", required=True),
    Column("definition", TEXT, "Description", required=True),
    Column("taxonomy", WORDS, "Taxa above the organism, from the domain down", required=True),
    Column("topology", TEXT, "linear or circular; absent in records before 2000"),
    Column("division", TEXT, "Division of the archive, such as BCT", required=True),
    Column("date", pa.date32(), "Day of the last change; flat files of EMBL have none here"),
    Column("keywords", WORDS, "Keywords"),
    Column("dblinks", WORDS, "Projects and samples, database before the colon"),
    Column("strain", TEXT, "Strain"),
    Column("isolation_source", TEXT, "Where the organism was found"),
    Column("geo_loc_name", TEXT, "Country or sea, and place"),
    Column("lat_lon", TEXT, "Latitude and longitude in degrees with N or S and E or W"),
    Column("collection_date", TEXT, "When the sample was taken, as submitted"),
    Column("organelle", TEXT, "Organelle"),
    Column("plasmid", TEXT, "Plasmid"),
    Column("feature_type", WORDS, "Kind of each feature, in the order of the record"),
    Column("feature_location", WORDS, "Location of each feature as flat files write it, one-based"),
    Column("feature_gene", WORDS, "Gene of each feature"),
    Column("feature_locus_tag", WORDS, "Locus tag of each feature"),
    Column("feature_product", WORDS, "Product of each feature"),
    Column("feature_protein_id", WORDS, "Accession and version of the protein of each feature"),
)

SEQUENCES = (
    *NAMES,
    Column("sequence", TEXT, "Letters in upper case; null in a master record", required=True),
)
