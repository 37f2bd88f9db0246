"""AstroDatacube: climates of planets in five dimensions, by convolutions, windows on the sphere, and a transformer.

Fields go in and come out in the units of the statistics, those of the training data, NaN where a value is missing;
normalisation happens inside. Constraints read SI units, as `climate_state` has them.

Shape suffixes: B batch, V variables on levels, S at the surface, F forcing variables, T states read, L levels, Y
latitudes, X longitudes, N parameters of a planet, P rows and columns of a patch, D width.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_sphere import SphereAttention
from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_blocks import ConvolutionBlock, GlobalBlock, GridMerging, GridSplitting, WindowBlock
from .datacube_conditioning import AdaptiveNorm, CubeConditioning
from .datacube_grid import WorkGrid, work_grid
from .datacube_inputs import check_cube_inputs
from .datacube_levels import LevelEmbedding, LevelPooling, LevelReadout
from .datacube_stem import CubeStem


__all__ = ["AstroDatacubeModel", "AstroDatacubeOutput", "AstroDatacubePreTrainedModel"]


# What transformers passes along.
_SWITCHES = {"output_attentions", "output_hidden_states", "return_dict", "num_items_in_batch", "use_cache"}


@dataclass
class AstroDatacubeOutput(ModelOutput):
    """What the trunk says of a batch.

    Attributes:
        last_hidden_state: Features of the levels, and of the surface as the last one, shape (B, L + 1, Y', X', D), on
            a grid of patches: Y' and X' are rows and columns over P, rounded up so that all scales fit.
        hidden_states: States after each block, where asked for, shape (B, C, Y', X', D) of its scale.
        attentions: Of each attention, where asked for, of a kernel that has them.
    """

    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class AstroDatacubePreTrainedModel(PreTrainedModel):
    """Weights, initialisation and saving shared by the AstroDatacube classes."""

    config: AstroDatacubeConfig
    config_class = AstroDatacubeConfig
    base_model_prefix = "model"
    main_input_name = "surface_fields"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConvolutionBlock", "WindowBlock", "GlobalBlock"]
    _supports_sdpa = True
    # The loss is a mean over the batch: the Trainer must divide it by the number of batches accumulated.
    accepts_loss_kwargs = False
    # The class of `transformers` that opens a head.
    auto_model: str | None = None
    _can_record_outputs = {
        "hidden_states": [
            OutputRecorder(ConvolutionBlock),
            OutputRecorder(WindowBlock),
            OutputRecorder(GlobalBlock),
        ],
        "attentions": OutputRecorder(SphereAttention, index=1),
    }

    def _init_weights(self, module: nn.Module) -> None:
        factor = self.config.initializer_factor
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=factor * module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        else:
            super()._init_weights(module)
        if isinstance(module, AdaptiveNorm):
            # Blocks begin nearly alike for all planets.
            nn.init.normal_(module.modulation.weight, std=0.1 * factor * self.config.conditioning_size**-0.5)
        elif isinstance(module, LevelEmbedding):
            nn.init.normal_(module.surface, std=factor)
        elif isinstance(module, LevelPooling):
            nn.init.normal_(module.latent_levels, std=factor)

    def save_pretrained(self, save_directory, **kwargs):
        """Save as `PreTrainedModel.save_pretrained` does, with the auto classes of config and model in the config."""
        configuration = AstroDatacubeConfig.__module__.rsplit(".", 1)[-1]
        base = AstroDatacubePreTrainedModel.__module__.rsplit(".", 1)[-1]
        self.config.auto_map = {
            "AutoConfig": f"{configuration}.AstroDatacubeConfig",
            "AutoModel": f"{base}.AstroDatacubeModel",
        }
        return super().save_pretrained(save_directory, **{"max_shard_size": "5GB", **kwargs})


class AstroDatacubeModel(AstroDatacubePreTrainedModel):
    """The trunk: features of every level of every column."""

    _keys_to_ignore_on_load_unexpected = [r"^head\.", r"^forecast\."]

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__(config)
        widths, depths, heads = config.hidden_sizes, config.depths, config.num_attention_heads
        last = len(widths) - 1
        self.stem = CubeStem(config)
        self.conditioning = CubeConditioning(config)
        self.level_pooling = LevelPooling(config)

        def blocks(index: int, first: int = 0) -> nn.ModuleList:
            width, depth = widths[index], depths[index]
            if index == 0:
                return nn.ModuleList(ConvolutionBlock(width, config) for _ in range(depth))
            if index == last:
                return nn.ModuleList(GlobalBlock(width, heads[index], config) for _ in range(depth))
            return nn.ModuleList(
                WindowBlock(width, heads[index], config, is_shifted=bool(place % 2))
                for place in range(first, first + depth)
            )

        self.down_blocks = nn.ModuleList(blocks(index) for index in range(len(widths)))
        self.merges = nn.ModuleList(GridMerging(widths[i], widths[i + 1], config) for i in range(last))
        self.up_blocks = nn.ModuleList(blocks(index, first=depths[index]) for index in reversed(range(last)))
        self.splits = nn.ModuleList(GridSplitting(widths[i + 1], widths[i], config) for i in reversed(range(last)))
        self.level_readout = LevelReadout(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the convolution of the surface fields."""
        return self.stem.surface_conv

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the convolution of the surface fields."""
        self.stem.surface_conv = value

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        surface_fields: torch.Tensor | None = None,
        level_fields: torch.Tensor | None = None,
        forcing_fields: torch.Tensor | None = None,
        levels: torch.Tensor | None = None,
        latitude_deg: torch.Tensor | None = None,
        longitude_deg: torch.Tensor | None = None,
        planet: torch.Tensor | None = None,
        **told,
    ) -> AstroDatacubeOutput:
        """Read climates.

        Args:
            surface_fields: Shape (B, S, T, Y, X), in the units of the statistics, NaN where a value is missing.
            level_fields: Shape (B, V, T, L, Y, X), likewise.
            forcing_fields: Shape (B, F, Y, X), likewise.
            levels: Pressure over nominal surface pressure, from the top down, shape (B, L).
            latitude_deg: Of the rows, shape (B, Y), the same for the whole batch.
            longitude_deg: Of the columns, shape (B, X), likewise.
            planet: Shape (B, N), of `config.planet_parameters`, in their units; NaN where one is not known.
            **told: The numbers of `config.conditioned_on`, each of shape (B,).

        Raises:
            ValueError: If a shape does not fit; names the input and its axes.
        """
        unknown = sorted(set(told) - set(self.config.conditioned_on) - _SWITCHES)
        if unknown:
            told_here = ", ".join(self.config.conditioned_on) or "nothing"
            raise ValueError(
                f"{', '.join(unknown)} is not read; beside fields and axes a model of this config reads {told_here}."
            )
        inputs = check_cube_inputs(
            self.config,
            told={name: told.get(name) for name in self.config.conditioned_on},
            surface_fields=surface_fields,
            level_fields=level_fields,
            forcing_fields=forcing_fields,
            levels=levels,
            latitude_deg=latitude_deg,
            longitude_deg=longitude_deg,
            planet=planet,
        )
        work = work_grid(inputs["latitude_deg"][0], inputs["longitude_deg"][0], self.config)
        return AstroDatacubeOutput(last_hidden_state=self._run(inputs, work, told))

    def _run(self, inputs: dict[str, torch.Tensor | None], work: WorkGrid, told: dict[str, torch.Tensor]):
        condition = self.conditioning(inputs["planet"], told)
        features = self.stem(
            inputs["level_fields"],
            inputs["surface_fields"],
            inputs["forcing_fields"],
            inputs["levels"],
            inputs["planet"],
            work,
        )
        states = self.level_pooling(features.states, features.is_present)
        skips = []
        for index, blocks in enumerate(self.down_blocks):
            if index:
                states = self.merges[index - 1](states)
            states = self._through(blocks, index, states, condition, work)
            skips.append(states)
        for place, (split, blocks) in enumerate(zip(self.splits, self.up_blocks, strict=True)):
            index = len(skips) - 2 - place
            states = self._through(blocks, index, split(states, skips[index]), condition, work)
        return self.level_readout(states, features.embedding, features.states)

    @staticmethod
    def _through(blocks: nn.ModuleList, index: int, states, condition, work: WorkGrid) -> torch.Tensor:
        """States after the blocks of a scale."""
        others = (work.scale(index, states),) if index else ()
        for block in blocks:
            states = block(states, condition, *others)
        return states
