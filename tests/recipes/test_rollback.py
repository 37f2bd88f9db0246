"""A step whose loss goes wrong is undone and its data skipped; after three the run stops."""

import json

import pytest
import torch
from recipe_runs import interrupt_at, read_run, small_arguments, train_llm

from modeling_astrobio.training.rollbacks import read_rollbacks


STEPS = [
    "training.max_steps=14",
    "training.save_steps=4",
    "training.eval_steps=5",
    "training.save_total_limit=9",
    "training.gradient_accumulation_steps=2",
    "training.per_device_train_batch_size=2",
    "model.config.attention_dropout=0.1",
]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return [*small_arguments(tmp_path_factory.mktemp("rollback")), *STEPS]


def go_wrong(monkeypatch, steps: set[int], how: str = "nan") -> None:
    """Let the next runs' loss or gradients go wrong at some steps, as overflow or a bad row would make them."""

    class FaultyTrainer(train_llm.AstroTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            loss = super().training_step(model, inputs, num_items_in_batch)
            step = self.state.global_step + 1
            if step in steps and step not in self.skipped_steps:
                if how != "spike":
                    next(model.parameters()).grad.fill_(float("nan"))
                return {"nan": loss * float("nan"), "spike": loss * 1e3, "gradient": loss}[how]
            return loss

    monkeypatch.setattr(train_llm, "AstroTrainer", FaultyTrainer)


def skipping(monkeypatch, steps: set[int]) -> None:
    """Let the next run skip steps from its beginning, without any fault."""

    class SkippingTrainer(train_llm.AstroTrainer):
        def train(self, *args, **kwargs):
            self.skipped_steps = frozenset(steps)
            return super().train(*args, **kwargs)

    monkeypatch.setattr(train_llm, "AstroTrainer", SkippingTrainer)


@pytest.mark.parametrize("how", ["nan", "gradient"])
def test_fault_is_undone_and_its_data_skipped(arguments, how, tmp_path, monkeypatch, capsys):
    # Before the first checkpoint, at a step that would save, and at one that would evaluate.
    faults = {3, 8, 10}
    with monkeypatch.context() as patch:
        go_wrong(patch, faults, how)
        assert train_llm.main([*arguments, f"output_dir={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().err
    reason = "the loss is nan" if how == "nan" else "the norm of the gradient is nan"
    for step, where in ((3, "the beginning"), (8, "checkpoint-4"), (10, "checkpoint-8")):
        assert f"step {step}: {reason}; back to {where}, and the data of step {step} is skipped" in said
    rollbacks = read_rollbacks(tmp_path / "run")
    assert [rollback.step for rollback in rollbacks] == [3, 8, 10]
    with monkeypatch.context() as patch:
        skipping(patch, faults)
        assert train_llm.main([*arguments, f"output_dir={tmp_path / 'skipped'}"]) == 0
    run, skipped = read_run(tmp_path / "run"), read_run(tmp_path / "skipped")
    run.assert_same(skipped)
    # What was skipped has no loss, and every other step has one.
    assert sorted(run.log) == [step for step in range(1, 15) if step not in faults]
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())
    assert run.result["rollbacks"] == json.loads((tmp_path / "run" / "rollbacks.json").read_text())


def test_data_is_skipped_and_nothing_learned_from_it(arguments, tmp_path, monkeypatch):
    """The weights after a skipped step are those before it."""
    short = [*arguments, "training.max_steps=5", "training.save_steps=1", "schedule=constant"]
    with monkeypatch.context() as patch:
        skipping(patch, {4})
        assert train_llm.main([*short, f"output_dir={tmp_path}"]) == 0

    def weights(step: int) -> bytes:
        return (tmp_path / f"checkpoint-{step}" / "model.safetensors").read_bytes()

    assert weights(3) == weights(4)
    assert weights(4) != weights(5)


def test_fourth_fault_ends_the_run(arguments, tmp_path, monkeypatch, capsys):
    faults = {5, 6, 7, 9}
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        go_wrong(patch, faults)
        assert train_llm.main([*arguments, f"output_dir={out}"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: step 9: the loss is nan. The run stops: stability.max_rollbacks=3")
        assert "skipped before: 5, 6, 7. The last good state is checkpoint-8" in error
        assert not (out / "result.json").exists()
        # As the message says.
        assert train_llm.main([*arguments, f"output_dir={out}", "stability.max_rollbacks=4", "--resume"]) == 0
    assert [rollback.step for rollback in read_rollbacks(out)] == [5, 6, 7, 9]


def test_run_that_is_stopped_after_a_rollback_skips_the_same_data(arguments, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        go_wrong(patch, {7})
        interrupt_at(patch, 12)
        assert train_llm.main([*arguments, f"output_dir={out}"]) == 130
    # From before the fault, which does not come again: its data is skipped all the same.
    assert train_llm.main([*arguments, f"output_dir={out}", "--resume", str(out / "checkpoint-4")]) == 0
    with monkeypatch.context() as patch:
        skipping(patch, {7})
        assert train_llm.main([*arguments, f"output_dir={tmp_path / 'skipped'}"]) == 0
    read_run(out).assert_same(read_run(tmp_path / "skipped"))


def test_spike_is_undone(arguments, tmp_path, monkeypatch, capsys):
    long = [*arguments, "training.max_steps=40", "training.save_steps=10"]
    with monkeypatch.context() as patch:
        go_wrong(patch, {36}, "spike")
        assert train_llm.main([*long, f"output_dir={tmp_path / 'run'}"]) == 0
    assert "more than 6 standard deviations above the mean of the last 35" in capsys.readouterr().err
    assert [rollback.step for rollback in read_rollbacks(tmp_path / "run")] == [36]


def test_average_of_weights_is_evaluated_published_and_resumed(arguments, tmp_path, monkeypatch):
    averaged = [*arguments, "ema_decay=0.9"]
    assert train_llm.main([*averaged, f"output_dir={tmp_path / 'whole'}"]) == 0
    assert train_llm.main([*arguments, f"output_dir={tmp_path / 'plain'}"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        assert train_llm.main([*averaged, f"output_dir={tmp_path / 'run'}"]) == 130
    assert train_llm.main([*averaged, f"output_dir={tmp_path / 'run'}", "--resume"]) == 0
    whole, plain = read_run(tmp_path / "whole"), read_run(tmp_path / "plain")
    read_run(tmp_path / "run").assert_same(whole)
    # The training itself is the same; what is evaluated and published is not.
    assert whole.log == plain.log
    assert all(whole.evaluations[step] != loss for step, loss in plain.evaluations.items())
    assert any(not torch.equal(whole.weights[name], weight) for name, weight in plain.weights.items())
    last = f"checkpoint-{whole.steps[-1]}"
    checkpoints = [tmp_path / name / last / "model.safetensors" for name in ("whole", "plain")]
    assert checkpoints[0].read_bytes() == checkpoints[1].read_bytes()
    # A finished run that is resumed publishes the average again.
    model = tmp_path / "whole" / "model" / "model.safetensors"
    before = model.read_bytes()
    model.unlink()
    assert train_llm.main([*averaged, f"output_dir={tmp_path / 'whole'}", "--resume"]) == 0
    assert model.read_bytes() == before
