"""The physics of predicted fields: which system they lie on, and their correction to what is conserved.

Shape suffixes: B batch, V variables on levels, S at the surface, L levels, Y latitudes, X longitudes.
"""

from collections.abc import Mapping, Sequence

import torch

from .climate_constraints import ClimateCorrection, apply_climate_constraints
from .climate_levels import pressure_levels, sigma_levels
from .climate_planet import PlanetParameters
from .climate_residuals import FLUXES_READ, PLANET_READ, open_ledger
from .climate_state import ClimateSystem, check_climate_state
from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_grid import WorkGrid


__all__ = ["CubePhysics"]

Fields = Sequence[torch.Tensor | None]
Ledger = Mapping[str, torch.Tensor]


class CubePhysics:
    """The constraints of a configuration, on the planets and the grid of a batch.

    Args:
        config: Names of variables, planet parameters and constraints.
        work: The grid.
        levels: Pressure over nominal surface pressure, shape (B, L), the same for the whole batch.
        planet: Shape (B, N), see `AstroDatacubeModel.forward`.
        forcing_fields: Shape (B, F, Y, X); `sg` of it is the surface geopotential.
        step_s: Length of a step, s, shape (B,), the same for the whole batch; `None` in a closed system.
        names: Of the constraints; those of the configuration by default.

    Raises:
        ValueError: If levels or steps differ within the batch, or a parameter that the constraints read is not known.
    """

    def __init__(
        self,
        config: AstroDatacubeConfig,
        work: WorkGrid,
        levels: torch.Tensor,
        planet: torch.Tensor,
        forcing_fields: torch.Tensor | None,
        step_s: torch.Tensor | None,
        names: Sequence[str] | None = None,
    ):
        self.config = config
        self.names = list(config.constraints if names is None else names)
        for name, value in (("levels", levels), ("lead_time_s", step_s)):
            if value is not None and not torch.equal(value, value[:1].expand_as(value)):
                raise ValueError(
                    f"{name} must be the same for the whole batch where constraints are on; got different ones. Batch "
                    "cubes by them, or switch the constraints off."
                )
        ground = None
        if "sg" in config.forcing_variables and forcing_fields is not None:
            ground = forcing_fields[:, config.forcing_variables.index("sg")]
            if not bool(ground.isfinite().all()):
                raise ValueError(
                    "forcing_fields must hold sg, the surface geopotential, everywhere where constraints are on; it "
                    "holds NaN. Fill it, or switch the constraints off."
                )
        self.system = ClimateSystem(
            planet=self._planet(planet),
            cell_weights=work.grid.cell_weights,
            levels=self._levels(levels, planet),
            step_s=None if step_s is None else float(step_s[0]),
            surface_geopotential=ground,
            closed=config.is_closed_system,
        )

    def _planet(self, planet: torch.Tensor) -> PlanetParameters:
        known = dict(zip(self.config.planet_parameters, planet.unbind(1), strict=True))
        # What is not read is 1.
        read = {name for constraint in self.names for name in PLANET_READ[constraint]}
        if self.config.level_kind == "pressure" and self.config.level_variables:
            read.add("surface_pressure_pa")
        for name in sorted(read):
            if name not in known or not bool(known[name].isfinite().all()):
                raise ValueError(
                    f"planet must hold {name} where constraints are on; it is not known. Give it, or switch the "
                    "constraints off."
                )
        ones = torch.ones_like(planet[:, 0])
        return PlanetParameters(*(known[name] if name in read else ones for name in PlanetParameters._fields))

    def _levels(self, levels: torch.Tensor, planet: torch.Tensor):
        if not levels.shape[1]:
            return None
        mid = levels[0].double().cpu()
        if self.config.level_kind == "sigma":
            return sigma_levels(mid)
        pressure = planet[:, self.config.planet_parameters.index("surface_pressure_pa")]
        if not torch.equal(pressure, pressure[:1].expand_as(pressure)):
            raise ValueError(
                "planet must have one surface_pressure_pa for the whole batch where constraints are on and levels are "
                f"pressures; got {pressure.tolist()}. Batch cubes by it, or switch the constraints off."
            )
        return pressure_levels(mid * float(pressure[0]))

    def state(self, level_fields: torch.Tensor | None, surface_fields: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Return fields by name; of fields (B, V, L, Y, X) and (B, S, Y, X)."""
        found: dict[str, torch.Tensor] = {}
        for fields, names in (
            (level_fields, self.config.level_variables),
            (surface_fields, self.config.surface_variables),
        ):
            if fields is not None:
                found.update(zip(names, fields.unbind(1), strict=True))
        return found

    def fields(self, state: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return fields on levels and at the surface; the inverse of `state`."""
        level, surface = (
            torch.stack([state[name] for name in names], dim=1) if names else None
            for names in (self.config.level_variables, self.config.surface_variables)
        )
        return level, surface

    def open(self, state: Mapping[str, torch.Tensor]) -> Ledger:
        """Return what an initial state holds of what is conserved.

        Raises:
            ValueError: If a variable that a constraint reads is missing or of another unit, fluxes included.
        """
        if not self.system.closed:
            fluxes = {flux for name in self.names for flux in FLUXES_READ.get(name, ()) if flux in state}
            check_climate_state(state, self.system, fluxes)
        return open_ledger(state, self.system, self.names)

    def correct(self, state: Mapping[str, torch.Tensor], ledger: Ledger, training: bool) -> ClimateCorrection:
        """Return a predicted state that every constraint holds of, see `apply_climate_constraints`."""
        return apply_climate_constraints(state, self.system, ledger, self.names, training=training, validate=False)

    @torch.compiler.disable
    def corrected(
        self, before: Fields, fields: Fields, ledger: Ledger | None, training: bool
    ) -> tuple[list[torch.Tensor | None], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Correct predicted fields.

        Args:
            before: The last state read, on levels and at the surface.
            fields: The predicted one.
            ledger: What it follows; by default what `before` holds.
            training: See `apply_climate_constraints`.

        Returns:
            The fields, the residuals of each constraint, and the ledger for the next step.
        """
        start = self.open(self.state(*before)) if ledger is None else ledger
        found = self.correct(self.state(*fields), start, training)
        return list(self.fields(found.state)), found.residuals, dict(found.ledger)
