"""Astrobiology models, data sets and recipes for the Hugging Face ecosystem."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from .configuration_astro_graph_vae import ASTRO_GRAPH_VAE_PRESETS, AstroGraphVAEConfig
from .configuration_astro_llm import ASTRO_LLM_PRESETS, AstroLLMConfig
from .graph_few_shot import GraphFewShotAdapter
from .modeling_astro_graph_vae import AstroGraphVAEModel, AstroGraphVAEPreTrainedModel
from .modeling_astro_graph_vae_gap_filling import AstroGraphVAEForReactionCompletion
from .modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction
from .modeling_astro_llm import (
    AstroLLMForCausalLM,
    AstroLLMForSequenceClassification,
    AstroLLMModel,
    AstroLLMPreTrainedModel,
)
from .processing_astro_graph_vae import AstroGraphVAEProcessor
from .version import __version__


__all__ = [
    "ASTRO_GRAPH_VAE_PRESETS",
    "ASTRO_LLM_PRESETS",
    "AstroGraphVAEConfig",
    "AstroGraphVAEForPropertyPrediction",
    "AstroGraphVAEForReactionCompletion",
    "AstroGraphVAEModel",
    "AstroGraphVAEPreTrainedModel",
    "AstroGraphVAEProcessor",
    "AstroLLMConfig",
    "AstroLLMForCausalLM",
    "AstroLLMForSequenceClassification",
    "AstroLLMModel",
    "AstroLLMPreTrainedModel",
    "GraphFewShotAdapter",
    "__version__",
]

for _config_class, _model_classes in (
    (
        AstroLLMConfig,
        {
            AutoModel: AstroLLMModel,
            AutoModelForCausalLM: AstroLLMForCausalLM,
            AutoModelForSequenceClassification: AstroLLMForSequenceClassification,
        },
    ),
    (
        AstroGraphVAEConfig,
        {
            AutoModel: AstroGraphVAEModel,
            AutoModelForMultipleChoice: AstroGraphVAEForReactionCompletion,
            AutoModelForSequenceClassification: AstroGraphVAEForPropertyPrediction,
        },
    ),
):
    AutoConfig.register(_config_class.model_type, _config_class)
    _config_class.register_for_auto_class()
    for _auto_class, _model_class in _model_classes.items():
        _auto_class.register(_config_class, _model_class)
        _model_class.register_for_auto_class(_auto_class.__name__)
AutoProcessor.register(AstroGraphVAEConfig, AstroGraphVAEProcessor)
AstroGraphVAEProcessor.register_for_auto_class()
