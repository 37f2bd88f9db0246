"""Which columns of the archives name a star or an organism, and what a bare number in them means."""

from functools import cache


__all__ = [
    "BARE_NUMBER_KINDS",
    "GTDB_COLUMNS",
    "HOST_COLUMNS",
    "PLANET_COLUMNS",
    "SKY_COLUMN",
    "SPECIES_COLUMNS",
    "STAR_COLUMNS",
    "TAXON_COLUMNS",
    "column_key",
    "names_objects",
]


@cache
def column_key(column: str) -> str:
    """Return the name in lower case with letters and digits only: `TIC ID` and `tic_id` are one column."""
    return "".join(character for character in column.casefold() if character.isalnum())


# Column to the rank of its names as labels. `host_star_name` is the embedded table's, which is split by that name and
# ships with the package, so it comes before the archive's own, of any release.
HOST_COLUMNS = {"hoststarname": 0, "hostname": 1}
# `NAME`, `OTHERNAME`, `EANAME` and `ETDNAME` are exoplanets.org's.
PLANET_COLUMNS = frozenset(
    {"plname", "planetname", "keplername", "k2name", "name", "othername", "eaname", "etdname", "epiccandname"}
)
STAR_COLUMNS = frozenset({"star", "starname", "simbadname", "jsname", "gjname", "epichostname", "epicname"})
# Column to the catalogue that a bare number in it belongs to. `ID`, `GAIA` and `TWOMASS` are the TESS Input Catalog's
# own columns (its Gaia identifiers are of DR2), `star_id` that of the Kepler time series, `HIPP` and `GL` those of
# exoplanets.org; `target_name` of MAST's TESS observations is the TIC number.
BARE_NUMBER_KINDS = {
    "kepid": "kic",
    "kic": "kic",
    "kicid": "kic",
    "keplerid": "kic",
    "starid": "kic",
    "kepoiname": "koi",
    "koi": "koi",
    "koiname": "koi",
    "epic": "epic",
    "epicid": "epic",
    "epicnumber": "epic",
    "k2id": "epic",
    "id": "tic",
    "tic": "tic",
    "ticid": "tic",
    "ticidstr": "tic",
    "tid": "tic",
    "tidstr": "tic",
    "ctoi": "tic",
    "ctoialias": "tic",
    "ctoialiasstr": "tic",
    "targetname": "tic",
    "toi": "toi",
    "toipfx": "toi",
    "toipfxstr": "toi",
    "fulltoiid": "toi",
    "promotedtotoi": "toi",
    "gaia": "gaia dr2",
    "gaiaid": "gaia dr2",
    "gaiadr2id": "gaia dr2",
    "gaiadr3id": "gaia dr3",
    "hd": "hd",
    "hdname": "hd",
    "hip": "hip",
    "hipp": "hip",
    "hipname": "hip",
    "gl": "gj",
    "twomass": "2mass",
    "tmname": "2mass",
    "tmdesignation": "2mass",
    "tyc": "tyc",
}
# What `sky_positions` groups by; the builder of identities adds it.
SKY_COLUMN = "sky_position"
# Taxon columns to rank: the species' own taxon before that of a strain.
TAXON_COLUMNS = {
    "speciestaxid": 0,
    "speciestaxonid": 0,
    "speciestaxonomyid": 0,
    "ncbispeciestaxid": 0,
    "taxid": 1,
    "taxonid": 1,
    "taxonomyid": 1,
    "ncbitaxid": 1,
    "ncbitaxonid": 1,
    "organismid": 1,
    "organismtaxonid": 1,
}
SPECIES_COLUMNS = frozenset(
    {"organism", "organismname", "organismscientificname", "scientificname", "species", "speciesname"}
    | {"ncbiorganismname", "productionname"}
)
GTDB_COLUMNS = frozenset({"gtdbspecies", "gtdbtaxonomy"})
# A telescope's target may be anything its observer called it: it is looked up, but tells of no alias.
_ONLY_LOOKED_UP = frozenset({"targetname"})


_ALIAS_COLUMNS = frozenset(
    {
        *HOST_COLUMNS,
        *PLANET_COLUMNS,
        *STAR_COLUMNS,
        *BARE_NUMBER_KINDS,
        *TAXON_COLUMNS,
        *SPECIES_COLUMNS,
        *GTDB_COLUMNS,
    }
    | {column_key(SKY_COLUMN)}
)


def names_objects(column: str) -> bool:
    """Return whether cells of the column are aliases of the object that their row is about."""
    key = column_key(column)
    return key in _ALIAS_COLUMNS and key not in _ONLY_LOOKED_UP
