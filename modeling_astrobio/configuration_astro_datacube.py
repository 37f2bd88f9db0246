"""Configuration of AstroDatacube: a convolutional pyramid, windows on the sphere, all to all on the coarsest grid."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils.type_validators import interval

from .climate_residuals import checked_names
from .configuration_presets import config_from_preset
from .datacube_statistics import check_departure_shares, check_statistics
from .geostrophic_wind import GEOSTROPHIC_PARAMETERS


__all__ = ["ASTRO_DATACUBE_PRESETS", "FORECAST_SHARES", "PLANET_PARAMETERS", "AstroDatacubeConfig"]


PLANET_PARAMETERS = (
    *("stellar_flux_w_m2", "stellar_temperature_k", "radius_m", "gravity_m_s2", "rotation_period_s"),
    *(
        "synchronous",
        "substellar_longitude_deg",
        "obliquity_deg",
        "eccentricity",
        "surface_pressure_pa",
        "co2_partial_pressure_pa",
    ),
    *("gas_constant_dry_j_kg_k", "gas_constant_vapour_j_kg_k", "heat_capacity_dry_j_kg_k"),
    *("heat_capacity_vapour_j_kg_k", "latent_heat_j_kg"),
)
"""What is told of a planet, in SI units but for angles; `synchronous` is 0 or 1, and where it is 1 one side always
faces the star, about the substellar longitude."""

FORECAST_SHARES = (
    *("level_variables", "surface_variables", "forcing_variables", "vector_variables", "planet_parameters"),
    *("num_input_steps", "level_kind", "is_closed_system"),
)
"""Fields that a model has in common with the forecast that it draws departures from."""

ASTRO_DATACUBE_PRESETS: dict[str, dict[str, Any]] = {
    # Tests: every size differs, so that swapped axes fail.
    "tiny": {
        "level_variables": ["ta", "ua", "va", "hus"],
        "surface_variables": ["ps", "ts", "pr"],
        "forcing_variables": ["lsm", "sg"],
        "hidden_sizes": [12, 20, 32],
        "depths": [1, 2, 2],
        "num_attention_heads": [3, 5, 4],
        "num_latent_levels": 3,
        "window_size": [2, 4],
        "conditioning_size": 14,
    },
    # The default run: minutes on two CPU cores.
    "nano": {
        "hidden_sizes": [32, 64, 96],
        "depths": [2, 1, 1],
        "num_attention_heads": [2, 4, 6],
        "num_latent_levels": 3,
        "window_size": [4, 8],
        "conditioning_size": 64,
    },
    # 2.50B parameters.
    "2b5": {
        "hidden_sizes": [512, 1280, 2560],
        "depths": [3, 6, 21],
        "num_attention_heads": [8, 20, 40],
        "num_latent_levels": 8,
        "window_size": [6, 12],
        "conditioning_size": 480,
        "patch_size": 4,
    },
}


@strict
class AstroDatacubeConfig(PreTrainedConfig):
    r"""Shape and numerics of an AstroDatacube.

    Args:
        level_variables: Short names of variables on levels, as CMIP6 has them.
        surface_variables: Of variables at the surface that are predicted.
        forcing_variables: Of variables at the surface that are given and not predicted, such as the land-sea mask.
        vector_variables: Those of the variables that are components along east or north: they change their sign
            where a field is continued across a pole.
        planet_parameters: Names of the numbers that describe a planet.
        num_input_steps: States before the predicted one that the model reads, T; 0 where it knows of planet and
            forcing alone.
        num_noisy_steps: Noisy states that the model reads after these: 1 in a diffusion model, which sets it.
        conditioned_on: Numbers beside the planet that blocks are conditioned on, see `CubeConditioning`; a head sets
            what it needs.
        patch_size: Cells along each side that make one column of the finest feature grid.
        hidden_sizes: Width at each scale, from the finest grid to the coarsest; each has half the rows and columns of
            the one before. The first has convolutions, the last attention of all to all, those between attention in
            windows and convolutions.
        depths: Number of blocks at each scale; all but those at the coarsest come twice, on the way down and up.
        num_attention_heads: Number of heads at each scale; of the first, in pooling and reading levels.
        num_latent_levels: Levels that any number of physical levels are pooled into.
        window_size: Rows and columns of a window, at most.
        conv_kernel_size: Rows and columns that a convolution of a block sees; odd.
        conv_ratio: Width of the convolutions of blocks over that of the tokens.
        mlp_ratio: Width of the feed-forward blocks, at the coarsest scale, over that of the tokens.
        conditioning_size: Width of what is known of the planet, the lead time and the noise.
        statistics: Of the training data, as `AstroDatacubeProcessor` finds them: see `datacube_statistics`. `None`
            leaves all values as they are.
        constraints: Names of the physical constraints that a predicted state is corrected to, of
            `climate_constraints.CLIMATE_CONSTRAINTS`.
        level_kind: What levels are surfaces of: `sigma`, pressure over surface pressure, or `pressure`.
        geostrophic_start: Whether winds `ua` and `va` that are missing on a level whose height `zg`, m, is known are
            read as the geostrophic wind, still marked as missing, and reconstructed as a departure from it, in their
            `difference_scale`. On levels of pressure; see `geostrophic_wind`.
        forecast_config: Fields of the configuration of a forecast that a diffusion model holds and draws departures
            from; `None` draws changes from the last state read. Of the same variables and planets.
        is_closed_system: Whether nothing comes or goes, so that water and energy are pinned and fluxes do not count.
        hidden_dropout: Dropout on the output of a block, in training.
        layer_norm_eps: Added to the variance before the root, in all norms.
        initializer_factor: Standard deviation of the normal initialisation times the root of the number of inputs.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a field has the wrong type or a size does not fit the others;
            the message names the field, what it needs and what it got.

    Example:
        >>> AstroDatacubeConfig.from_preset("2b5").hidden_sizes
        [512, 1280, 2560]
    """

    model_type = "astro_datacube"

    level_variables: list | tuple = ("ta", "ua", "va", "hus", "zg")
    surface_variables: list | tuple = (
        *("ps", "ts", "pr", "evspsbl", "rst", "rlut", "rss", "rls", "hfss", "hfls"),
        *("clt", "tas"),
    )
    forcing_variables: list | tuple = ("lsm", "sg")
    vector_variables: list | tuple = ("ua", "va", "u", "v")
    planet_parameters: list | tuple = PLANET_PARAMETERS
    num_input_steps: int = 1
    num_noisy_steps: int = 0
    conditioned_on: list | tuple = ()
    patch_size: int = 2
    hidden_sizes: list | tuple = (32, 64, 96)
    depths: list | tuple = (2, 1, 1)
    num_attention_heads: list | tuple = (2, 4, 6)
    num_latent_levels: int = 3
    window_size: list | tuple = (4, 8)
    conv_kernel_size: int = 3
    conv_ratio: int | float = interval(min=0.1)(default=2.0)
    mlp_ratio: int | float = interval(min=0.1)(default=4.0)
    conditioning_size: int = 64
    statistics: dict | None = None
    constraints: list | tuple = ()
    level_kind: str = "sigma"
    geostrophic_start: bool = False
    forecast_config: dict | None = None
    is_closed_system: bool = False
    hidden_dropout: int | float = interval(min=0.0, max=1.0)(default=0.0)
    layer_norm_eps: float = interval(min=0.0)(default=1e-5)
    initializer_factor: int | float = interval(min=0.0)(default=1.0)

    def __post_init__(self, **kwargs):
        for name, value in vars(self).copy().items():
            if isinstance(value, tuple):
                setattr(self, name, list(value))
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width of the features that heads read."""
        return self.hidden_sizes[0]

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks, those on the way up included."""
        return 2 * sum(self.depths) - self.depths[-1]

    @property
    def num_read_steps(self) -> int:
        """States that the stem reads, the forecast and the noisy one included."""
        return self.num_input_steps + (self.forecast_config is not None) + self.num_noisy_steps

    @property
    def total_stride(self) -> int:
        """Cells along each side that make one cell of the coarsest grid."""
        return self.patch_size * 2 ** (len(self.hidden_sizes) - 1)

    def validate_architecture(self):
        """Check that the sizes fit one another; run by `@strict` at construction and before saving."""
        positive = ("patch_size", "num_latent_levels", "conditioning_size", "conv_kernel_size")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("num_input_steps", "num_noisy_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0; got {getattr(self, name)}.")
        scales = len(self.hidden_sizes)
        if scales < 3:
            raise ValueError(
                f"hidden_sizes must name at least 3 scales: convolutions, windows, all to all; got {self.hidden_sizes}"
            )
        for name, length in (
            ("hidden_sizes", scales),
            ("depths", scales),
            ("num_attention_heads", scales),
            ("window_size", 2),
        ):
            value = getattr(self, name)
            if len(value) != length or not all(isinstance(each, int) and each >= 1 for each in value):
                raise ValueError(f"{name} must be {length} whole numbers of at least 1; got {value}.")
        for width, heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if width % heads or (width // heads) % 4:
                raise ValueError(
                    "hidden_sizes must be num_attention_heads times a multiple of 4, at each scale: latitude and "
                    f"longitude each turn pairs of numbers; got {self.hidden_sizes} and {self.num_attention_heads}."
                )
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size must be odd; got {self.conv_kernel_size}.")
        if self.level_kind not in ("sigma", "pressure"):
            raise ValueError(f"level_kind must be sigma or pressure; got {self.level_kind!r}.")
        self._validate_names()
        if self.geostrophic_start:
            self._validate_geostrophic_start()
        if self.forecast_config is not None:
            self._validate_forecast_config(self.forecast_config)

    def _validate_names(self) -> None:
        names = [*self.level_variables, *self.surface_variables, *self.forcing_variables]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"level_variables, surface_variables and forcing_variables must name each variable once; got {twice} "
                "twice."
            )
        if not (self.level_variables or self.surface_variables):
            raise ValueError("level_variables and surface_variables must name at least one variable; got none.")
        checked_names(self.constraints)
        for name in self.conditioned_on:
            if name not in ("lead_time_s", "noise_level"):
                raise ValueError(f"conditioned_on must be of lead_time_s and noise_level; got {name!r}.")
        if not self.planet_parameters:
            raise ValueError("planet_parameters must name at least one parameter; got none.")
        if self.statistics is not None:
            check_statistics(self.statistics, self.level_variables, names, self.planet_parameters)

    def _validate_forecast_config(self, fields: dict) -> None:
        forecast = type(self)(**fields)
        if forecast.forecast_config is not None:
            raise ValueError("forecast_config must be that of a forecast, which has none of its own; it has one.")
        for name in FORECAST_SHARES:
            if getattr(forecast, name) != getattr(self, name):
                raise ValueError(
                    f"{name} must be that of forecast_config, {getattr(forecast, name)}; got {getattr(self, name)}."
                )
        if self.statistics is not None:
            check_departure_shares(self.statistics, self.level_variables, self.surface_variables)

    def _validate_geostrophic_start(self) -> None:
        if self.level_kind != "pressure":
            raise ValueError(f"level_kind must be pressure for geostrophic_start; got {self.level_kind!r}.")
        for field, wanted in (
            ("level_variables", ("zg", "ua", "va")),
            ("planet_parameters", GEOSTROPHIC_PARAMETERS),
        ):
            missing = [name for name in wanted if name not in getattr(self, field)]
            if missing:
                raise ValueError(
                    f"{field} must name {', '.join(wanted)} for geostrophic_start; {', '.join(missing)} is missing."
                )

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "AstroDatacubeConfig":
        """Build the configuration of a named preset.

        Args:
            name: One of `ASTRO_DATACUBE_PRESETS`: "tiny", "nano", "2b5".
            **overrides: Fields to change.

        Raises:
            ValueError: If the preset or an overridden field is unknown; the message names the nearest one.
        """
        return config_from_preset(cls, ASTRO_DATACUBE_PRESETS, name, overrides)
