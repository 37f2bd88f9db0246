"""Every token counts alike, whichever batch it is in, and a batch or step without any is none."""

import pytest
import torch
from datasets import Dataset
from torch.nn import functional
from training_builders import small_model
from transformers import TrainingArguments

from modeling_astrobio.training.llm_data import collate_packed
from modeling_astrobio.training.trainer import AstroTrainer


LENGTH = 23
OPTIONS = {"use_cpu": True, "report_to": "none", "remove_unused_columns": False, "disable_tqdm": True}


def rows() -> list[dict[str, list[int]]]:
    """Rows of which each has more to learn than the one before, the first two nothing at all."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(7):
        tokens = torch.randint(3, 90, (LENGTH,), generator=generator).tolist()
        learned = max(0, 3 * (index - 1))
        found.append({"input_ids": tokens, "labels": [-100] * (LENGTH - learned) + tokens[LENGTH - learned :]})
    return found


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_validation_loss_and_accuracy_are_those_of_all_tokens(tmp_path, batch):
    model = small_model()
    arguments = TrainingArguments(output_dir=str(tmp_path), per_device_eval_batch_size=batch, **OPTIONS)
    trainer = AstroTrainer(
        model=model,
        args=arguments,
        eval_dataset=Dataset.from_list(rows()),
        data_collator=collate_packed,
        token_accuracy=True,
    )
    found = trainer.evaluate()
    tokens = torch.tensor([row["input_ids"] for row in rows()])
    labels = torch.tensor([row["labels"] for row in rows()])[:, 1:]
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[:, :-1]
    counted = labels != -100
    expected = functional.cross_entropy(logits[counted], labels[counted])
    assert found["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert found["eval_accuracy"] == (logits.argmax(-1) == labels)[counted].double().mean().item()


@pytest.mark.parametrize("logging_steps", [1, 3])
def test_step_without_anything_to_learn_leaves_the_weights_as_they_are(tmp_path, logging_steps):
    """Two rows of a step in turn have nothing to learn; without the step, training would be the same."""
    taught = rows()[3:]
    empty = [{**row, "labels": [-100] * LENGTH} for row in taught]
    mixed = [row for pair in zip(taught, empty, strict=True) for row in pair]
    found = []
    for data in (taught, mixed):
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=1,
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            learning_rate=1e-2,
            logging_steps=logging_steps,
            save_strategy="no",
            **OPTIONS,
        )
        trainer = AstroTrainer(
            model=small_model(),
            args=arguments,
            schedule="constant",
            train_dataset=Dataset.from_list(data),
            data_collator=collate_packed,
        )
        trainer.train()
        found.append(trainer)
    for name, weight in found[0].model.state_dict().items():
        assert torch.equal(found[1].model.state_dict()[name], weight), name
    losses = [[row["loss"] for row in trainer.state.log_history if "loss" in row] for trainer in found]
    if logging_steps == 1:
        assert losses[0] == losses[1]
    else:
        # Steps 1, 3 and 5 of eight were taught something, so that their means are those of two and of one.
        assert len(losses[1]) == 2
        assert all(loss > 1 for loss in losses[1])
