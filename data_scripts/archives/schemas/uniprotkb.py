"""Columns of UniProtKB, under the names of https://www.uniprot.org/help/return_fields."""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["ACTIVITIES", "ENTRIES", "FIELDS"]

TEXT, WORDS = pa.string(), pa.list_(pa.string())

# Return fields that fill the columns; catalytic activities and entries ask the same, so that one answer serves both.
FIELDS = (
    "accession,id,protein_name,gene_names,organism_name,organism_id,lineage,length,mass,sequence,sequence_version,version,"
    "date_created,date_modified,date_sequence_modified,protein_existence,annotation_score,ec,keyword,go_id,cc_function,"
    "cc_catalytic_activity"
)

ORGANISM = (
    Column("organism_name", TEXT, "Scientific name, with the strain if it has a taxon of its own", required=True),
    Column("organism_id", pa.int64(), "NCBI taxon of the organism", required=True, minimum=1),
    Column("species", TEXT, "Genus and epithet taken from the organism's name, else the whole name", required=True),
)

ENTRIES = (
    Column("accession", TEXT, "Primary accession", required=True),
    Column("id", TEXT, "Entry name", required=True),
    Column("secondary_accessions", WORDS, "Accessions that were merged into this entry"),
    Column("reviewed", pa.bool_(), "Whether the entry is of Swiss-Prot, that is, read by a curator", required=True),
    Column("protein_name", TEXT, "Recommended full name, else the first submitted one", required=True),
    Column("gene_names", WORDS, "Names, synonyms, ordered loci and open reading frames of the genes"),
    *ORGANISM,
    Column("lineage", WORDS, "Taxa above the organism, from the domain down", required=True),
    Column("ec", WORDS, "Enzyme Commission numbers in the protein's names"),
    Column(
        "protein_existence",
        pa.int8(),
        "1 seen as protein, 2 as transcript, 3 by homology, 4 predicted, 5 uncertain",
        minimum=1,
        maximum=5,
    ),
    Column(
        "annotation_score",
        pa.float64(),
        "UniProt's score of the annotation; not in flat files and XML",
        minimum=0,
        maximum=5,
    ),
    Column("keyword", WORDS, "Keywords"),
    Column("go_id", WORDS, "Gene Ontology terms"),
    Column("cc_function", TEXT, "What the protein does"),
    Column("version", pa.int32(), "Version of the entry", required=True, minimum=1),
    Column("date_created", pa.date32(), "Day the entry came into UniProtKB", required=True),
    Column("date_modified", pa.date32(), "Day of the entry's last change", required=True),
    Column("date_sequence_modified", pa.date32(), "Day of the sequence's last change", required=True),
    Column("sequence_version", pa.int32(), "Version of the sequence", required=True, minimum=1),
    Column("length", pa.int32(), "Residues", required=True, minimum=1),
    Column("mass", pa.int64(), "Mass of the unmodified chain", unit="u", required=True, minimum=57),
    Column("crc64", TEXT, "Checksum of the sequence, ISO 3309; 32 bits in releases before 2003"),
    Column("sequence", TEXT, "Residues in one-letter code", required=True),
)

ACTIVITIES = (
    Column("accession", TEXT, "Primary accession of the entry", required=True),
    Column("activity", pa.int32(), "Number of the activity in the entry, from 0", required=True, minimum=0),
    Column("id", TEXT, "Entry name", required=True),
    Column("reviewed", pa.bool_(), "Whether the entry is of Swiss-Prot", required=True),
    *ORGANISM,
    Column("reaction", TEXT, "The reaction, in words", required=True),
    Column("rhea_id", TEXT, "Reaction in Rhea, without direction; absent where Rhea has none"),
    Column("chebi_ids", WORDS, "Participants in ChEBI"),
    Column("rhea_compounds", WORDS, "Participants in Rhea that are generic or polymers"),
    Column("ec_number", TEXT, "Enzyme Commission number of the reaction"),
    Column("direction", WORDS, "Directions seen in the organism"),
    Column("direction_rhea_id", WORDS, "Reaction in Rhea of each of these directions"),
    Column("molecule", TEXT, "Isoform or chain that the activity is of, if not the whole entry"),
    Column("evidence", WORDS, "Codes of the Evidence and Conclusion Ontology"),
)
