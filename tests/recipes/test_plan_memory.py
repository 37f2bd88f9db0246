"""recipes/plan_memory.py: what it prints, writes and refuses."""

import json
import re

import pytest
from recipe_runs import ROOT, load_script


plan_memory = load_script(ROOT / "recipes" / "plan_memory.py")
GPU = ["--gpus", "1", "--gpu", "A100 80GB SXM", "--ram", "64", "--disk", "100"]


def test_a_step_that_fits(capsys):
    assert plan_memory.main(["tiny", *GPU]) == 0
    said = capsys.readouterr().out
    for part in ("parameters", "gradients", "optimizer", "reserved, about", "host memory", "disk", "tokens/s"):
        assert part in said
    assert "time, estimated and not measured" in said
    assert said.rstrip().endswith("fits")


def test_a_step_that_does_not_fit_names_the_smallest_change(capsys):
    # A vocabulary of 10^9: 96 billion parameters.
    assert plan_memory.main(["tiny", *GPU, "model.config.vocab_size=1000000000"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"does not fit: memory of each GPU must be at least \d+\.\d GiB; got 78\.6 GiB", said)
    assert re.search("the smallest change that fits: |no change tried fits", said)


def test_a_strategy_that_cannot_work_says_why(capsys):
    arguments = ["tiny", "--gpus", "2", "--vram", "24", "strategy.sharding=fsdp2", "strategy.optimizer=adamw_bnb_8bit"]
    assert plan_memory.main(arguments) == 1
    said = capsys.readouterr().out
    assert "cannot work:\n  bitsandbytes_with_fsdp2: " in said
    assert "Set strategy.optimizer=adamw_torchao_8bit" in said


def test_all_strategies_as_table_json_and_picture(tmp_path, capsys):
    out = tmp_path / "plan"
    small = ["model.config.num_hidden_layers=1", "data.sequence_length=16"]
    arguments = ["tiny", *small, "--gpus", "2", "--gpu", "RTX A6000", "--all", "--out", str(out)]
    assert plan_memory.main(arguments) == 0
    said = capsys.readouterr().out
    names = {file.stem for file in (ROOT / "recipes" / "strategies").glob("*.yaml")}
    assert {name for name in names if f"| {name}, " in said} == names
    assert (out / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "plan.md").read_text(encoding="utf-8").strip() == said.strip()
    rows = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert len(rows) == 1 + 4 * len(names)
    planned = [row for row in rows[1:] if "device" in row]
    assert all(sum(row["device"].values()) == row["device_bytes"] for row in planned)
    speeds = [row["time"]["items_per_second"] for row in planned if not row["shortfalls"]]
    assert speeds == sorted(speeds, reverse=True)
    assert all(row["time"]["measured"] is False for row in planned)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny"], "gpus must be given"),
        (["tiny", "--gpus", "1"], "vram or gpu must be given"),
        (["tiny", "--gpu", "a6001"], "gpu must be a known GPU; got 'a6001'. Did you mean"),
        (["tiny", "--vram", "-48"], "vram must be a number from 1 to 1024 GB; got '-48'"),
        (["tiny", "--vram", "nan"], "vram must be a number"),
        (["tiny", "--vram", "48000"], "vram must be a number from 1 to 1024 GB"),
        (["tiny", "--gpus", "-2", "--vram", "48"], "gpus must be a number from 0"),
        (["tiny", "--gpus", "1.5", "--vram", "48"], "gpus must be a whole number"),
        (["tiny", "--gpus", "0"], "ram must be given where gpus=0"),
        (["tiny", "--vram", "48", "--ram", "0"], "ram must be a number from 1"),
        (["tiny", "--vram", "48", "--disk", "-1"], "disk must be a number from 1"),
        (["tiny", "--vram", "48", "--days", "0"], "--days must be above 0"),
        (["tiny", "--vram", "48", "--strategy", "best"], "strategy must be a YAML file or one of"),
        (["huge", "--vram", "48"], "recipe must be a YAML file or one of"),
        (["tiny", "--vram", "48", "--preset", "huge"], "preset must be one of"),
        (["tiny", "--vram", "48", "data.sequence_lenght=8"], "Did you mean 'sequence_length'"),
        (["tiny", "--vram", "48", "model.attn_implementation=flash"], "model.attn_implementation='flash' cannot be"),
    ],
)
def test_wrong_input_ends_in_one_clear_line(arguments, message, capsys):
    assert plan_memory.main(arguments) == 2
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if line.startswith("error:"))
    assert message in line
    assert "Traceback" not in said


def test_a_recipe_of_absent_weights_is_planned_by_a_preset(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "open.yaml"
    recipe.write_text("model: {checkpoint: weights/open}\ndata: {sequence_length: 64}\n", encoding="utf-8")
    assert plan_memory.main([str(recipe), "--vram", "24"]) == 2
    assert "to plan without it, name a preset" in capsys.readouterr().err
    assert plan_memory.main([str(recipe), "--vram", "24", "--preset", "tiny"]) == 0
