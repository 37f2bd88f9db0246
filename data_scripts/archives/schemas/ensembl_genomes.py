"""Columns of Ensembl's genomes, genes and sequences, under the names of its REST service."""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["GENES", "GENOMES", "SEQUENCES"]

TEXT, COUNT = pa.string(), pa.int64()

GENOMES = (
    Column("name", TEXT, "Name of the genome in addresses, such as saccharomyces_cerevisiae", required=True),
    Column("scientific_name", TEXT, "Scientific name, with the strain if it has a taxon of its own", required=True),
    Column("species", TEXT, "Genus and epithet taken from the scientific name, else the whole name", required=True),
    Column("species_taxonomy_id", COUNT, "NCBI taxon of the species", required=True, minimum=1),
    Column("taxonomy_id", COUNT, "NCBI taxon of the genome", required=True, minimum=1),
    Column("display_name", TEXT, "Name for people"),
    Column("strain", TEXT, "Strain"),
    Column("serotype", TEXT, "Serotype"),
    Column("division", TEXT, "Division of Ensembl", required=True),
    Column("assembly_name", TEXT, "Name of the assembly", required=True),
    Column("assembly_accession", TEXT, "Accession of the assembly in GenBank"),
    Column("assembly_level", TEXT, "chromosome, scaffold, contig, ..."),
    Column("base_count", COUNT, "Bases of the assembly", minimum=1),
    Column("genebuild", TEXT, "When and by whom the genes were annotated"),
)

TAXA = (
    Column("scientific_name", TEXT, "Scientific name of the organism"),
    Column("species_taxonomy_id", COUNT, "NCBI taxon of the species", minimum=1),
    Column("taxonomy_id", COUNT, "NCBI taxon of the genome", minimum=1),
)

GENES = (
    Column("id", TEXT, "Stable identifier; in bacteria not unique to a species", required=True),
    Column("species", TEXT, "Name of the genome in addresses", required=True),
    *TAXA,
    Column("display_name", TEXT, "Symbol"),
    Column("description", TEXT, "Description"),
    Column("biotype", TEXT, "Class of the gene, such as protein_coding", required=True),
    Column("assembly_name", TEXT, "Assembly", required=True),
    Column("seq_region_name", TEXT, "Chromosome or scaffold", required=True),
    Column("start", COUNT, "First base, from 1", required=True),
    Column("end", COUNT, "Last base", required=True, minimum=1),
    Column("strand", pa.int8(), "1 or -1", required=True, minimum=-1, maximum=1),
    Column("gene_source", TEXT, "Who annotated it; Ensembl's source"),
    Column("logic_name", TEXT, "Analysis that found it"),
    Column("db_type", TEXT, "Kind of database"),
    Column("version", pa.int32(), "Version of the identifier"),
    Column("canonical_transcript", TEXT, "Transcript that stands for the gene"),
)

SEQUENCES = (
    Column("id", TEXT, "Identifier of the gene, transcript or protein", required=True),
    Column("query", TEXT, "Gene that was asked for", required=True),
    Column("species", TEXT, "Name of the genome in addresses", required=True),
    *TAXA,
    Column("type", TEXT, "genomic, cdna, cds or protein"),
    Column("molecule", TEXT, "dna or protein", required=True),
    Column("desc", TEXT, "Where the sequence lies"),
    Column("version", pa.int32(), "Version of the identifier"),
    Column("length", COUNT, "Letters of the sequence", required=True, minimum=1),
    Column("sequence", TEXT, "Bases or residues", required=True),
)
