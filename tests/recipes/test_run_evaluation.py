"""recipes/run_evaluation.py: the figures of the run that trained the model, and what it says to each mistake."""

import json
import re
import shutil

import pytest
import yaml
from recipe_runs import ROOT, load_script, small_arguments, train_llm
from training_builders import mixed_rows, write_data_folder


run_evaluation = load_script(ROOT / "recipes" / "run_evaluation.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation")


def train(folder, name: str, *arguments: str):
    out = folder / name
    settings = ["evaluation.max_questions=3", "evaluation.max_new_tokens=3", "training.max_steps=4"]
    assert train_llm.main([*small_arguments(folder), *settings, *arguments, f"output_dir={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def run_dir(folder):
    return train(folder, "run")


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def assert_same_figures(run_dir, evaluation: dict) -> None:
    result = read(run_dir / "result.json")
    for section in ("model", "data", "evaluation", "samples", "versions"):
        assert evaluation[section] == result[section]


def test_figures_and_card_are_those_of_the_run(run_dir, tmp_path, capsys):
    model, out = run_dir / "model", tmp_path / "figures" / "evaluation.json"
    card = (model / "README.md").read_bytes()
    (model / "README.md").unlink()
    arguments = [str(model), "--out", str(out), "--card"]
    assert run_evaluation.main(arguments) == 0
    evaluation = read(out)
    assert_same_figures(run_dir, evaluation)
    assert evaluation["status"] == "finished"
    assert evaluation["command"] == f"python recipes/run_evaluation.py {' '.join(arguments)}"
    assert evaluation["hardware"]["torch_threads"] == 1
    assert evaluation["evaluation"]["rows"] == 9
    assert (model / "README.md").read_bytes() == card
    said = capsys.readouterr().out
    perplexity = evaluation["evaluation"]["models"]["trained"]["documents"]["perplexity"]
    assert f"trained                    perplexity {perplexity:.2f}, answers right" in said
    assert str(out) in said


@pytest.mark.parametrize("change", ["training.bf16=true", "model.dtype=bfloat16"])
def test_figures_of_a_run_in_bfloat16(folder, change):
    run_dir = train(folder, change.replace("=", "_"), change)
    assert run_evaluation.main([str(run_dir / "model")]) == 0
    assert_same_figures(run_dir, read(run_dir / "evaluation.json"))


def test_figures_of_an_adapter(folder, run_dir):
    recipe = folder / "adapter.yaml"
    values = {
        "model": {"checkpoint": str(run_dir / "model")},
        "adapter": {"r": 3},
        "data": {"dataset_name": str(folder / "data"), "sequence_length": 64},
        "evaluation": {"max_questions": 2, "max_new_tokens": 3},
        "training": {"max_steps": 4, "learning_rate": 0.05},
    }
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    out = folder / "adapter"
    assert train_llm.main([str(recipe), "device=cpu", "cpu_threads=1", f"output_dir={out}"]) == 0
    # Named, and not found beside the model.
    arguments = [str(out / "model"), "device=cpu", "cpu_threads=1", "--recipe", str(recipe)]
    assert run_evaluation.main(arguments) == 0
    evaluation = read(out / "evaluation.json")
    assert_same_figures(out, evaluation)
    models = evaluation["evaluation"]["models"]
    assert models["trained"]["documents"] != models["untrained"]["documents"]


def test_overrides_choose_other_rows(run_dir, tmp_path):
    card = tmp_path / "card.md"
    arguments = [str(run_dir / "model"), "data.max_rows=5", "--card", str(card), "evaluation.max_questions=0"]
    assert run_evaluation.main([*arguments, "--out", str(tmp_path / "few.json")]) == 0
    evaluation = read(tmp_path / "few.json")["evaluation"]
    assert evaluation["rows"] == 5
    assert "answers" not in evaluation["models"]["trained"]
    text = card.read_text(encoding="utf-8")
    assert "On 5 rows of the held-out `test` split" in text
    assert "trained for 4 steps" in text


def test_an_override_may_stand_behind_the_card():
    parsed = run_evaluation.parse_arguments(["model", "--card", "data.max_rows=5"])
    assert (parsed.card, parsed.overrides) == ("", ["data.max_rows=5"])


def refused(arguments: list[str], message: str, capfd) -> None:
    capfd.readouterr()
    assert run_evaluation.main(arguments) == 2
    said = capfd.readouterr()
    (line,) = (line for line in said.err.splitlines() if line.startswith("error:"))
    assert re.search(message, line), line
    assert "Traceback" not in said.err + said.out


def test_mistakes_end_in_one_clear_line(run_dir, folder, tmp_path, capfd):
    model = str(run_dir / "model")
    refused([str(tmp_path / "absent")], "MODEL_FOLDER must be the folder of a saved model; got .*absent", capfd)
    refused([str(run_dir)], r"must have a config.json or adapter_config.json; got .*which has neither", capfd)
    refused([model, "data.test_split=exam"], r"data.test_split must be one of .*; got 'exam'", capfd)
    refused([model, "evaluation.max_question=1"], "unknown recipe key .* Did you mean 'max_questions'", capfd)
    data = write_data_folder(tmp_path / "data", train=mixed_rows(7))
    refused([model, f"data.dataset_name={data}"], "must have the split 'test' or 'validation' to evaluate on", capfd)
    refused([model, "adapter.r=2", "--recipe", "no-such"], "recipe must be a YAML file or one of", capfd)
    assert not (run_dir / "evaluation.json").exists()


def test_a_model_that_no_run_has_saved(run_dir, tmp_path, capfd):
    alone = shutil.copytree(run_dir / "model", tmp_path / "model")
    refused([str(alone)], r"--recipe must be given where no recipe.yaml lies beside MODEL_FOLDER", capfd)
    recipe = str(run_dir / "recipe.yaml")
    refused([str(alone), "--recipe", recipe, "--card"], "--card needs the result.json of a finished run", capfd)
    weights = alone / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused([str(alone), "--recipe", recipe], "cannot be loaded: SafetensorError", capfd)
    weights.unlink()
    refused([str(alone), "--recipe", recipe], "cannot be loaded: OSError", capfd)
    (alone / "tokenizer.json").unlink()
    (alone / "tokenizer_config.json").unlink()
    refused([str(alone), "--recipe", recipe], "no tokenizer can be loaded from", capfd)


def test_an_adapter_needs_its_recipe(run_dir, tmp_path, capfd):
    adapter = shutil.copytree(run_dir / "model", tmp_path / "model")
    (adapter / "config.json").rename(adapter / "adapter_config.json")
    recipe = ["--recipe", str(run_dir / "recipe.yaml")]
    refused([str(adapter), *recipe], "adapter.r must be above 0 for the adapter in .*; got 0", capfd)
    refused([str(adapter), *recipe, "adapter.r=2"], "the adapter in .* cannot be loaded", capfd)
