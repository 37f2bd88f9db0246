"""Configuration of AstroLLM: a decoder with rotary positions, grouped-query attention, RMSNorm and SwiGLU."""

import difflib
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters
from transformers.utils.type_validators import interval

from .configuration_presets import config_from_preset


__all__ = ["AstroLLMConfig", "ASTRO_LLM_PRESETS"]


ASTRO_LLM_PRESETS: dict[str, dict[str, Any]] = {
    # Tests: every head count and width differs, so that swapped axes fail.
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 48,
        "intermediate_size": 104,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
    },
    # The default run: minutes on two CPU cores.
    "nano": {
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
    # 1.03B parameters.
    "1b": {
        "vocab_size": 54272,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    # 13,139,072,000 parameters.
    "13b": {
        "vocab_size": 54272,
        "hidden_size": 5120,
        "intermediate_size": 16384,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    # The Llama-2-13B shape with the vocabulary extended to 44,032: the same 13,139,072,000 parameters.
    "13b_open": {
        "vocab_size": 44032,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "head_dim": 128,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
}

_LAYER_TYPES = ("full_attention", "sliding_attention")


@strict
class AstroLLMConfig(PreTrainedConfig):
    r"""Shape and numerics of an AstroLLM.

    With `layer_types` all `"full_attention"` the model computes what `LlamaForCausalLM` computes; with all
    `"sliding_attention"`, `MistralForCausalLM`; `attention_bias` with `attention_output_bias=False` gives Qwen2,
    `use_qk_norm` gives Qwen3.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the SwiGLU feed-forward block.
        num_hidden_layers: Number of decoder layers.
        num_attention_heads: Number of query heads.
        num_key_value_heads: Number of key and value heads; `None` means one for each query head, 1 is multi-query
            attention.
        head_dim: Width of one head; `None` means `hidden_size // num_attention_heads`.
        hidden_act: Activation of the gate.
        max_position_embeddings: Longest sequence the model is trained for, in tokens.
        initializer_range: Standard deviation of the normal initialisation.
        rms_norm_eps: Added to the mean square before the root.
        use_cache: Whether to return keys and values for generation.
        tie_word_embeddings: Whether the output head shares the input embedding's weight.
        rope_parameters: Rotary embedding, `{"rope_type": "default" | "linear" | "dynamic" | "yarn" | "llama3",
            "rope_theta": 10000.0, ...}` as in transformers.
        attention_bias: Whether the query, key and value projections have a bias.
        attention_output_bias: Whether the attention's output projection has a bias; `None` means as `attention_bias`.
        mlp_bias: Whether the feed-forward projections have a bias.
        use_qk_norm: Whether queries and keys pass an RMSNorm of width `head_dim` before the rotation.
        attention_dropout: Dropout on attention probabilities, in training.
        sliding_window: Tokens a sliding layer sees, itself included; required where a layer slides.
        layer_types: For each layer `"full_attention"` or `"sliding_attention"`; `None` means all full.
        loss_chunk_size: Tokens whose logits exist at one time while the training loss is computed; 0 computes all
            logits at once, as transformers does.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a field has the wrong type or a size does not fit the others;
            the message names the field, what it needs and what it got.

    Example:
        >>> AstroLLMConfig.from_preset("13b").num_key_value_heads
        8
    """

    model_type = "astro_llm"
    keys_to_ignore_at_inference = ["past_key_values"]
    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    base_model_pp_plan = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 54272
    hidden_size: int = 2048
    intermediate_size: int = 5632
    num_hidden_layers: int = 18
    num_attention_heads: int = 16
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096
    initializer_range: float = interval(min=0.0, max=1.0)(default=0.02)
    rms_norm_eps: float = interval(min=0.0)(default=1e-6)
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False
    rope_parameters: RopeParameters | dict | None = None
    attention_bias: bool = False
    attention_output_bias: bool | None = None
    mlp_bias: bool = False
    use_qk_norm: bool = False
    attention_dropout: int | float = interval(min=0.0, max=1.0)(default=0.0)
    sliding_window: int | None = None
    layer_types: list[str] | None = None
    loss_chunk_size: int = 384

    def __post_init__(self, **kwargs):
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None and self.num_attention_heads > 0:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.attention_output_bias is None:
            self.attention_output_bias = self.attention_bias
        if self.layer_types is None:
            self.layer_types = ["full_attention"] * self.num_hidden_layers
        if self.use_qk_norm:
            self.base_model_tp_plan = {
                **type(self).base_model_tp_plan,
                "layers.*.self_attn.q_norm": "replicated_with_grad_allreduce",
                "layers.*.self_attn.k_norm": "replicated_with_grad_allreduce",
            }
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """Check that the sizes fit one another; run by `@strict` at construction and before saving."""
        positive = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        )
        for name in positive:
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")
        if self.loss_chunk_size < 0:
            raise ValueError(
                f"loss_chunk_size must be 0 (all logits at once) or a number of tokens; got {self.loss_chunk_size}."
            )
        if self.num_attention_heads % self.num_key_value_heads != 0:
            raise ValueError(
                f"num_attention_heads must be a multiple of num_key_value_heads ({self.num_key_value_heads}); "
                f"got {self.num_attention_heads}. Choose num_key_value_heads among its divisors."
            )
        if self.head_dim % 2 != 0:
            raise ValueError(f"head_dim must be even for rotary positions; got {self.head_dim}.")
        if self.hidden_act not in ACT2FN:
            near = difflib.get_close_matches(self.hidden_act, ACT2FN, n=1)
            raise ValueError(
                f"hidden_act must be one of transformers' ACT2FN; got {self.hidden_act!r}. Nearest: {near}."
            )
        if "rope_type" not in self.rope_parameters:
            raise ValueError(
                "rope_parameters must be one set for all layers, with a 'rope_type'; "
                f"got the keys {sorted(self.rope_parameters)}."
            )
        if self.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                "rope_parameters['partial_rotary_factor'] must be 1, for the whole of a head is rotated; "
                f"got {self.rope_parameters['partial_rotary_factor']}."
            )
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types must have num_hidden_layers ({self.num_hidden_layers}) entries; "
                f"got {len(self.layer_types)}."
            )
        for index, layer_type in enumerate(self.layer_types):
            if layer_type not in _LAYER_TYPES:
                raise ValueError(f"layer_types[{index}] must be one of {_LAYER_TYPES}; got {layer_type!r}.")
        if "sliding_attention" in self.layer_types and (self.sliding_window is None or self.sliding_window < 1):
            raise ValueError(
                "sliding_window must be a number of tokens of at least 1 where layer_types has 'sliding_attention'; "
                f"got {self.sliding_window}."
            )

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "AstroLLMConfig":
        """Build the configuration of a named preset.

        Args:
            name: One of `ASTRO_LLM_PRESETS`: "tiny", "nano", "1b", "13b", "13b_open".
            **overrides: Fields to change.

        Raises:
            ValueError: If the preset or an overridden field is unknown; the message names the nearest one.
        """
        # `num_labels` is a property, set through `id2label`.
        return config_from_preset(cls, ASTRO_LLM_PRESETS, name, overrides, properties=("num_labels",))
