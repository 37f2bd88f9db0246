"""The configuration and the processor that a recipe of the graph VAE asks for."""

from modeling_astrobio import AstroGraphVAEConfig, AstroGraphVAEProcessor

from .preset_model import PresetModelRecipe, preset_config


__all__ = ["graph_config", "graph_processor"]


def graph_config(recipe: PresetModelRecipe) -> AstroGraphVAEConfig:
    """Return the configuration of the recipe's preset or checkpoint, see `preset_config`."""
    return preset_config(recipe, AstroGraphVAEConfig)


def graph_processor(config: AstroGraphVAEConfig) -> AstroGraphVAEProcessor:
    """Return the processor of a configuration."""
    return AstroGraphVAEProcessor(config.atom_types, config.max_nodes)
