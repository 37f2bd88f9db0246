"""A folder holds one run, and a resumed run is the one that the folder holds."""

import re
from pathlib import Path

import pytest
import yaml

from modeling_astrobio.training.errors import RunFolderError
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.recipe import recipe_from_dict
from modeling_astrobio.training.run_folder import RECIPE_NAME, open_run_folder


def recipe(**training) -> dict:
    return recipe_from_dict(LLMRecipe, {"model": {"preset": "tiny"}, "training": training}).to_dict()


def test_new_and_empty_folders_are_claimed(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "run", tmp_path / "empty"):
        open_run_folder(folder, recipe(seed=7), resume=False)
        saved = yaml.safe_load((folder / RECIPE_NAME).read_text(encoding="utf-8"))
        assert saved == recipe(seed=7)
        assert recipe_from_dict(LLMRecipe, saved).to_dict() == recipe(seed=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([RECIPE_NAME], "which holds another run. Pass output_dir=OTHER_FOLDER, or remove it."),
        ([RECIPE_NAME, "checkpoint-3/x"], "which holds another run. Continue it with --resume, pass output_dir="),
        (["thesis.txt"], "which holds other files. Pass output_dir=OTHER_FOLDER, or remove it."),
    ],
)
def test_folders_with_content_are_refused_and_left_alone(tmp_path, content, message):
    for name in content:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before", encoding="utf-8")
    with pytest.raises(RunFolderError, match=re.escape(message)):
        open_run_folder(tmp_path, recipe(), resume=False)
    assert all((tmp_path / name).read_text(encoding="utf-8") == "before" for name in content)


def test_file_in_the_folders_place_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("", encoding="utf-8")
    with pytest.raises(RunFolderError, match="output_dir must be new or empty"):
        open_run_folder(path, recipe(), resume=False)


def test_same_recipe_resumes(tmp_path):
    open_run_folder(tmp_path, recipe(seed=7), resume=False)
    open_run_folder(tmp_path, recipe(seed=7), resume=True)


def test_resuming_may_change_what_changes_no_number(tmp_path):
    open_run_folder(tmp_path, recipe(save_steps=5), resume=False)
    changed = recipe(save_steps=7, save_total_limit=9, logging_steps=3, per_device_eval_batch_size=1)
    open_run_folder(tmp_path, {**changed, "output_dir": "moved"}, resume=True)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"seed": 8}, "training.seed was 7 and is 8"),
        ({"seed": 7, "max_steps": 9}, "training.max_steps was None and is 9"),
        ({"seed": 7, "learning_rate": 1.0}, "training.learning_rate was 0.0003 and is 1.0"),
        ({"seed": 7, "gradient_accumulation_steps": 2}, "training.gradient_accumulation_steps was None and is 2"),
    ],
)
def test_changed_recipe_is_refused_by_name(tmp_path, training, message):
    open_run_folder(tmp_path, recipe(seed=7), resume=False)
    with pytest.raises(RunFolderError, match=re.escape(message)):
        open_run_folder(tmp_path, recipe(**training), resume=True)
    assert yaml.safe_load((tmp_path / RECIPE_NAME).read_text(encoding="utf-8")) == recipe(seed=7)


def test_resuming_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=f"got no {RECIPE_NAME} there. Start without --resume"):
        open_run_folder(Path(tmp_path / "absent"), recipe(), resume=True)


@pytest.mark.parametrize("content", ["", "- a list", "model: [", "just text"])
def test_damaged_recipe_of_a_run_is_refused(tmp_path, content):
    (tmp_path / RECIPE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match=f"{RECIPE_NAME} .*cannot be read"):
        open_run_folder(tmp_path, recipe(), resume=True)


def test_file_that_a_kill_left_half_written_is_no_content(tmp_path):
    (tmp_path / f"{RECIPE_NAME}.partial").write_text("model:", encoding="utf-8")
    open_run_folder(tmp_path, recipe(seed=7), resume=False)
    assert yaml.safe_load((tmp_path / RECIPE_NAME).read_text(encoding="utf-8")) == recipe(seed=7)
