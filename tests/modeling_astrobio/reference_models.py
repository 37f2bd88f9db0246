"""Tiny AstroLLMs and the transformers models they must equal, with the same weights."""

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM


# A small odd vocabulary: one forward pass of the preset "tiny" then takes a few milliseconds.
VOCAB_SIZE = 97

_SHARED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_parameters",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
_REFERENCES = {
    "llama": (LlamaConfig, LlamaForCausalLM, ("attention_bias", "mlp_bias"), {}),
    "mistral": (MistralConfig, MistralForCausalLM, ("sliding_window",), {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, ("sliding_window", "layer_types"), {"use_sliding_window": True}),
    "qwen3": (
        Qwen3Config,
        Qwen3ForCausalLM,
        ("sliding_window", "layer_types", "attention_bias"),
        {"use_sliding_window": True},
    ),
}
_ASTRO_FIELDS = {
    "llama": {},
    "mistral": {"layer_types": ["sliding_attention"] * 3, "sliding_window": 5},
    "qwen2": {"attention_bias": True, "attention_output_bias": False},
    "qwen3": {"use_qk_norm": True},
}


def tiny_config(**overrides) -> AstroLLMConfig:
    """Return the preset "tiny" with a vocabulary of 97 tokens and the fields given."""
    return AstroLLMConfig.from_preset("tiny", **{"vocab_size": VOCAB_SIZE, **overrides})


def randomised(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Give every parameter, norms and biases too, seeded values of a useful size: at init many are exactly 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        scale, centre = (0.2, 1.0) if "norm" in name else (0.1 if name.endswith("bias") else 0.15, 0.0)
        parameter.data.copy_(centre + scale * values)
    return model


def tiny_model(
    dtype: torch.dtype = torch.float32, attention: str = "sdpa", seed: int = 0, **overrides
) -> AstroLLMForCausalLM:
    """Return a seeded AstroLLM in eval mode, in `dtype` and with the attention kernel named."""
    model = randomised(AstroLLMForCausalLM(tiny_config(**overrides)), seed).to(dtype).eval()
    model.set_attn_implementation(attention)
    return model


def astro_and_reference(
    reference: str = "llama", attention: str = "eager", seed: int = 0, **overrides
) -> tuple[AstroLLMForCausalLM, PreTrainedModel]:
    """Return an AstroLLM and the transformers model of the same shape with the same weights, in eval mode.

    Args:
        reference: "llama", "mistral", "qwen2" or "qwen3".
        attention: Kernel of both.
        seed: Seed of the weights.
        **overrides: Fields of `AstroLLMConfig`.
    """
    astro = tiny_model(attention=attention, seed=seed, **{**_ASTRO_FIELDS[reference], **overrides})
    config_class, model_class, fields, extra = _REFERENCES[reference]
    values = {name: getattr(astro.config, name) for name in (*_SHARED_FIELDS, *fields)}
    other = model_class(config_class(**values, **extra)).eval()
    other.set_attn_implementation(attention)
    other.load_state_dict(astro.state_dict(), strict=True)
    return astro, other


def random_tokens(*shape: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> torch.Tensor:
    """Return token ids between 3 and `vocab_size` - 1; 0, 1 and 2 are left to padding, start and end."""
    return torch.randint(3, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def assert_same_gradients(ours: PreTrainedModel, theirs: PreTrainedModel, rtol: float, atol: float) -> None:
    """Compare the gradients of parameters of one name; none may be missing on either side."""
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    found = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name] is not None, name
        torch.testing.assert_close(
            found[name], gradient, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
        )
