"""Cells of archive tables name the objects that they mean."""

import pytest

from data_scripts.embedded.planets import load_planets
from data_scripts.identifier_columns import names_objects
from data_scripts.identifiers import parse_identifier
from data_scripts.object_names import normalise_species, normalise_star_name, star_of_planet
from data_scripts.splits import split_of


@pytest.mark.parametrize(
    ("column", "cell", "kind", "value"),
    [
        ("kepid", 11442793, "kic", "11442793"),
        ("KEPID", "011442793", "kic", "11442793"),
        ("kepid", 11442793.0, "kic", "11442793"),
        ("KIC", "757076", "kic", "757076"),
        ("target_name", "kplr011446443", "kic", "11446443"),
        ("target_name", "KIC 11446443", "kic", "11446443"),
        ("kepoi_name", "K00351.01", "koi", "351"),
        ("KOI", "351.02", "koi", "351"),
        ("pl_name", "KOI-1599.01", "koi", "1599"),
        ("hostname", "KOI-351", "koi", "351"),
        ("tid", 92226327, "tic", "92226327"),
        ("tic_id", "TIC 92226327", "tic", "92226327"),
        ("ctoi_alias", 92226327.01, "tic", "92226327"),
        ("CTOI", "55525572.01", "tic", "55525572"),
        ("ID", "25155310", "tic", "25155310"),
        ("target_name", "25155310", "tic", "25155310"),
        ("hostname", "TIC 172900988 Aa", "tic", "172900988 Aa"),
        ("Full TOI ID", "3694.01", "toi", "3694"),
        ("toi", 256.01, "toi", "256"),
        ("toipfxstr", "TOI 256", "toi", "256"),
        ("pl_name", "TOI-216.02", "toi", "216"),
        ("epic_name", "EPIC 206027655", "epic", "206027655"),
        ("epic_candname", "EPIC 206027655.02", "epic", "206027655"),
        ("pl_name", "EPIC 201615463 c", "epic", "201615463"),
        ("target_name", "ktwo201615463", "epic", "201615463"),
        ("gaia_id", "Gaia DR2 4792774797545105664", "gaia dr2", "4792774797545105664"),
        ("GAIA", "4792774797545105664", "gaia dr2", "4792774797545105664"),
        ("gaia_dr3_id", "Gaia DR3 4792774797545105664", "gaia dr3", "4792774797545105664"),
        ("object", "Gaia EDR3 12", "gaia dr3", "12"),
        ("hostname", "HD 209458", "hd", "209458"),
        ("object", "HD209458", "hd", "209458"),
        ("targprop", "HD-189733", "hd", "189733"),
        ("HD", "39060", "hd", "39060"),
        ("pl_name", "HD 41004 B b", "hd", "41004 B"),
        ("hd_name", "HD 6440 A", "hd", "6440 A"),
        ("HIPP", "27321", "hip", "27321"),
        ("hip_name", "HIP 5110 A", "hip", "5110 A"),
        ("hostname", "HIP 79098 AB", "hip", "79098 AB"),
        ("hostname", "Gl 686", "gj", "686"),
        ("gj_name", "GJ 9038 A", "gj", "9038 A"),
        ("hostname", "GJ 160.2", "gj", "160.2"),
        ("TWOMASS", "16573094-0405387", "2mass", "16573094-0405387"),
        ("tm_name", "2MASS J22354616-1401398", "2mass", "22354616-1401398"),
        ("hostname", "TYC 0434-04538-1", "tyc", "434-4538-1"),
        ("TYC", "434-4538-1", "tyc", "434-4538-1"),
        ("kepler_name", "Kepler-90 b", "name", "kepler90"),
        ("hostname", "WASP-94 A", "name", "wasp94 a"),
        ("NAME", "WASP-94Ab", "name", "wasp94 a"),
        ("taxid", 562, "taxon", "562"),
        ("ncbi_species_taxid", "562", "taxon", "562"),
        ("db_xref", "taxon:562", "taxon", "562"),
        ("organism", "Escherichia coli str. K-12 substr. MG1655", "species", "escherichia coli"),
        ("gtdb_taxonomy", "d__Bacteria;g__Escherichia;s__Escherichia coli_D", "gtdb species", "escherichia coli_d"),
    ],
)
def test_cells_are_recognised(column, cell, kind, value):
    found = parse_identifier(cell, column)
    assert (found.kind, found.value) == (kind, value)


@pytest.mark.parametrize("cell", [None, "", "  ", "nan", float("nan"), float("inf"), "--", "null", 0, "0", True])
@pytest.mark.parametrize("column", ["kepid", "hostname", "organism", "taxid", "gtdb_taxonomy"])
def test_empty_cells_name_nothing(column, cell):
    assert parse_identifier(cell, column) is None


def test_cells_of_other_use_name_nothing():
    # An entry name of UniProt, a species that GTDB has not named, and 64 bits that a double cannot hold.
    assert parse_identifier("1433B_HUMAN", "id") is None
    assert parse_identifier("d__Bacteria;g__;s__", "gtdb_taxonomy") is None
    assert parse_identifier(4792774797545105664.0, "GAIA") is None


def test_same_number_in_other_catalogues_is_another_object():
    cells = [("kepid", 7), ("tid", 7), ("HD", "7"), ("HIPP", "7"), ("GAIA", "7"), ("gaia_dr3_id", "7"), ("taxid", 7)]
    assert len({parse_identifier(cell, column) for column, cell in cells}) == len(cells)


@pytest.mark.parametrize(
    "spellings",
    [
        ("WASP-12", "WASP 12", "wasp12", "WASP‑12", "WASP_12", " Wasp - 12"),
        ("bet Pic", "β Pic", "beta Pic", "BETA-PIC", "* bet Pic"),
        ("gam 1 Leo", "gam1 Leo", "γ¹ Leo"),
        ("K2-18", "K2 18"),
        ("BD+03 2562", "BD +03 2562", "BD+3 2562", "BD+03°2562"),
        ("WASP-94 A", "WASP-94A"),
    ],
)
def test_spellings_of_a_star_are_one(spellings):
    assert len({normalise_star_name(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("BD+03 2562", "BD-03 2562"),
        ("L 98-59", "L 985-9"),
        ("WASP-94 A", "WASP-94 B"),
        ("K2-18", "K-218"),
        ("PSR J1719-1438", "PSR J1719+1438"),
        ("XO-2 N", "XO-2 S"),
    ],
)
def test_different_stars_stay_different(one, other):
    assert normalise_star_name(one) != normalise_star_name(other)


@pytest.mark.parametrize(
    ("planet", "star"),
    [
        ("Kepler-90 b", "Kepler-90"),
        ("HD 80606b", "HD 80606"),
        ("HD 41004 A b", "HD 41004 A"),
        ("WASP-94Ab", "WASP-94 A".replace(" ", "")),
        ("Kepler-16 (AB) b", "Kepler-16"),
        ("OGLE-2016-BLG-1190L b", "OGLE-2016-BLG-1190L"),
        ("TOI-150.01", "TOI-150"),
        ("GJ 27.1 b", "GJ 27.1"),
        ("bet Pic c", "bet Pic"),
        ("V391 Peg", "V391 Peg"),
    ],
)
def test_planets_name_their_star(planet, star):
    assert star_of_planet(planet) == star


@pytest.mark.parametrize(
    ("organism", "species"),
    [
        ("Escherichia coli (strain K12)", "escherichia coli"),
        ("Escherichia coli O157:H7 str. Sakai", "escherichia coli"),
        ("escherichia_coli_str_k_12_substr_mg1655_gca_000005845", "escherichia coli"),
        ("[Clostridium] scindens ATCC 35704", "clostridium scindens"),
        ("Candidatus Nitrosopumilus maritimus", "nitrosopumilus maritimus"),
        ("Mentha x piperita", "mentha x piperita"),
        ("Vibrio sp. EX25", "vibrio sp. ex25"),
        ("uncultured bacterium", "uncultured bacterium"),
        ("crenarchaeote SCGC AAA261-N23", "crenarchaeote scgc aaa261-n23"),
        ("marine actinobacterium PHSC20C1", "marine actinobacterium phsc20c1"),
        ("Vibrio cf. alginolyticus", "vibrio cf. alginolyticus"),
        ("Human immunodeficiency virus 1", "human immunodeficiency virus 1"),
        ("Influenza A virus (A/Puerto Rico/8/1934(H1N1))", "influenza a virus"),
        ("Canis lupus familiaris", "canis lupus"),
    ],
)
def test_strains_name_their_species(organism, species):
    assert normalise_species(organism) == species


def test_hosts_keep_the_split_that_their_own_name_gives():
    for planet in load_planets():
        for column in ("host_star_name", "hostname"):
            host = parse_identifier(planet.host_star_name, column)
            assert split_of(host.label) == split_of(planet.host_star_name)


def test_labels_are_ordered_by_catalogue():
    cells = [
        ("host_star_name", "Gl 12"),
        ("hostname", "GJ 12"),
        ("kepler_name", "Kepler-90 b"),
        ("kepid", 90),
        ("epic_name", "EPIC 5"),
        ("tid", 7),
        ("gaia_dr3_id", "3"),
        ("HD", "12"),
        ("HIPP", "2"),
        ("TWOMASS", "16573094-0405387"),
    ]
    identifiers = [parse_identifier(cell, column) for column, cell in cells]
    backwards = list(reversed(identifiers))
    assert sorted(backwards, key=lambda identifier: identifier.order) == identifiers
    assert identifiers[0] == identifiers[1]
    assert [identifier.label for identifier in identifiers[:4]] == ["gl 12", "gj 12", "kepler-90", "kic 90"]


def test_lesser_numbers_come_first():
    strain, species = (parse_identifier(taxon, "taxid") for taxon in (511145, 562))
    assert min(strain, species, key=lambda taxon: taxon.order) == species


def test_targets_of_telescopes_tell_of_no_alias():
    assert names_objects("TIC ID")
    assert names_objects("ncbi_species_taxid")
    assert not names_objects("target_name")
    assert not names_objects("koi_period")
