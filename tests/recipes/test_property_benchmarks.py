"""The benchmarks of intervals and of few-shot prediction on a small list of molecules, and how it is read."""

import gzip
import json
import sys

import pytest

from data_scripts.chemistry.molecule_enumeration import enumerate_molecules
from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig


@pytest.fixture
def results(request, monkeypatch, tmp_path):
    """Where the benchmarks write; their folder can be imported from."""
    monkeypatch.syspath_prepend(str(request.config.rootpath / "recipes" / "benchmarks"))
    import interleaved

    monkeypatch.setattr(interleaved, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(scope="module")
def smiles_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("molecules") / "enumerated.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(enumerate_molecules(5)))
    return path


def run(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, arguments)])
    assert script.main() == 0


@pytest.mark.usefixtures("results")
def test_stereoisomers_are_one_molecule_and_unreadable_ones_are_counted(tmp_path):
    from molecule_inputs import read_molecules

    path, config = tmp_path / "list.smi", AstroGraphVAEConfig.from_preset("tiny")
    path.write_text("C[C@H](N)O first\nC[C@@H](N)O\nNC(C)O\nCCO\n\nC.C\n[Fe]\nC1CC\n" + "C" * 14 + "\n")
    found = read_molecules(path, 2, config, seed=0)
    assert sorted(found.smiles) == ["CC(N)O", "CCO"]
    assert sorted(graph.size for graph in found.graphs) == [3, 4]
    with pytest.raises(SystemExit, match=r"list.smi must have 3 molecules that the model can read; it has 2"):
        read_molecules(path, 3, config, seed=0)


def test_intervals_of_two_members_end_in_one_file(monkeypatch, results, smiles_file):
    import property_intervals

    run(
        monkeypatch, property_intervals, "--smiles", smiles_file, "--preset", "tiny", "--train", 60,
        "--calibration", 50, "--test", 40, "--scaffold-test", 30, "--members", 2, "--epochs", 1,
    )  # fmt: skip
    found = json.loads((results / "property_intervals.json").read_text())
    assert found["status"] == "finished"
    assert found["data"]["calibration"] == 50
    assert [member["seed"] for member in found["members"]] == [0, 1]
    for judged in (*found["members"], found["ensemble"]):
        assert set(judged["quantiles"]) == set(judged["test"]) == set(property_intervals.PROPERTIES)
        assert {row["count"] for row in judged["test"].values()} == {40}
        assert min(row["count"] for row in judged["scaffold_test"].values()) >= 30
        assert all(0 <= row["conformal_coverage"] <= 1 for row in judged["scaffold_test"].values())
    assert found["members"][0]["test"] != found["members"][1]["test"]


@pytest.mark.slow
def test_few_shot_methods_end_in_one_file(monkeypatch, results, smiles_file):
    import few_shot

    monkeypatch.setattr(few_shot, "SUPPORT_SIZES", (16, 32))
    run(
        monkeypatch, few_shot, "--smiles", smiles_file, "--preset", "tiny", "--train", 200, "--test", 100,
        "--encoder-epochs", 1, "--adapter-steps", 2, "--draws", 2, "--query", 30,
    )  # fmt: skip
    found = json.loads((results / "few_shot.json").read_text())
    methods = {"adapter", "adapter_without_inner_loop", "ridge_embedding", "forest_morgan"}
    assert set(found["summary"]["r2"]) == {"16", "32"}
    assert set(found["summary"]["r2"]["16"]) == methods
    assert set(found["summary"]["coverage_90"]["16"]) == {"adapter", "adapter_without_inner_loop"}
    assert len(found["runs"]) == 2 * 2 * len(methods) * len(found["families"]["test"])
    assert set(found["nearest_training_property"]) == set(found["families"]["test"])
    assert not set(found["families"]["test"]) & set(found["families"]["train"])
