"""Astrobiology models, data sets and recipes for the Hugging Face ecosystem."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageToImage,
    AutoModelForMaskedImageModeling,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTimeSeriesPrediction,
    AutoProcessor,
)

from .configuration_astro_datacube import ASTRO_DATACUBE_PRESETS, AstroDatacubeConfig
from .configuration_astro_graph_vae import ASTRO_GRAPH_VAE_PRESETS, AstroGraphVAEConfig
from .configuration_astro_llm import ASTRO_LLM_PRESETS, AstroLLMConfig
from .graph_few_shot import GraphFewShotAdapter
from .modeling_astro_datacube import AstroDatacubeModel, AstroDatacubePreTrainedModel
from .modeling_astro_datacube_diffusion import AstroDatacubeForDiffusion
from .modeling_astro_datacube_heads import (
    AstroDatacubeForForecasting,
    AstroDatacubeForMaskedReconstruction,
    AstroDatacubeForSteadyState,
)
from .modeling_astro_graph_vae import AstroGraphVAEModel, AstroGraphVAEPreTrainedModel
from .modeling_astro_graph_vae_gap_filling import AstroGraphVAEForReactionCompletion
from .modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction
from .modeling_astro_llm import (
    AstroLLMForCausalLM,
    AstroLLMForSequenceClassification,
    AstroLLMModel,
    AstroLLMPreTrainedModel,
)
from .processing_astro_datacube import AstroDatacubeProcessor
from .processing_astro_graph_vae import AstroGraphVAEProcessor
from .version import __version__


__all__ = [
    "ASTRO_DATACUBE_PRESETS",
    "ASTRO_GRAPH_VAE_PRESETS",
    "ASTRO_LLM_PRESETS",
    "AstroDatacubeConfig",
    "AstroDatacubeForDiffusion",
    "AstroDatacubeForForecasting",
    "AstroDatacubeForMaskedReconstruction",
    "AstroDatacubeForSteadyState",
    "AstroDatacubeModel",
    "AstroDatacubePreTrainedModel",
    "AstroDatacubeProcessor",
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
        AstroDatacubeConfig,
        {
            AutoModel: AstroDatacubeModel,
            AutoModelForImageToImage: AstroDatacubeForSteadyState,
            AutoModelForMaskedImageModeling: AstroDatacubeForMaskedReconstruction,
            AutoModelForPreTraining: AstroDatacubeForDiffusion,
            AutoModelForTimeSeriesPrediction: AstroDatacubeForForecasting,
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
for _config_class, _processor_class in (
    (AstroDatacubeConfig, AstroDatacubeProcessor),
    (AstroGraphVAEConfig, AstroGraphVAEProcessor),
):
    AutoProcessor.register(_config_class, _processor_class)
    _processor_class.register_for_auto_class()
