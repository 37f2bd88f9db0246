"""Astrobiology models, data sets and recipes for the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from .configuration_astro_llm import ASTRO_LLM_PRESETS, AstroLLMConfig
from .modeling_astro_llm import (
    AstroLLMForCausalLM,
    AstroLLMForSequenceClassification,
    AstroLLMModel,
    AstroLLMPreTrainedModel,
)
from .version import __version__


__all__ = [
    "ASTRO_LLM_PRESETS",
    "AstroLLMConfig",
    "AstroLLMForCausalLM",
    "AstroLLMForSequenceClassification",
    "AstroLLMModel",
    "AstroLLMPreTrainedModel",
    "__version__",
]

AutoConfig.register("astro_llm", AstroLLMConfig)
AstroLLMConfig.register_for_auto_class()
for _auto_class, _model_class in (
    (AutoModel, AstroLLMModel),
    (AutoModelForCausalLM, AstroLLMForCausalLM),
    (AutoModelForSequenceClassification, AstroLLMForSequenceClassification),
):
    _auto_class.register(AstroLLMConfig, _model_class)
    _model_class.register_for_auto_class(_auto_class.__name__)
