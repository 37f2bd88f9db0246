"""Extra loss terms: their gradients, their weights over accumulated micro-batches, and that they are logged apart."""

import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.loss_terms import LossTerm, LossTermSums
from modeling_astrobio.training.trainer import AstroTrainer


ROWS, LENGTH, ACCUMULATION = 7, 11, 3


class Gradients(TrainerCallback):
    """Keeps the gradients of each optimizer step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append([p.grad.detach().clone() for p in model.parameters() if p.grad is not None])


class Regression(nn.Module):
    """A model that takes no num_items_in_batch, so that the trainer scales its loss."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x, y):
        prediction = self.linear(x)
        return {"loss": (prediction - y).square().mean(), "prediction": prediction}


def train(model, rows, collate, folder, terms, steps=3):
    gradients = Gradients()
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        max_steps=steps,
        learning_rate=0.0,
        weight_decay=0.0,
        max_grad_norm=0.0,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=ACCUMULATION,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
    )
    trainer = AstroTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate,
        loss_terms=terms,
        callbacks=[gradients],
    )
    trainer.train()
    return gradients.steps, [row for row in trainer.state.log_history if "loss" in row]


def windows(rows):
    """The micro-batches of each optimizer step: the last of an epoch has what is left."""
    return [rows[start : start + ACCUMULATION] for start in range(0, len(rows), ACCUMULATION)]


def language_model():
    torch.manual_seed(0)
    return AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny", loss_chunk_size=5)).double()


def token_rows():
    generator = torch.Generator().manual_seed(1)
    rows = []
    for index in range(ROWS):
        ids = torch.randint(0, 512, (LENGTH,), generator=generator)
        labels = ids.clone()
        labels[: index + 1] = -100
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def stack(rows):
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def norm_of_embedding(model, inputs, outputs):
    return model.get_input_embeddings()(inputs["input_ids"]).square().mean()


def test_terms_are_means_over_the_micro_batches_of_a_step(tmp_path):
    model, rows = language_model(), token_rows()
    term = LossTerm("norm", norm_of_embedding, weight=lambda step: 10.0 * (step + 1))
    found, logs = train(model, rows, stack, tmp_path, [term])
    assert len(found) == 3
    for step, window in enumerate(windows(rows)):
        batch = stack(window)
        model.zero_grad()
        loss = model(**batch).loss
        values = [norm_of_embedding(model, stack([row]), None) for row in window]
        value = sum(values) / len(values)
        (loss + 10.0 * (step + 1) * value).backward()
        for ours, parameter in zip(found[step], model.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-10, atol=1e-12)
        assert logs[step]["loss_norm"] == pytest.approx(value.item(), rel=1e-6)
        assert logs[step]["loss"] == pytest.approx((loss + 10.0 * (step + 1) * value).item(), rel=1e-5)


def test_a_model_whose_loss_the_trainer_scales(tmp_path):
    torch.manual_seed(0)
    model = Regression().double()
    data = torch.randn(ROWS, 8, dtype=torch.double)
    rows = [{"x": row[:5], "y": row[5:]} for row in data]

    def drift(model, inputs, outputs):
        return outputs["prediction"].sum(-1).square().mean()

    found, logs = train(model, rows, stack, tmp_path, [LossTerm("drift", drift, 0.5), LossTerm("off", drift, 0.0)])
    for step, window in enumerate(windows(rows)):
        model.zero_grad()
        outputs = [(model(**stack([row])), row) for row in window]
        loss = sum(out["loss"] for out, _ in outputs) / len(window)
        value = sum(drift(model, row, out) for out, row in outputs) / len(window)
        (loss + 0.5 * value).backward()
        for ours, parameter in zip(found[step], model.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-10, atol=1e-12)
        assert logs[step]["loss_drift"] == pytest.approx(value.item(), rel=1e-6)
        # Logged without its weight, also where that is 0.
        assert logs[step]["loss_off"] == pytest.approx(value.item(), rel=1e-6)


def test_no_terms_no_change(tmp_path):
    found, logs = train(language_model(), token_rows(), stack, tmp_path / "with", [])
    other, _ = train(
        language_model(), token_rows(), stack, tmp_path / "without", [LossTerm("z", norm_of_embedding, 0)]
    )
    assert not any(key.startswith("loss_") for row in logs for key in row)
    for ours, theirs in zip(found, other, strict=True):
        for mine, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, reference, rtol=0, atol=0)


def test_sums_start_again_after_each_log():
    sums = LossTermSums()
    sums.add("a", torch.tensor(2.0, dtype=torch.bfloat16))
    sums.add("a", torch.tensor(4.0))
    assert sums.drain(2, lambda value: value) == {"loss_a": 3.0}
    assert sums.drain(2, lambda value: value) == {}
