"""Two processes that share a model: token accuracy, sizes of each one's part, and alerts by the worst of both."""

import pytest
from process_launcher import run_two_processes


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes under torchrun found."""
    pytest.importorskip("torchao", reason="torchao is not installed: pip install torchao")
    folder = tmp_path_factory.mktemp("monitored")
    return run_two_processes("monitoring_worker.py", folder, "fsdp2_accuracy", "fsdp2_memory")


def test_two_processes_ran(found):
    assert found["world_size"] == 2
    assert found["backend"] == "gloo"


@pytest.mark.parametrize("name", ["plain", "tied"])
def test_accuracy_of_a_sharded_model(found, name):
    run = found["fsdp2_accuracy"][name]
    assert run["dtensors"]
    assert 0.3 < run["expected"] < 0.8
    # float64, and sums in the same order.
    assert run["accuracy"] == run["expected"]
    assert run["losses_equal"] == [True, True]
    assert run["gradients"] == [True, True]


def test_each_process_counts_its_part(found):
    run = found["fsdp2_memory"]
    assert max(run["parameters"]) < 0.52 * run["whole"]
    assert sum(run["parameters"]) >= run["whole"]
    # Averages of 8 bits, but for those of the embedding.
    assert run["optimizer"] == run["states"]
    assert max(run["optimizer"]) < max(run["parameters"])
    for sizes, parameters in zip(run["sizes"], run["parameters"], strict=True):
        assert sizes["parameters"] == parameters
        assert sizes["gradients"] == pytest.approx(parameters, rel=0.02)
    assert [sizes["optimizer"] for sizes in run["sizes"]] == run["optimizer"]
    # Freed after the step.
    assert run["gradients"] == [0, 0]


def test_the_main_process_tells_of_the_others_memory(found):
    run = found["fsdp2_memory"]
    kinds = [alert["kind"] for alert in run["alerts"]]
    assert kinds.count("memory_over_plan") == 1
    # Its own peak is no part of that.
    limit = 2**28 / run["gib"]
    assert max(row.get("memory_peak_gib", 0.0) for row in run["rows"]) < limit


def test_accuracy_under_zero3(tmp_path):
    pytest.importorskip("deepspeed", reason="deepspeed is not installed: pip install deepspeed")
    run = run_two_processes("monitoring_worker.py", tmp_path, "zero3_accuracy")["zero3_accuracy"]
    assert 0.3 < run["expected"] < 0.8
    assert run["accuracy"] == run["expected"]
    assert sum(run["parameters"]) >= run["whole"]
    assert max(run["parameters"]) < 0.6 * run["whole"]
    # DeepSpeed keeps these where nobody finds them.
    assert run["unknown"] == [None, None]
    logged = {name for row in run["rows"] if "loss" in row for name in row if name.startswith("memory_")}
    assert logged == {"memory_parameters_gib", "memory_peak_gib"}
