"""Columns of GTDB's metadata, as FILE_DESCRIPTIONS.txt of each release explains them."""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["GROUPS", "METADATA", "RANKS", "RENAMED", "TAXONOMY"]

TEXT, COUNT, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

# Published name of each rank; the species are GTDB's clusters, which NCBI may name otherwise.
RANKS = ("domain", "phylum", "class", "order", "family", "genus", "gtdb_species")
# Old name to the name since release 207.
RENAMED = {
    "gtdb_type_designation": "gtdb_type_designation_ncbi_taxa",
    "gtdb_type_designation_sources": "gtdb_type_designation_ncbi_taxa_sources",
}
# Columns that a release has together or not at all: CheckM 2 came with release 220.
GROUPS = (
    ("checkm_completeness", "checkm_contamination", "checkm_strain_heterogeneity"),
    ("checkm2_completeness", "checkm2_contamination"),
)

TAXONOMY = (
    Column("accession", TEXT, "Accession of the assembly after RS_ (RefSeq) or GB_ (GenBank)", required=True),
    Column("gtdb_taxonomy", TEXT, "Seven ranks of GTDB's taxonomy", required=True),
    *(
        Column(rank, TEXT, "Rank of GTDB's taxonomy, without prefix", required=rank != "gtdb_species")
        for rank in RANKS
    ),
)


def share(name: str, description: str, required: bool = False, maximum: float | None = 100) -> Column:
    return Column(name, REAL, description, unit="%", required=required, minimum=0, maximum=maximum)


def count(name: str, description: str, required: bool = False, minimum: float = 0) -> Column:
    return Column(name, COUNT, description, required=required, minimum=minimum)


METADATA = (
    *TAXONOMY,
    Column("gtdb_representative", FLAG, "Whether the genome represents its species cluster", required=True),
    Column("gtdb_genome_representative", TEXT, "Genome that represents the species cluster", required=True),
    Column("gtdb_type_designation_ncbi_taxa", TEXT, "Whether it is assembled from type material, by NCBI's taxa"),
    Column("gtdb_type_designation_ncbi_taxa_sources", TEXT, "Who says so"),
    Column("gtdb_type_species_of_genus", FLAG, "Whether the species is the type of its genus"),
    Column("mimag_high_quality", FLAG, "Whether MIMAG calls the assembly of high quality"),
    Column("mimag_medium_quality", FLAG, "Whether MIMAG calls the assembly of medium quality"),
    Column("mimag_low_quality", FLAG, "Whether MIMAG calls the assembly of low quality"),
    share("checkm_completeness", "Completeness by CheckM"),
    share("checkm_contamination", "Contamination by CheckM; above 100 where there are several genomes", maximum=None),
    share("checkm_strain_heterogeneity", "Share of the contamination that is of close strains, by CheckM"),
    share("checkm2_completeness", "Completeness by CheckM 2; since release 220"),
    share("checkm2_contamination", "Contamination by CheckM 2; since release 220", maximum=None),
    count("genome_size", "Bases of the assembly", required=True, minimum=1),
    count("gc_count", "Bases that are G or C", required=True),
    share("gc_percentage", "Share of G and C among the known bases", required=True),
    count("ambiguous_bases", "Bases that are neither known nor in gaps", required=True),
    count("total_gap_length", "Bases in gaps", required=True),
    count("coding_bases", "Bases in coding sequences", required=True),
    share("coding_density", "Share of bases in coding sequences", required=True),
    count("contig_count", "Contigs", required=True, minimum=1),
    count("scaffold_count", "Scaffolds", required=True, minimum=1),
    count("n50_contigs", "N50 of the contigs, in bases"),
    count("n50_scaffolds", "N50 of the scaffolds, in bases"),
    count("longest_contig", "Bases of the longest contig"),
    count("longest_scaffold", "Bases of the longest scaffold"),
    count("protein_count", "Proteins predicted", required=True),
    count("trna_count", "Transfer RNAs"),
    count("trna_aa_count", "Amino acids with a transfer RNA"),
    count("trna_selenocysteine_count", "Transfer RNAs of selenocysteine"),
    count("ssu_count", "16S ribosomal RNAs"),
    count("ssu_length", "Bases of the longest 16S ribosomal RNA"),
    count("lsu_23s_count", "23S ribosomal RNAs"),
    count("lsu_5s_count", "5S ribosomal RNAs"),
    Column("ncbi_organism_name", TEXT, "Name of the organism at NCBI"),
    count("ncbi_taxid", "NCBI taxon", minimum=1),
    count("ncbi_species_taxid", "NCBI taxon of the species", required=True, minimum=1),
    Column("ncbi_taxonomy", TEXT, "NCBI's taxonomy, seven ranks"),
    Column("ncbi_strain_identifiers", TEXT, "Strain"),
    Column("ncbi_isolate", TEXT, "Isolate"),
    Column("ncbi_isolation_source", TEXT, "Where the organism was found"),
    Column("ncbi_country", TEXT, "Country and place"),
    Column("ncbi_lat_lon", TEXT, "Latitude and longitude, as submitted"),
    Column("ncbi_genome_category", TEXT, "Origin if not an isolate: metagenome, environmental sample, single cell"),
    Column("ncbi_assembly_level", TEXT, "Complete Genome, Chromosome, Scaffold or Contig"),
    Column("ncbi_assembly_name", TEXT, "Name of the assembly"),
    Column("ncbi_genbank_assembly_accession", TEXT, "Accession of the assembly in GenBank"),
    Column("ncbi_bioproject", TEXT, "Project at NCBI"),
    Column("ncbi_biosample", TEXT, "Sample at NCBI"),
    Column("ncbi_refseq_category", TEXT, "Category in RefSeq; na where it has none"),
    Column("ncbi_date", TEXT, "Day of the assembly's release"),
    count("ncbi_translation_table", "Genetic code", minimum=1),
    Column("ncbi_type_material_designation", TEXT, "Type material, as NCBI says"),
    Column("ncbi_wgs_master", TEXT, "Accession of the shotgun project"),
)
