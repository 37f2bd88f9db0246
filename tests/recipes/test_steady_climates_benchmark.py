"""recipes/benchmarks/steady_climates.py on planets that are made up."""

import json
import sys

import pytest
from climate_files import write_planets
from recipe_runs import ROOT, load_script


pytest.importorskip("xarray", reason="the extra climate is not installed")
pytest.importorskip("cf_xarray", reason="the extra climate is not installed")


@pytest.fixture(scope="module")
def benchmark():
    folder = str(ROOT / "recipes" / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield load_script(ROOT / "recipes" / "benchmarks" / "steady_climates.py")
    finally:
        sys.path.remove(folder)
        for name in ("interleaved", "timed_training"):
            sys.modules.pop(name, None)


def test_every_planet_is_held_out_once(benchmark):
    for number in (10, 13, 20):
        folds = benchmark.folds_of(number)
        assert sorted(place for fold in folds for place in fold) == list(range(number))
        assert max(map(len, folds)) - min(map(len, folds)) <= 1


def test_a_run_adds_itself_to_those_on_the_same_planets(benchmark, tmp_path, monkeypatch, capsys):
    folder, out = write_planets(tmp_path / "planets", train=8, validation=1, test=1), tmp_path / "found.json"
    fixed = ["--folder", str(folder), "--states", "4", "--minutes", "0.0001", "--clock", "cpu", "--out", str(out)]
    for seed in ("0", "1"):
        monkeypatch.setattr(sys, "argv", ["steady_climates.py", *fixed, "--seed", seed])
        assert benchmark.main() == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    assert set(found["baselines"]) == {"mean of the planets", "nearest planet", "ridge"}
    assert {"ta", "rst", "mean"} <= set(found["runs"][0]["relative_rmse"]["model"])
    assert set(found["runs"][0]["of_planets"]["ridge"]) == {planet["name"] for planet in found["planets"]}
    assert found["grid"] == [3, 8, 16]
    assert [len(fold["held_out"]) for fold in found["runs"][0]["folds"]] == [2] * 5
    assert all(fold["steps"] >= 1 for fold in found["runs"][0]["folds"])
    # Fluxes are made up, and do not balance.
    assert {planet["label"] for planet in found["planets"]} == {"non-equilibrium"}
    assert all(abs(planet["residual_w_m2"]) > 1 for planet in found["planets"])
    assert all({"flux", "synchronous"} <= set(planet["settings"]) for planet in found["planets"])
    for path in sorted(folder.glob("*.nc"))[:2]:
        path.unlink()
    monkeypatch.setattr(sys, "argv", ["steady_climates.py", *fixed])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--folder must hold at least 10 planets; it has 8" in capsys.readouterr().err
