"""What every archive declares: terms, hosts, schemas, keys, a probe."""

import itertools
from urllib.parse import urlsplit

import astropy.units
import astropy.units.cds
import pytest
from walk_replay import select

from data_scripts.harness.archive import Archive, Request, TableConfig
from data_scripts.harness.errors import BuildError
from data_scripts.harness.pages import page_schema
from data_scripts.registry import ARCHIVES


NAMES = [
    "ensembl_genomes",
    "eso_vlt",
    "exoplanets_org",
    "gemini",
    "gtdb",
    "jwst_mast",
    "keck_koa",
    "kepler_k2",
    "nasa_exoplanet_archive",
    "ncbi_genbank",
    "planet_hunters",
    "subaru_smoka",
    "tess",
    "uniprotkb",
]

# Archives without a recorded answer of their tables.
NOT_VERIFIED = {"keck_koa", "subaru_smoka"}
HUB_LICENSES = {"cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "other"}

# Long walks begin with many requests; these many tell the hosts.
REQUESTS = 200

every_archive = pytest.mark.parametrize("name", NAMES)


def first_requests(archive: Archive, table: TableConfig, **options: str) -> list[Request]:
    """The first requests of a table; none for one that is built only with files or choices of a person."""
    try:
        return list(itertools.islice(table.first(select(archive, table.name, **options)), REQUESTS))
    except BuildError as error:
        if table.default or not any(remedy in str(error) for remedy in ("--from", "--set")):
            raise
        return []


def test_all_sources_are_registered():
    assert sorted(ARCHIVES) == NAMES


@every_archive
def test_terms_are_stated(name):
    archive = ARCHIVES[name]()
    assert archive.name == name
    assert archive.license in HUB_LICENSES
    assert (archive.license == "other") == bool(archive.license_name)
    for address in (archive.license_link, archive.homepage):
        assert urlsplit(address).scheme in {"http", "https"}
        assert urlsplit(address).hostname
    assert len(archive.acknowledgement.split()) > 5
    assert archive.citation.lstrip().startswith("@")
    assert archive.citation.count("{") == archive.citation.count("}")
    assert archive.title.strip()
    assert archive.size.strip()
    assert archive.verified == (name not in NOT_VERIFIED)
    assert set(archive.unverified) <= {table.name for table in archive.tables}


@every_archive
def test_pace_is_finite(name):
    archive = ARCHIVES[name]()
    assert 0 < archive.requests_per_second <= 100
    assert archive.burst >= 1
    assert archive.concurrency >= 1


@every_archive
def test_names_are_unique(name):
    archive = ARCHIVES[name]()
    tables = [table.name for table in archive.tables]
    assert len(set(tables)) == len(tables)
    assert any(table.default for table in archive.tables)
    for table in archive.tables:
        columns = [column.name for column in table.columns]
        assert len(set(columns)) == len(columns), table.name
        identities = [identity.name for identity in table.identities]
        assert len(set(identities)) == len(identities), table.name


@every_archive
def test_columns_are_described_and_have_units(name):
    archive = ARCHIVES[name]()
    for table in archive.tables:
        assert table.description.strip()
        # Refuses names that the harness gives to columns of its own.
        page_schema(table)
        for column in table.columns:
            where = f"{table.name}.{column.name}"
            assert column.description.strip(), where
            if column.unit is not None:
                # Parts per million are a unit of the CDS, which astropy reads but does not enable.
                with astropy.units.add_enabled_units([astropy.units.cds.ppm]):
                    astropy.units.Unit(column.unit)
            if column.minimum is not None and column.maximum is not None:
                assert column.minimum < column.maximum, where


@every_archive
def test_keys_and_objects_are_columns(name):
    archive = ARCHIVES[name]()
    for table in archive.tables:
        columns = {column.name for column in table.columns}
        assert table.key, table.name
        assert table.objects, table.name
        assert {*table.key, *table.objects} <= columns, table.name
        assert any(column.required for column in table.columns), table.name


@every_archive
def test_hosts_cover_the_first_requests(name):
    archive = ARCHIVES[name]()
    assert all(host == host.lower() and "/" not in host and ":" not in host for host in archive.hosts)
    for table in archive.tables:
        requests = first_requests(archive, table)
        assert requests or not table.default, table.name
        for request in requests:
            assert request.stage in table.stages, request.url
            assert urlsplit(request.url).hostname in archive.hosts, request.url
            assert urlsplit(request.url).scheme in {"http", "https"}, request.url
            assert not urlsplit(request.url).query, request.url
        keys = [(request.key, request.stage, request.context) for request in requests]
        assert len(set(keys)) == len(keys), table.name


@every_archive
def test_first_requests_are_the_same_each_time(name):
    archive = ARCHIVES[name]()
    for table in archive.tables:
        assert first_requests(archive, table) == first_requests(archive, table), table.name


@every_archive
def test_the_probe_is_a_question(name):
    archive = ARCHIVES[name]()
    table_name, options = archive.probe
    table = archive.table(table_name)
    assert set(options) <= set(table.options)
    assert first_requests(archive, table, **options)


@every_archive
def test_options_are_described(name):
    for table in ARCHIVES[name]().tables:
        for option in table.options.values():
            assert option.description.strip(), table.name


@every_archive
def test_no_table_recognises_an_error_page(name):
    page = b"<!DOCTYPE html>\n<html><head><title>Error 503</title></head><body>Try again later.</body></html>\n"
    for table in ARCHIVES[name]().tables:
        for head in (page, b"", b"\0" * 64, b'{"error": "unknown"}'):
            assert table.recognise("download", head) is None, table.name


@every_archive
def test_credentials_are_of_the_environment(name):
    for credential in ARCHIVES[name]().credentials:
        assert credential.purpose.strip()
        values = {variable: f"canary of {variable}" for variable in credential.variables}
        asked = credential.login.params(values) if credential.login else {}
        sent = {**credential.headers(values), **credential.params(values), **asked}
        assert sent, credential.variables
        assert all(variable.isupper() for variable in credential.variables)
