"""The nano recipe's data, model and parameter groups, for benchmarks that train it step by step."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.utils.logging import disable_progress_bar

from data_scripts.derived.embedded_planets import build_embedded_planets
from modeling_astrobio.training.llm_data import collate_packed, corpus_texts, load_splits, packed_rows
from modeling_astrobio.training.llm_model import build_model, build_tokenizer
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.optimizers import build_optimizer, embedding_weights
from modeling_astrobio.training.recipe import load_recipe
from modeling_astrobio.training.strategy import Strategy


__all__ = ["NanoTraining"]


RECIPES = Path(__file__).resolve().parent.parent / "llm"

Rows = list[dict[str, list[int]]]


@dataclass
class NanoTraining:
    """What runs of one comparison share.

    Attributes:
        recipe: The nano recipe.
        tokenizer: Trained on its training split.
        train_rows: Packed rows.
        validation_rows: Packed rows.
    """

    recipe: LLMRecipe
    tokenizer: PreTrainedTokenizerBase
    train_rows: Rows
    validation_rows: Rows

    @classmethod
    def prepare(cls) -> "NanoTraining":
        """Read the embedded planets, train the tokenizer and pack the rows."""
        disable_progress_bar()
        recipe = load_recipe(LLMRecipe, "nano", folder=RECIPES)
        splits = load_splits(recipe.data, build_embedded_planets)
        tokenizer = build_tokenizer(recipe, corpus_texts(splits["train"], recipe.data))
        rows = [list(packed_rows(splits[name], tokenizer, recipe.data)) for name in ("train", "validation")]
        return cls(recipe, tokenizer, *rows)

    def build_model(self, seed: int, dtype: torch.dtype) -> PreTrainedModel:
        """Return the model with random weights of a seed; narrow ones are those of float32, rounded."""
        set_seed(seed)
        return build_model(self.recipe, self.tokenizer).to(dtype).train()

    def build_optimizer(self, model: PreTrainedModel, strategy: Strategy, learning_rate: float) -> Any:
        """Return a strategy's optimizer; norms have no weight decay, as in training."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        training = self.recipe.training
        return build_optimizer(
            strategy,
            [
                {"params": [p for p in parameters if p.dim() > 1]},
                {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
            ],
            learning_rate=learning_rate,
            betas=(0.9, training["adam_beta2"]),
            eps=1e-8,
            weight_decay=training["weight_decay"],
            embeddings=embedding_weights(model),
        )

    def batches(self, seed: int) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches of the recipe's size without end, each epoch in another order."""
        size = self.recipe.training["per_device_train_batch_size"]
        generator = torch.Generator().manual_seed(seed)
        for _ in itertools.count():
            order = torch.randperm(len(self.train_rows), generator=generator).tolist()
            for start in range(0, len(order) - size + 1, size):
                yield collate_packed([self.train_rows[index] for index in order[start : start + size]])

    @torch.no_grad()
    def validation_loss(self, model: PreTrainedModel) -> float:
        """Return the mean loss over the tokens of the validation split, in nats."""
        model.eval()
        size = self.recipe.training["per_device_eval_batch_size"]
        nats = tokens = 0.0
        for start in range(0, len(self.validation_rows), size):
            batch = collate_packed(self.validation_rows[start : start + size])
            count = int((batch["labels"][:, 1:] != -100).sum())
            nats += float(model(**batch, skip_logits=True).loss) * count
            tokens += count
        model.train()
        return nats / tokens
