"""The preflight finds twelve defects that scripts, recipes and machines were given, and passes a healthy recipe."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace

import pytest
import yaml
from recipe_runs import ROOT, SCRIPT, load_script, small_arguments

from modeling_astrobio.training.preflight.child_runs import RunRecord
from modeling_astrobio.training.preflight.context import Context, child_overrides, ends_epoch
from modeling_astrobio.training.preflight.credentials import check_recipe_for_secrets
from modeling_astrobio.training.preflight.learning import judge_learning
from modeling_astrobio.training.preflight.outcome import FAIL, NOT_TESTED, PASS
from modeling_astrobio.training.preflight.probe import Probe
from modeling_astrobio.training.preflight.resume import compare_runs
from modeling_astrobio.training.preflight.source import Source
from modeling_astrobio.training.preflight.trackers import check_reachable
from modeling_astrobio.training.preflight.whole_run import check_disk, check_time


preflight = load_script(ROOT / "recipes" / "preflight.py")

# A script that changes one thing of recipes/train_llm.py: in the trainer, or in the trainer as it is built.
TEMPLATE = """
import importlib.util, os, sys, time
from dataclasses import replace
from pathlib import Path

import torch

spec = importlib.util.spec_from_file_location("train_llm", {script!r})
train_llm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train_llm)


class ChangedTrainer(train_llm.AstroTrainer):
    {trainer}


class ChangedTask(train_llm.LLMTask):
    def build_trainer(self, arguments):
        trainer = super().build_trainer(arguments)
        model = trainer.model
        {built}
        return trainer

    {task}


train_llm.AstroTrainer = ChangedTrainer


def main(arguments=None):
    return train_llm.run_recipe(ChangedTask, Path(__file__), None, arguments)


if __name__ == "__main__":
    sys.exit(main())
"""


def indented(text: str, spaces: int) -> str:
    return text.strip().replace("\n", "\n" + " " * spaces) or "pass"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("preflight")


@pytest.fixture(scope="module")
def arguments(folder):
    """Every token is learned, so that no micro-batch is without one."""
    return [*small_arguments(folder), "data.learn_prompts=true"]


@pytest.fixture
def script(tmp_path):
    """Writes a changed script and returns its path."""

    def write(trainer: str = "", built: str = "", task: str = ""):
        path = tmp_path / "changed.py"
        parts = {"trainer": indented(trainer, 4), "built": indented(built, 8), "task": indented(task, 4)}
        path.write_text(TEMPLATE.format(script=str(SCRIPT), **parts), encoding="utf-8")
        return path

    return write


def probe(tmp_path, arguments, *names, script=SCRIPT):
    """Outcomes of the checks that need the trainer, made in this process."""
    found = {}

    def note(name, outcome):
        if outcome is not None:
            found[name] = outcome

    source = Source(str(script), arguments[0], tuple(arguments[1:]))
    Probe(source, tmp_path / "probe", names, note).run()
    return found


def train(tmp_path, arguments, name, *more, script=SCRIPT, steps=20, middle=None) -> RunRecord:
    """A run of some steps in this process, as a child run is made."""
    task = Source(str(script), arguments[0], tuple(arguments[1:])).load()
    out = tmp_path / name
    overrides = [*arguments, *child_overrides(task.recipe, steps, middle or steps // 2), f"output_dir={out}"]
    status = load_script(script).main([*overrides, *more])
    return RunRecord(out, status, tmp_path / f"{name}.log", dict(os.environ))


def context_of(tmp_path, arguments, **kwargs) -> Context:
    return Context(Source(str(SCRIPT), arguments[0], tuple(arguments[1:])), tmp_path / "out", steps=20, **kwargs)


@pytest.fixture(scope="module")
def reference(folder, arguments):
    """A healthy run of 20 steps."""
    return train(folder, arguments, "reference")


def test_healthy_recipe_passes_all_checks_of_its_trainer(tmp_path, arguments):
    names = (
        "environment.bitsandbytes",
        "environment.torchao",
        "memory.plan",
        "environment.ram",
        "data.opens",
        "data.splits",
        "data.throughput",
        "model.builds",
        "model.vocabulary",
        "model.causality",
        "model.labels",
        "memory.measured",
        "optimizer.state",
        "resume.random_state",
        "accumulation.equality",
    )
    found = probe(tmp_path, arguments, *names)
    # The small data set has a conversation or two in both of its splits.
    assert {name for name, outcome in found.items() if outcome.status != PASS} <= {"data.splits"}, found
    assert set(found) == set(names)
    assert found["optimizer.state"].evidence["measured_bytes"] > 100_000
    assert len(found["model.causality"].evidence["leaks"]) == 6
    assert found["accumulation.equality"].evidence["worst_loss"] < 1e-5


def test_defect_wrong_data_column(tmp_path, arguments):
    found = probe(tmp_path, [*arguments, "data.text_column=abstract"], "data.opens", "model.builds", "memory.measured")
    assert found["data.opens"].status == FAIL
    assert "data.text_column" in found["data.opens"].text
    assert "abstract" in found["data.opens"].text
    # What stands on it was not run, and does not pass.
    assert {found[name].status for name in ("model.builds", "memory.measured")} == {NOT_TESTED}
    assert "it needs what failed before" in found["model.builds"].text


def test_defect_rows_of_train_in_validation(tmp_path, arguments, folder):
    copied = tmp_path / "data"
    shutil.copytree(folder / "data", copied)
    lines = (copied / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    with (copied / "validation.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(lines[20:23])
    found = probe(tmp_path, [*arguments, f"data.dataset_name={copied}"], "data.splits")["data.splits"]
    assert found.status == FAIL
    assert found.evidence["shared"]["validation"] >= 3
    assert "of train, which is row" in found.text


def test_defect_too_little_disk(tmp_path, arguments, reference):
    context = context_of(tmp_path, arguments)
    context.__dict__["reference"] = reference
    assert check_disk(context).status == PASS
    size = check_disk(context).evidence["checkpoint_bytes"]
    free = shutil.disk_usage(tmp_path).free
    many = ["training.max_steps=2000000000", "training.save_steps=1", f"training.save_total_limit={free // size + 1}"]
    context = context_of(tmp_path, [*arguments, *many])
    context.__dict__["reference"] = reference
    found = check_disk(context)
    assert found.status == FAIL
    assert found.evidence["needed_bytes"] > found.evidence["free_bytes"]
    assert "Set training.save_total_limit" in found.text
    # No limit keeps all; those that a short run never writes need no room.
    for limit in ("null", "0"):
        context = context_of(tmp_path, [*arguments, "training.save_steps=1", f"training.save_total_limit={limit}"])
        context.__dict__["reference"] = reference
        assert check_disk(context).evidence["checkpoints_at_one_time"] == 6 + 1


def test_defect_optimizer_in_32_bits_where_8_were_asked_for(tmp_path, arguments, script):
    wrong = script(
        trainer="""
def __init__(self, *args, strategy, **kwargs):
    super().__init__(*args, strategy=replace(strategy, optimizer="adamw"), **kwargs)
"""
    )
    chosen = [*arguments, "strategy.optimizer=adamw_bnb_8bit"]
    found = probe(tmp_path, chosen, "optimizer.state", script=wrong)["optimizer.state"]
    assert found.status == FAIL
    assert "strategy.optimizer=adamw_bnb_8bit" in found.text
    assert found.evidence["class"] == "AdamW"
    assert found.evidence["measured_bytes"] > 1.2 * found.evidence["planned_bytes"]
    assert "uint8" in found.evidence["planned_dtypes"]
    assert found.evidence["measured_values_by_dtype"].keys() == {"float32"}


def test_defect_optimizer_table_that_makes_plain_adamw(tmp_path, arguments, monkeypatch):
    """Plan and optimizer come from one table, so that they agree."""
    from modeling_astrobio.training import optimizers
    from modeling_astrobio.training.optimizer_specs import OPTIMIZERS

    plain = optimizers._build
    monkeypatch.setitem(OPTIMIZERS, "adamw_bnb_8bit", OPTIMIZERS["adamw"])
    monkeypatch.setattr(
        optimizers, "_build", lambda strategy, *rest: plain(replace(strategy, optimizer="adamw"), *rest)
    )
    found = probe(tmp_path, [*arguments, "strategy.optimizer=adamw_bnb_8bit"], "optimizer.state")["optimizer.state"]
    assert found.status == FAIL
    assert "nothing is kept in 8 bits" in found.text
    assert found.evidence["measured_bytes"] == found.evidence["planned_bytes"]


def test_defect_optimizer_replaced_by_the_launch(tmp_path, arguments, monkeypatch):
    from modeling_astrobio.training.preflight import building

    monkeypatch.setattr(building, "resolve_strategy", lambda strategy, _: replace(strategy, optimizer="lion"))
    found = probe(tmp_path, arguments, "optimizer.state")["optimizer.state"]
    assert found.status == FAIL
    assert "strategy.optimizer=adamw keeps" in found.text
    assert "lion was planned or trained with" in found.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw_torchao_8bit", "paged_adamw_bnb_8bit", "lion_bnb_8bit", "sophia"])
def test_optimizers_as_asked_for_pass(tmp_path, arguments, name):
    found = probe(tmp_path, [*arguments, f"strategy.optimizer={name}"], "optimizer.state")["optimizer.state"]
    assert found.status == PASS, found.text


def test_defect_nan_at_step_40(tmp_path, arguments, script):
    wrong = script(
        trainer="""
def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
    loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
    return loss * float("nan") if model.training and self.state.global_step == 39 else loss
"""
    )
    run = train(tmp_path, arguments, "nan", script=wrong, steps=50)
    found = judge_learning(run, 50)
    assert found.status == FAIL
    assert "step 40" in found.text
    assert "nan" in found.text


def test_learning_is_judged_by_the_whole_run(tmp_path, arguments, reference):
    assert judge_learning(reference, 20).status == PASS
    assert "of 22 steps 20 were made" in judge_learning(reference, 22).text
    stopped = RunRecord(reference.folder, 1, reference.log, {})
    assert "the run ended with status 1 after step 20" in judge_learning(stopped, 20).text
    still = train(tmp_path, [*arguments, "training.learning_rate=0.0"], "still")
    found = judge_learning(still, 20)
    # With a rate of 0 the loss is noise of the batches: a median may fall by chance, but not to what learning reaches.
    learned = judge_learning(reference, 20).evidence["median_last_fifth"]
    assert found.evidence["median_last_fifth"] > learned + 0.1


def test_steps_with_nothing_to_learn_are_counted(tmp_path, reference):
    """They are passed over, and leave no row in the log."""
    run = tmp_path / "run"
    shutil.copytree(reference.folder, run)
    state = run / "checkpoint-20" / "trainer_state.json"
    whole = json.loads(state.read_text(encoding="utf-8"))
    manifest = run / "checkpoint-20" / "manifest.json"
    for idle, status in ((4, PASS), (6, FAIL)):
        rows = [row for row in whole["log_history"] if not ("loss" in row and 3 <= row["step"] < 3 + idle)]
        state.write_text(json.dumps({**whole, "log_history": rows}), encoding="utf-8")
        files = json.loads(manifest.read_text(encoding="utf-8"))
        digest = hashlib.sha256(state.read_bytes()).hexdigest()
        files["files"]["trainer_state.json"] = {"bytes": state.stat().st_size, "sha256": digest}
        manifest.write_text(json.dumps(files), encoding="utf-8")
        found = judge_learning(RunRecord(run, 0, reference.log, {}), 20)
        assert found.status == status, found.text
        assert f"{idle} " in found.text
        assert "steps had nothing to learn" in found.text


BROKEN_RESUMES = {
    "healthy": ("", None),
    "optimizer": (
        """
def _load_optimizer_and_scheduler(self, checkpoint):
    super()._load_optimizer_and_scheduler(checkpoint)
    if checkpoint is not None:
        self.optimizer.optimizer.state.clear()
""",
        # Adam's first step without its averages is a step of the learning rate in every weight.
        "step 12",
    ),
    "schedule": (
        """
def _load_optimizer_and_scheduler(self, checkpoint):
    super()._load_optimizer_and_scheduler(checkpoint)
    if checkpoint is not None:
        self.lr_scheduler.last_epoch = 0
""",
        "learning_rate of step 1",
    ),
    "data order": (
        """
def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if any(word == "--resume" for word in sys.argv):
        self.args.ignore_data_skip = True
""",
        "of step 11",
    ),
}


@pytest.mark.parametrize("name", BROKEN_RESUMES)
def test_defect_broken_resume(tmp_path, arguments, script, reference, name, monkeypatch):
    """What a kill after step 10 leaves: the checkpoint and the recipe."""
    body, where = BROKEN_RESUMES[name]
    killed = tmp_path / "resumed"
    killed.mkdir()
    shutil.copytree(reference.folder / "checkpoint-10", killed / "checkpoint-10")
    recipe = yaml.safe_load((reference.folder / "recipe.yaml").read_text(encoding="utf-8"))
    (killed / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "output_dir": str(killed)}), encoding="utf-8")
    shutil.copytree(reference.folder / "tokenizer", killed / "tokenizer")
    monkeypatch.setattr(sys, "argv", ["changed.py", "--resume"])
    run = train(tmp_path, arguments, "resumed", "--resume", "auto", script=script(trainer=body))
    assert run.status == 0
    found = compare_runs(reference, run, exact=True)
    if where is None:
        assert found.status == PASS, found.text
        assert found.evidence["rows"] == 22
    else:
        assert found.status == FAIL
        assert where in found.text


def test_reference_saves_in_the_middle_of_an_epoch(tmp_path, arguments, folder):
    """15 rows are an epoch of 5 steps, at whose ends a wrong place in the data is not seen."""
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(sorted(lines, key=len)[:15]), encoding="utf-8")

    def trained(middle):
        chosen = [*arguments, f"data.dataset_name={data}", "data.pack=false", "data.sequence_length=128"]
        return train(tmp_path / str(middle), chosen, "reference", steps=10, middle=middle)

    assert ends_epoch(trained(5).folder / "checkpoint-5")
    context = context_of(tmp_path, arguments)
    context.middle = 5
    context._train = lambda name: trained(context.middle)
    run = context.reference
    assert context.middle == 6
    assert not ends_epoch(run.folder / "checkpoint-6")
    assert {path.name for path in run.checkpoints()} == {"checkpoint-6", "checkpoint-10"}


def test_defect_random_numbers_not_restored(tmp_path, arguments, script):
    """Without dropout no loss shows it."""
    wrong = script(trainer="def _load_rng_state(self, checkpoint):\n    pass")
    for path, status in ((SCRIPT, PASS), (wrong, FAIL)):
        found = probe(tmp_path, arguments, "resume.random_state", script=path)["resume.random_state"]
        assert found.status == status, found.text
        assert "random numbers of Python, NumPy, torch are" in found.text


def test_weights_that_differ_alone_are_found(tmp_path, reference):
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(reference.folder, other)
    path = other / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][3] += 1e-6
    save_file(weights, path, {"format": "pt"})
    record = RunRecord(other, 0, reference.log, {})
    found = compare_runs(reference, record, exact=True)
    assert found.status == FAIL
    assert "most in model.norm.weight" in found.text
    assert compare_runs(reference, record, exact=False).status == PASS
    path.unlink()
    assert compare_runs(reference, record, exact=False).status == FAIL


def test_defect_leaking_credentials_in_a_real_run(tmp_path, arguments, script, monkeypatch, capsys):
    """The script writes its environment into the run's folder and prints a part of it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MY_OWN_API_KEY", "a-value-that-only-this-test-has")
    wrong = script(
        built="""
Path(arguments.output_dir, "environment.txt").write_text(repr(dict(os.environ)))
print(os.environ["MODELING_ASTROBIO_CANARY_TOKEN"])
"""
    )
    out = tmp_path / "out"
    command = [*arguments, "--script", str(wrong), "--out", str(out), "--only", "credentials", "--steps", "10"]
    assert preflight.main(command) == 1
    report = json.loads((out / "preflight.json").read_text(encoding="utf-8"))
    assert [check["name"] for check in report["checks"]] == ["credentials.recipe", "credentials.runs"]
    recipe, runs = report["checks"]
    assert recipe["status"] == PASS
    assert runs["status"] == FAIL
    leaks = {tuple(leak) for leak in runs["evidence"]["leaks"]}
    assert ("runs/reference/environment.txt", "MODELING_ASTROBIO_CANARY_TOKEN") in leaks
    assert ("runs/reference/environment.txt", "MODELING_ASTROBIO_WEBHOOK") in leaks
    assert ("runs/reference/environment.txt", "MY_OWN_API_KEY") in leaks
    assert ("logs/reference.log", "MODELING_ASTROBIO_CANARY_TOKEN") in leaks
    # The report names variables and shows no value.
    said = capsys.readouterr().out
    for text in (said, *(path.read_text(encoding="utf-8") for path in out.glob("preflight.*"))):
        assert "MY_OWN_API_KEY" in text
        assert "a-value-that-only-this-test-has" not in text
        assert "canary-" not in text


def test_defect_credentials_in_the_recipe(tmp_path, arguments, monkeypatch):
    assert check_recipe_for_secrets(context_of(tmp_path, arguments)).status == PASS
    token = "hf_" + "aB3" * 11
    for override, where in (
        (f"training.run_name={token}", "a token of Hugging Face at training.run_name"),
        ("data.dataset_config=https://me:geheim@example.org/x", "a user and password in a URL at data.dataset_config"),
    ):
        found = check_recipe_for_secrets(context_of(tmp_path, [*arguments, override]))
        assert found.status == FAIL
        assert where in found.text
        assert override.partition("=")[2] not in json.dumps(found.to_dict())
    monkeypatch.setenv("MY_OWN_API_KEY", "only-this-test")
    found = check_recipe_for_secrets(context_of(tmp_path, [*arguments, "training.run_name=x-only-this-test"]))
    assert "the value of MY_OWN_API_KEY at training.run_name" in found.text


def test_defect_credentials_in_the_recipes_comments(tmp_path, arguments):
    """Of a file, and a key without a name; a commit is none."""
    path = tmp_path / "own.yaml"
    tiny = (ROOT / "recipes" / "llm" / "tiny.yaml").read_text(encoding="utf-8")
    hexadecimal = "0123456789" * 4
    path.write_text(f"{tiny}\n# {hexadecimal}\n", encoding="utf-8")
    found = check_recipe_for_secrets(context_of(tmp_path, [str(path), *arguments[1:]]))
    assert found.status == FAIL
    assert "a key of Weights & Biases in own.yaml" in found.text
    path.write_text(f"{tiny}\n# commit {hexadecimal}\n", encoding="utf-8")
    assert check_recipe_for_secrets(context_of(tmp_path, [str(path), *arguments[1:]])).status == PASS


def test_a_credential_on_the_command_line_is_not_written(tmp_path, arguments, capsys):
    token, out = "hf_" + "aB3" * 11, tmp_path / "out"
    command = [*arguments, f"training.run_name={token}", "--out", str(out), "--only", "credentials.recipe"]
    assert preflight.main(command) == 1
    said = capsys.readouterr()
    for text in (said.out, said.err, *(path.read_text(encoding="utf-8") for path in out.glob("preflight.*"))):
        assert token not in text
    assert "training.run_name=***" in said.out


def test_a_folder_that_cannot_be_written_ends_with_2(tmp_path, arguments, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for out in (tmp_path / "file" / "x", "/proc/nope"):
        assert preflight.main([*arguments, "--out", str(out), "--only", "credentials.recipe"]) == 2
        assert "error: --out must be a folder that can be written" in capsys.readouterr().err


def test_defect_absent_tracker(tmp_path, arguments, monkeypatch):
    assert check_with_reason(context_of(tmp_path, arguments)).endswith("names no tracker")
    found = check_reachable(context_of(tmp_path, [*arguments, "training.report_to=[neptune]"]))
    assert found.status == FAIL
    assert "not installed: neptune" in found.text
    found = check_reachable(context_of(tmp_path, [*arguments, "training.report_to=[tensorbord]"]))
    assert found.status == FAIL
    assert "unknown: tensorbord. Did you mean tensorboard?" in found.text


@pytest.mark.slow
def test_defect_unreachable_tracker(tmp_path, arguments, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    # Nobody listens there.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    found = check_reachable(context_of(tmp_path, [*arguments, "training.report_to=[wandb]"]))
    assert found.status == FAIL
    assert "wandb" in found.text
    assert "0123456789" * 4 not in found.text


def check_with_reason(context) -> str:
    from modeling_astrobio.training.preflight.outcome import guarded

    outcome = guarded(lambda: check_reachable(context))
    assert outcome.status == NOT_TESTED
    return outcome.text


def test_present_tracker_passes(tmp_path, arguments):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    found = check_reachable(context_of(tmp_path, [*arguments, "training.report_to=tensorboard"]))
    assert found.status == PASS, found.text


def test_defect_slow_loader(tmp_path, arguments, script):
    wrong = script(
        built="""
rows = trainer.train_dataset

class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return len(rows)

    def __getitem__(self, index):
        time.sleep(0.1)
        return rows[index]

trainer.train_dataset = Slow()
"""
    )
    found = probe(tmp_path, arguments, "data.throughput", script=wrong)["data.throughput"]
    assert found.status == FAIL
    assert found.evidence["ratio"] < 5
    # Three rows of 0.1 s each, fewer at the end of an epoch.
    assert found.evidence["batches_per_second"] < 5
    assert "Set training.dataloader_num_workers" in found.text


def test_defect_plan_larger_than_the_machine(tmp_path, arguments):
    large = [*arguments, "model.config.intermediate_size=1000000000"]
    found = probe(tmp_path, large, "memory.plan", "memory.measured", "accumulation.equality")
    assert found["memory.plan"].status == FAIL
    assert "host memory must be at least" in found["memory.plan"].text
    # Nothing of the kind is started.
    assert {found[name].status for name in ("memory.measured", "accumulation.equality")} == {NOT_TESTED}


PLANS = {
    # The plan is for a model with a wider feed-forward.
    "more": {
        "task": """
def step(self):
    config = {**self.recipe.model.config, "intermediate_size": 50000}
    wider = replace(self.recipe, model=replace(self.recipe.model, config=config))
    return replace(super().step(), make_model=train_llm.llm_step(wider).make_model, identity="wider")
"""
    },
    # The training holds 128 MiB that no plan has.
    "less": {
        "trainer": """
def training_step(self, *args, **kwargs):
    self.kept = torch.ones(2**25)
    return super().training_step(*args, **kwargs)
"""
    },
}


@pytest.mark.parametrize("word", PLANS)
def test_defect_plan_that_is_not_what_is_measured(tmp_path, arguments, script, word):
    found = probe(tmp_path, arguments, "memory.measured", script=script(**PLANS[word]))["memory.measured"]
    assert found.status == FAIL, found.text
    assert f"{word} planned than measured" in found.text


def test_defect_mismatched_vocabulary(tmp_path, arguments, script):
    # A model that is too small for the tokenizer is not even built.
    found = probe(tmp_path, [*arguments, "model.config.vocab_size=128"], "model.builds", "model.vocabulary")
    assert found["model.builds"].status == FAIL
    assert "vocab_size must be at least the tokenizer's" in found["model.builds"].text
    assert found["model.vocabulary"].status == NOT_TESTED
    wrong = script(built="model.resize_token_embeddings(300)\nmodel.config.eos_token_id = 5")
    found = probe(tmp_path, arguments, "model.vocabulary", script=wrong)["model.vocabulary"]
    assert found.status == FAIL
    assert "the embedding has 300 rows" in found.text
    assert "of the data has no row in the head (300)" in found.text
    assert "eos_token_id is 5 in the model" in found.text


LEAKS = {
    "no mask": (
        """
for module in model.modules():
    if hasattr(module, "is_causal"):
        module.is_causal = False
model.register_forward_pre_hook(
    lambda module, args, given: (args, {**given, "attention_mask": {"full_attention": None}}), with_kwargs=True
)
""",
        "model.causality",
        "the future or another document is seen",
    ),
    "next token": (
        """
model.get_input_embeddings().register_forward_hook(
    lambda module, args, output: output + 0.01 * output.roll(-1, dims=1)
)
""",
        "model.causality",
        "for tokens changed after position",
    ),
    "no mask in training": (
        """
for module in model.modules():
    if hasattr(module, "is_causal"):
        module.is_causal = False
def unmask(module, args, given):
    return args, {**given, "attention_mask": {"full_attention": None}} if module.training else given
def set_causal(module, args, given):
    for each in module.modules():
        if hasattr(each, "is_causal"):
            each.is_causal = not module.training
model.register_forward_pre_hook(set_causal, with_kwargs=True)
model.register_forward_pre_hook(unmask, with_kwargs=True)
""",
        "model.causality",
        "the future or another document is seen",
    ),
    "documents not apart": (
        """
model.register_forward_pre_hook(
    lambda module, args, given: (
        args, {**given, "position_ids": torch.arange(given["input_ids"].shape[1])[None]}
    ),
    with_kwargs=True,
)
""",
        "model.causality",
        "for tokens changed in the document before",
    ),
    "loss of the token itself": (
        """
def shift(module, args, given):
    if given.get("labels") is not None:
        given["labels"] = given["labels"].roll(1, dims=1)
    return args, given
model.register_forward_pre_hook(shift, with_kwargs=True)
""",
        "model.labels",
        "it is the loss of the token itself",
    ),
    "loss of the token itself in training": (
        """
def shift(module, args, given):
    if given.get("labels") is not None and module.training:
        given["labels"] = given["labels"].roll(1, dims=1)
    return args, given
model.register_forward_pre_hook(shift, with_kwargs=True)
""",
        "model.labels",
        "it is the loss of the token itself",
    ),
    "labels shifted by the data": (
        """
collate = trainer.data_collator
def shifted(rows):
    batch = collate(rows)
    return {**batch, "labels": batch["labels"].roll(-1, dims=1)}
trainer.data_collator = shifted
""",
        "model.labels",
        "labels are not the token at their own place",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_defect_future_leak(tmp_path, arguments, script, name):
    built, check, said = LEAKS[name]
    found = probe(tmp_path, arguments, check, script=script(built=built))[check]
    assert found.status == FAIL, found.text
    assert said in found.text


ACCUMULATION_BUGS = {
    "divided twice": """
def compute_loss(self, *args, **kwargs):
    return super().compute_loss(*args, **kwargs) / self.args.gradient_accumulation_steps
""",
    "not divided": """
def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
    return super().compute_loss(model, inputs, return_outputs)
""",
    "mean of means": """
def training_step(self, model, inputs, num_items_in_batch=None):
    return super().training_step(model, inputs, None)
""",
    "last window of an epoch": """
def compute_loss(self, *args, **kwargs):
    share = self.current_gradient_accumulation_steps / self.args.gradient_accumulation_steps
    return super().compute_loss(*args, **kwargs) * share
""",
}


@pytest.mark.parametrize("name", ACCUMULATION_BUGS)
def test_defect_accumulation_bug(tmp_path, arguments, script, name):
    wrong = script(trainer=ACCUMULATION_BUGS[name])
    # Documents of different lengths in rows of their own: their means are not the mean of all.
    chosen = [*arguments, "data.pack=false"]
    found = probe(tmp_path, chosen, "accumulation.equality", script=wrong)["accumulation.equality"]
    assert found.status == FAIL
    assert "Accumulation changes what is learned" in found.text


def test_dropout_is_no_accumulation_bug(tmp_path, arguments):
    chosen = [*arguments, "model.config.attention_dropout=0.3", "data.pack=false"]
    found = probe(tmp_path, chosen, "accumulation.equality")["accumulation.equality"]
    assert found.status == PASS, found.text


def test_time_to_finish_is_compared_with_the_days_that_there_are(tmp_path, arguments, reference):
    facts = {"save_seconds": 0.5, "evaluation_seconds": 2.0, "total_steps": 6}
    many = [*arguments, "training.max_steps=1000000", "training.eval_steps=1000", "training.save_steps=500"]
    for days, status in ((None, PASS), (1e6, PASS), (0.01, FAIL)):
        context = context_of(tmp_path, many, days=days)
        context.__dict__["reference"] = reference
        context.__dict__["probe"] = {"facts": facts}
        found = check_time(context)
        assert found.status == status
    seconds = found.evidence["seconds"]
    assert (seconds["evaluations"], seconds["saves"]) == (1000 * 2.0, 2000 * 0.5)
    # Steps of the tiny model.
    assert 0.001 < found.evidence["step_seconds"] < 2
    assert seconds["steps"] == pytest.approx(1e6 * found.evidence["step_seconds"])
    assert "longer than the 0.01 days that there are" in found.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "disk,wings"], "--only must name checks or groups among .*memory.plan.*got wings"),
        (["--steps", "7"], "--steps must be even and at least 10; got 7"),
        (["--days", "0"], "--days must be above 0; got 0"),
        (["--script", "absent.py"], "--script must be a training script; got 'absent.py'"),
        (["traning.seed=1"], "unknown recipe key 'traning'. Did you mean 'training'"),
    ],
)
def test_what_cannot_start_ends_with_2_and_leaves_nothing(tmp_path, more, message, capsys):
    import re

    assert preflight.main(["tiny", "--out", str(tmp_path / "out"), *more]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_not_touched(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert preflight.main(["tiny", "--out", str(tmp_path), "--only", "data.quality"]) == 2
    assert "--out must be new, empty, or of an earlier preflight" in capsys.readouterr().err
    assert (tmp_path / "runs" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_cheap_checks_write_table_and_signoff(tmp_path, arguments, capsys):
    out = tmp_path / "out"
    only = "environment.versions,environment.gpu_communication,data.quality,credentials.recipe"
    assert preflight.main([*arguments, "--out", str(out), "--only", only]) == 0
    said = capsys.readouterr().out
    report = json.loads((out / "preflight.json").read_text(encoding="utf-8"))
    assert report["finished"] is True
    assert report["status"] == PASS
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert set(statuses) == set(only.split(","))
    assert statuses["data.quality"] == NOT_TESTED
    markdown = (out / "preflight.md").read_text(encoding="utf-8")
    for text in (said, markdown):
        assert "## Sign-off" in text
        assert "- [ ] NOT TESTED `data.quality`" in text
        assert f"SHA-256 {report['recipe_sha256']}" in text
        assert "--resume auto`" in text
        assert "MODELING_ASTROBIO_WEBHOOK" in text
    assert report["complete"] is False
    assert "## Sign-off\n\n- [ ] NOT RUN, and nothing is known of: environment.bitsandbytes, " in markdown
    assert markdown.rstrip().splitlines()[-1].startswith("- [ ] Confirmed by")
    # A second one in the same folder takes the place of the first.
    assert preflight.main([*arguments, "--out", str(out), "--only", "environment.versions"]) == 0
    assert len(json.loads((out / "preflight.json").read_text(encoding="utf-8"))["checks"]) == 1


@pytest.mark.slow
def test_whole_preflight_of_a_healthy_recipe(tmp_path, arguments, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = [word for word in arguments if not word.startswith("data.dataset_name") and "tokenizer" not in word]
    out = tmp_path / "out"
    assert preflight.main([*recipe, "--out", str(out), "--days", "28"]) == 0, capsys.readouterr().out
    report = json.loads((out / "preflight.json").read_text(encoding="utf-8"))
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    tested = {name for name, status in statuses.items() if status == PASS}
    assert {
        "memory.measured",
        "optimizer.state",
        "accumulation.equality",
        "learning.loss",
        "resume.equality",
        "disk.checkpoints",
        "time.to_finish",
        "credentials.runs",
        "model.causality",
    } <= tested
    assert report["counts"][FAIL] == 0
    assert not (out / "runs").exists()
    assert {path.name for path in (out / "logs").iterdir()} >= {"probe.log", "reference.log", "resumed.log"}


@pytest.mark.slow
def test_whole_preflight_finds_a_broken_resume_by_killing(tmp_path, arguments, script, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wrong = script(trainer=BROKEN_RESUMES["optimizer"][0])
    out = tmp_path / "out"
    command = [*arguments, "--script", str(wrong), "--out", str(out), "--only", "resume,learning", "--steps", "20"]
    assert preflight.main(command) == 1
    checks = {check["name"]: check for check in json.loads((out / "preflight.json").read_text())["checks"]}
    assert checks["learning.loss"]["status"] == PASS
    assert checks["resume.equality"]["status"] == FAIL
    assert "killed (SIGKILL) after step 10 and resumed" in checks["resume.equality"]["text"]


@pytest.mark.slow
def test_a_crash_of_the_probe_is_a_fail_and_no_pass(tmp_path, arguments, script, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    wrong = script(built="os._exit(9)")
    out = tmp_path / "out"
    command = [*arguments, "--script", str(wrong), "--out", str(out), "--only", "memory,model,accumulation"]
    assert preflight.main(command) == 1
    checks = {check["name"]: check for check in json.loads((out / "preflight.json").read_text())["checks"]}
    assert checks["memory.plan"]["status"] == PASS
    assert checks["model.builds"]["status"] == FAIL
    assert "ended with status 9 in this check" in checks["model.builds"]["text"]
    others = {check["status"] for name, check in checks.items() if name not in ("memory.plan", "model.builds")}
    assert others == {NOT_TESTED}
