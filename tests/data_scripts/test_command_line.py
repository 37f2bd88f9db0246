"""The command line: which archives it knows, and what it refuses."""

import re
import subprocess
import sys

import pytest

from data_scripts.__main__ import main
from data_scripts.build_command import pairs
from data_scripts.harness.archive import Archive
from data_scripts.harness.errors import BuildError
from data_scripts.registry import ARCHIVES, BUILDERS, archive_named, builder_named


SOURCES = [
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


def test_the_fourteen_archives():
    assert sorted(ARCHIVES) == SOURCES
    assert not set(ARCHIVES) & set(BUILDERS)


@pytest.mark.parametrize("name", SOURCES)
def test_an_archive_is_declared_in_full(name):
    archive = archive_named(name)
    assert isinstance(archive, Archive)
    assert archive.name == name
    assert archive.hosts
    assert archive.requests_per_second > 0
    assert archive.license != "other" or (archive.license_name and archive.license_link)
    assert any(table.default for table in archive.tables)
    assert len({table.name for table in archive.tables}) == len(archive.tables)
    probed, chosen = archive.probe
    assert set(chosen) <= set(archive.table(probed).options)
    for table in archive.tables:
        columns = {column.name for column in table.columns}
        assert len(columns) == len(table.columns)
        assert table.key
        assert table.objects
        assert set(table.key) | set(table.objects) <= columns
        assert any(stage.rows is not None for stage in table.stages.values())
        assert re.fullmatch(r"\w+", table.name), "the name is part of paths and patterns"
        assert table.name not in {"rejected", "quality"}, "the folder has these beside its tables"


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_data_set_made_here_is_declared_in_full(name):
    pytest.importorskip("rdkit", reason="rdkit is not installed; the extra chem brings it")
    builder = builder_named(name)
    assert builder.card.name == name
    assert builder.card.summary
    assert name.startswith("embedded_") == (not builder.sources)


def test_list_says_what_each_archive_is(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in SOURCES:
        archive = archive_named(name)
        [part] = re.findall(rf"^{name}: (.*\n(?:  .*\n)+)", listed, re.M)
        assert archive.title in part
        assert archive.size in part
        assert archive.license_link in part
        assert archive.license_note in part
        for table in archive.tables:
            assert table.name in part
        for credential in archive.credentials:
            assert all(variable in part for variable in credential.variables)
        if not archive.verified:
            assert "documented, not verified against a recorded answer" in part


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "moons"], "name must be one of .*embedded_planets.*tess.*; got 'moons'"),
        (["build", "exoplanets_org", "--seed", "3"], "exoplanets_org has no use for --seed"),
        (["build", "exoplanets_org", "--from-folder", "a=b"], "exoplanets_org has no use for --from-folder"),
        (
            ["build", "embedded_planets", "--limit", "3", "--from", "x"],
            "embedded_planets has no use for --from, --limit",
        ),
        (["build", "embedded_planets", "--from-folder", "a=b"], "embedded_planets has no use for --from-folder"),
        (["build", "object_identity"], "--from-folder must name folders of nasa_exoplanet_archive.*; got none"),
        (["build", "climate_cubes", "--from-folder", "a=b"], "--from-folder must name folders of cubes .*; got a"),
        (["build", "exoplanets_org", "--set", "colour"], "--set must be NAME=VALUE, each name once; got 'colour'"),
        (["build", "exoplanets_org", "--config", "moons"], "config must be one of planets for exoplanets_org"),
        (["build", "exoplanets_org", "--offline"], "the snapshot has no answer. Build once without --offline"),
    ],
)
def test_what_cannot_be_built_is_refused(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("ASTROBIO_STORE", str(tmp_path / "store"))
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert re.search(f"error: .*{message}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "tomorrow"], "argument --since: it must be a day such as 2024-02-29; got 'tomorrow'"),
        (["--since", "2023-02-29"], "argument --since: it must be a day .*; got '2023-02-29'"),
        (["--engine", "abacus"], "argument --engine: invalid choice: 'abacus'"),
        (["--limit", "few"], "argument --limit: invalid int value: 'few'"),
    ],
)
def test_values_that_are_none_are_refused(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(["build", "exoplanets_org", "--out", str(tmp_path / "out"), *arguments])
    assert re.search(message, capsys.readouterr().err)


def test_pairs():
    assert pairs(["a=b=c", "d="], "--set") == {"a": "b=c", "d": ""}
    for texts in (["a"], ["=b"], ["a=1", "a=2"]):
        with pytest.raises(BuildError, match="--set must be NAME=VALUE"):
            pairs(texts, "--set")


def test_check_of_an_unknown_archive(capsys):
    assert main(["check", "moons"]) == 2
    assert "got 'moons'" in capsys.readouterr().err


def test_without_the_extra_the_data_sets_made_here_are_still_built(tmp_path):
    """Python refuses to import a module that is None in sys.modules, as if it were absent."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('astropy', 'pyvo', 'Bio'))); "
        "from data_scripts.__main__ import main; "
        f"sys.exit(main(['list']) or main(['build', 'embedded_planets', '--out', {str(tmp_path / 'out')!r}]) "
        f"or main(['build', 'tess', '--out', {str(tmp_path / 'tess')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "out" / "README.md").exists()
    assert "tess: tess needs the package astropy" in done.stdout
    assert "Install modeling_astrobio[archives]" in done.stderr
