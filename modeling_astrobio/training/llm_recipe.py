"""Recipes of the language model: YAML that holds only what differs from the defaults below."""

from dataclasses import dataclass, field
from typing import Any

from .errors import RecipeError
from .recipe import Recipe


__all__ = [
    "AdapterSection",
    "DataSection",
    "EvaluationSection",
    "LLMRecipe",
    "ModelSection",
    "TokenizerSection",
]


_DTYPES = ("float32", "bfloat16", "float16")


@dataclass
class ModelSection:
    """Where the model comes from.

    Attributes:
        preset: Preset of `AstroLLMConfig` to start from random weights; exactly one of this and `checkpoint`.
        checkpoint: Folder or Hub id of weights to continue from, loaded with `AutoModelForCausalLM`.
        config: Fields of `AstroLLMConfig` that differ from the preset.
        dtype: Precision of the weights: "float32", "bfloat16" or "float16".
        attn_implementation: Kernel of the attention: "eager", "sdpa", "flex_attention", "flash_attention_2",
            "flash_attention_3"; `None` lets transformers choose.
        quantization: "4bit" or "8bit" loading by bitsandbytes; needs `checkpoint` and an adapter.
    """

    preset: str | None = None
    checkpoint: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    attn_implementation: str | None = None
    quantization: str | None = None


@dataclass
class AdapterSection:
    """LoRA by peft; off while `r` is 0.

    Attributes:
        r: Rank of the update.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout on the adapter's input.
        target_modules: Names of the linear layers; `None` means all of attention and feed-forward.
    """

    r: int = 0
    alpha: int = 32
    dropout: float = 0.0
    target_modules: list[str] | None = None


@dataclass
class TokenizerSection:
    """Where the tokenizer comes from.

    Attributes:
        path: Folder or Hub id; `None` takes the checkpoint's, or trains one on the training split where the model
            starts from a preset.
    """

    path: str | None = None


@dataclass
class DataSection:
    """What to train on.

    Attributes:
        dataset_name: Anything `datasets.load_dataset` opens; `None` is the embedded planets.
        dataset_config: Its configuration.
        train_split: Split to train on.
        validation_split: Split evaluated during training.
        test_split: Split of the final evaluation.
        streaming: Read without downloading first; needs `training.max_steps`. Rows keep their stored order, since a
            shuffle buffer would lose rows on resume, and start again at their end. Tokenizer, baselines and final
            evaluation see the first 10,000 rows.
        text_column: Documents; every token is learned.
        messages_column: Conversations; the last message is learned.
        learn_prompts: Learn every token of a conversation, as pretraining does, not only the last message.
        sequence_length: Tokens in a row.
        pack: Put several documents into a row, kept apart by the attention mask.
        max_rows: Take only so many rows of each split; 0 takes all.
    """

    dataset_name: str | None = None
    dataset_config: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str = "test"
    streaming: bool = False
    text_column: str = "text"
    messages_column: str = "messages"
    learn_prompts: bool = False
    sequence_length: int = 512
    pack: bool = True
    max_rows: int = 0


@dataclass
class EvaluationSection:
    """The evaluation after training.

    Attributes:
        max_questions: Held-out questions answered by generation; 0 skips them.
        max_new_tokens: Longest answer.
        batch_size: Questions answered at one time.
        ngram_order: Order of the n-gram baseline.
    """

    max_questions: int = 400
    max_new_tokens: int = 24
    batch_size: int = 32
    ngram_order: int = 5


@dataclass
class LLMRecipe(Recipe):
    """Everything a run of `recipes/train_llm.py` depends on.

    Attributes:
        model: See `ModelSection`.
        adapter: See `AdapterSection`.
        tokenizer: See `TokenizerSection`.
        data: See `DataSection`.
        evaluation: See `EvaluationSection`.
    """

    kind = "llm"

    model: ModelSection = field(default_factory=ModelSection)
    adapter: AdapterSection = field(default_factory=AdapterSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    data: DataSection = field(default_factory=DataSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)

    def check(self) -> None:
        """Refuse values that contradict one another."""
        super().check()
        model, data = self.model, self.data
        if (model.preset is None) == (model.checkpoint is None):
            raise RecipeError(
                f"exactly one of model.preset and model.checkpoint must be set; got preset={model.preset!r}, "
                f"checkpoint={model.checkpoint!r}."
            )
        for name, value, allowed in (
            ("model.dtype", model.dtype, _DTYPES),
            ("model.quantization", model.quantization, (None, "4bit", "8bit")),
        ):
            if value not in allowed:
                raise RecipeError(f"{name} must be one of {allowed}; got {value!r}.")
        if model.quantization and self.adapter.r == 0:
            raise RecipeError(
                f"model.quantization={model.quantization!r} freezes the weights, so it needs adapter.r above 0; got 0."
            )
        if model.checkpoint is not None and model.config:
            raise RecipeError(
                "model.config changes a preset, and a checkpoint has its own; got "
                f"{sorted(model.config)}. Remove them."
            )
        for name, number, least in (
            ("data.sequence_length", data.sequence_length, 2),
            ("data.max_rows", data.max_rows, 0),
            ("adapter.r", self.adapter.r, 0),
            ("evaluation.max_questions", self.evaluation.max_questions, 0),
            ("evaluation.ngram_order", self.evaluation.ngram_order, 1),
            ("evaluation.batch_size", self.evaluation.batch_size, 1),
            ("evaluation.max_new_tokens", self.evaluation.max_new_tokens, 1),
        ):
            if number < least:
                raise RecipeError(f"{name} must be at least {least}; got {number}.")
        if data.streaming and self.training.get("max_steps", -1) < 1:
            raise RecipeError(
                "data.streaming needs training.max_steps of at least 1, since a stream has no length; got "
                f"{self.training.get('max_steps', -1)}."
            )
