"""Processor of AstroDatacube: xarray Datasets in, tensors out, and back.

Shape suffixes: B batch, V variables on levels, S at the surface, F forcing variables, T states read, L levels, Y
latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .configuration_astro_datacube import PLANET_PARAMETERS, AstroDatacubeConfig
from .cube_axes import axis_degrees, axis_levels, find_axis
from .cube_errors import CubeError
from .cube_units import convert_units
from .datacube_fit import fit_statistics


try:
    import xarray
except ImportError:
    xarray = None

__all__ = ["AstroDatacubeProcessor"]

# A mean this many scales from that of the training data is of another unit or another quantity.
_MOST_SCALES = 50.0
# Likewise, of a mean over that of the training data where no unit is stated.
_MOST_RATIO = 10.0
# Beyond it nothing is measured: fill values of old files.
_FILL = 1e15


class AstroDatacubeProcessor(ProcessorMixin):
    """Read climates for an AstroDatacube, and write what it predicts.

    A climate is an `xarray.Dataset` of a whole globe: axes in any order, latitudes from either pole, longitudes of any
    origin, levels from either end, sigma or pressure; variables that are absent and values that are NaN are missing.
    Variables that the model does not know are left out.

    Args:
        level_variables: Those of the model's config.
        surface_variables: As there.
        forcing_variables: As there.
        vector_variables: As there.
        planet_parameters: As there.
        num_input_steps: As there.
        statistics: Means, scales and units of the training data, see `datacube_statistics`; fields are converted to
            these units.
    """

    model_input_names = [
        *("surface_fields", "level_fields", "forcing_fields", "levels", "latitude_deg", "longitude_deg", "planet")
    ]
    # Trainers look for the special tokens that a processor's tokenizer has; climates have none.
    tokenizer = SimpleNamespace(bos_token_id=None, eos_token_id=None, pad_token_id=None)

    def __init__(
        self,
        level_variables: Sequence[str] = AstroDatacubeConfig.level_variables,
        surface_variables: Sequence[str] = AstroDatacubeConfig.surface_variables,
        forcing_variables: Sequence[str] = AstroDatacubeConfig.forcing_variables,
        vector_variables: Sequence[str] = AstroDatacubeConfig.vector_variables,
        planet_parameters: Sequence[str] = PLANET_PARAMETERS,
        num_input_steps: int = 1,
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.level_variables = list(level_variables)
        self.surface_variables = list(surface_variables)
        self.forcing_variables = list(forcing_variables)
        self.vector_variables = list(vector_variables)
        self.planet_parameters = list(planet_parameters)
        self.num_input_steps = num_input_steps
        self.statistics = None if statistics is None else dict(statistics)
        super().__init__(**kwargs)

    @property
    def units(self) -> dict[str, str]:
        """Unit of each variable, as the training data state it."""
        return {} if self.statistics is None else dict(self.statistics.get("units") or {})

    @classmethod
    def from_config(cls, config: AstroDatacubeConfig, **others: Any) -> "AstroDatacubeProcessor":
        """Return the processor of a model's configuration."""
        names = ("level", "surface", "forcing", "vector")
        return cls(
            **{f"{name}_variables": getattr(config, f"{name}_variables") for name in names},
            planet_parameters=config.planet_parameters,
            num_input_steps=config.num_input_steps,
            **{"statistics": config.statistics, **others},
        )

    def __call__(
        self,
        climates: Any,
        planet: Mapping[str, float] | Sequence[Mapping[str, float]] | None = None,
        time: int = -1,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Return a batch of climates.

        Args:
            climates: An `xarray.Dataset`, or a sequence of them on one grid.
            planet: Parameters of each, or of all, by the names of `planet_parameters`; what is not given is taken from
                the Dataset's attributes of these names, or not known.
            time: Place on the time axis of the last state that is read; those before it that are needed and not there
                are missing.
            return_tensors: "pt".

        Returns:
            The arguments of `AstroDatacubeModel.forward`, float32 but for the axes.

        Raises:
            ValueError: If a climate cannot be read; names it, the axis or variable, and the remedy.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors must be 'pt'; got {return_tensors!r}.")
        several = list(climates) if isinstance(climates, Sequence) else [climates]
        if not several:
            raise ValueError("climates must hold at least one Dataset; got none.")
        planets = list(planet) if isinstance(planet, Sequence) else [planet] * len(several)
        if len(planets) != len(several):
            raise ValueError(f"planet must be one for each climate, {len(several)}; got {len(planets)}.")
        items = [
            self.read(each, its_planet, time, f"climate {place}")
            for place, (each, its_planet) in enumerate(zip(several, planets, strict=True))
        ]
        for name in ("latitude_deg", "longitude_deg", "levels"):
            if any(item[name].shape != items[0][name].shape for item in items):
                sizes = [len(item[name]) for item in items]
                raise CubeError(f"{name} must be as many in all climates of a batch; got {sizes}. Batch them by grid.")
        return BatchFeature({name: torch.stack([item[name] for item in items]) for name in items[0]})

    def read(
        self, climate: Any, planet: Mapping[str, float] | None = None, time: int = -1, where: str = "climate"
    ) -> dict[str, torch.Tensor]:
        """Return the tensors of one climate, without a batch axis; arguments as of `__call__`."""
        axes = _Axes(climate, where, needs_levels=bool(self.level_variables))
        parameters = self._parameters(axes.data, planet, where)
        known = [*self.level_variables, *self.surface_variables, *self.forcing_variables]
        if not any(name in axes.data for name in known):
            raise CubeError(
                f"{where} must hold a variable that the model knows, of {', '.join(known)}; it has "
                f"{', '.join(map(str, axes.data.data_vars)) or 'none'}. Rename its variables."
            )
        found = {
            "latitude_deg": torch.from_numpy(axes.latitude.copy()),
            "longitude_deg": torch.from_numpy(axes.longitude.copy()),
            "levels": torch.from_numpy(self._relative_levels(axes, parameters, where).copy()),
            "planet": torch.tensor([parameters.get(name, np.nan) for name in self.planet_parameters]),
        }
        steps = axes.steps(time, self.num_input_steps)
        for name, variables, on_levels, its_steps in (
            ("level_fields", self.level_variables, True, steps),
            ("surface_fields", self.surface_variables, False, steps),
            ("forcing_fields", self.forcing_variables, False, axes.steps(time, 1)),
        ):
            if variables and its_steps:
                fields = [self._field(axes, variable, on_levels, its_steps, where) for variable in variables]
                found[name] = torch.from_numpy(np.ascontiguousarray(np.stack(fields), dtype=np.float32))
        if "forcing_fields" in found:
            found["forcing_fields"] = found["forcing_fields"][:, -1]
        return found

    def _field(self, axes: "_Axes", name: str, on_levels: bool, steps: list[int | None], where: str) -> np.ndarray:
        """Values of a variable in the model's unit, shape (T, L, Y, X) or (T, Y, X), NaN where missing."""
        shape = (len(steps), *((len(axes.levels),) if on_levels else ()), len(axes.latitude), len(axes.longitude))
        if name not in axes.data:
            return np.full(shape, np.nan)
        values = axes.values(name, on_levels, steps, where)
        stated = str(axes.data[name].attrs.get("units", ""))
        if name in self.units and stated:
            values = convert_units(values, stated, self.units[name], f"{name} of {where}")
        self._check_size(values, name, where, has_unit=bool(stated))
        return values

    def _check_size(self, values: np.ndarray, name: str, where: str, has_unit: bool) -> None:
        """Compare values with those of the training data; closely where no unit is stated."""
        if self.statistics is None or name not in self.statistics["variables"] or not np.isfinite(values).any():
            return
        known = self.statistics["variables"][name]
        mean, scale = float(np.mean(known["mean"])), float(np.max(known["scale"]))
        spread = max(scale, abs(mean), float(np.ptp(known["mean"])) if np.ndim(known["mean"]) else 0.0)
        found = float(np.nanmean(values))
        is_off = abs(found - mean) > _MOST_SCALES * spread
        if not has_unit and mean > 2 * scale:
            # Of what is far from 0, such as pressures and temperatures, the ratio tells.
            is_off |= not 1 / _MOST_RATIO < found / mean < _MOST_RATIO
        if is_off:
            unit = self.units.get(name, "the unit of the training data")
            raise CubeError(
                f"{name} of {where} must be in {unit}, about {mean:g}; its mean is {found:g}. Convert it, and state "
                "its attribute `units`."
            )

    def _parameters(self, data: Any, planet: Mapping[str, float] | None, where: str) -> dict[str, float]:
        given = {} if planet is None else dict(planet)
        unknown = sorted(set(given) - set(self.planet_parameters))
        if unknown:
            raise CubeError(
                f"planet of {where} must be of the parameters {', '.join(self.planet_parameters)}; got "
                f"{', '.join(unknown)}."
            )
        stated = {name: data.attrs[name] for name in self.planet_parameters if name in data.attrs}
        found = {}
        for name, value in {**stated, **given}.items():
            try:
                found[name] = float(value)
            except (TypeError, ValueError) as error:
                raise CubeError(f"{name} of the planet of {where} must be a number; got {value!r}.") from error
        return found

    def _relative_levels(self, axes: "_Axes", parameters: Mapping[str, float], where: str) -> np.ndarray:
        if axes.level_kind == "pressure":
            if "surface_pressure_pa" not in parameters:
                raise CubeError(
                    f"planet of {where} must give surface_pressure_pa where levels are pressures; it does not. Pass "
                    "planet={'surface_pressure_pa': ...}."
                )
            if not 0 < parameters["surface_pressure_pa"] < np.inf:
                raise CubeError(
                    f"surface_pressure_pa of the planet of {where} must be above 0; got "
                    f"{parameters['surface_pressure_pa']}."
                )
            return axes.levels / parameters["surface_pressure_pa"]
        return axes.levels

    def decode(
        self,
        level_fields: torch.Tensor | None = None,
        surface_fields: torch.Tensor | None = None,
        like: Any = None,
        time: Any = None,
    ) -> Any:
        """Return predicted fields of one climate as an `xarray.Dataset`.

        Args:
            level_fields: Shape (V, L, Y, X), or (V, K, L, Y, X) of K states.
            surface_fields: Shape (S, Y, X), or (S, K, Y, X).
            like: The Dataset that was read: names, units, coordinates, their order, and attributes are its.
            time: Coordinates of the K states on the time axis; by default a single state has none, and several are
                numbered from 1, of a dimension `step`.

        Returns:
            The variables that `like` has, float32.

        Raises:
            ValueError: If a shape does not fit.
        """
        axes = _Axes(like, "like", needs_levels=bool(self.level_variables))
        found = {}
        for fields, names, on_levels in (
            (level_fields, self.level_variables, True),
            (surface_fields, self.surface_variables, False),
        ):
            if fields is None:
                continue
            shape = (len(names), *((len(axes.levels),) if on_levels else ()), len(axes.latitude), len(axes.longitude))
            several = fields.ndim == len(shape) + 1
            if fields.shape[0] != shape[0] or tuple(fields.shape[1 + several :]) != shape[1:]:
                kind = "level_fields" if on_levels else "surface_fields"
                raise ValueError(f"{kind} must have shape {shape}, with states after the first axis if several; got "
                                 f"{tuple(fields.shape)}.")  # fmt: skip
            for name, values in zip(names, torch.as_tensor(fields).detach().cpu().float().numpy(), strict=True):
                if name in axes.data:
                    found[name] = self._variable(axes, name, values, on_levels, several)
        result = xarray.Dataset(found, attrs=dict(like.attrs))
        kept = {name: each for name, each in like.coords.items() if set(each.dims) <= set(result.dims) - {"step"}}
        result = result.assign_coords({name: each for name, each in kept.items() if each.dims})
        if "step" in result.dims:
            count = result.sizes["step"]
            if time is None:
                result = result.assign_coords(step=np.arange(1, count + 1))
            else:
                result = result.rename(step=axes.time_name or "time").assign_coords({axes.time_name or "time": time})
        return result

    def _variable(self, axes: "_Axes", name: str, values: np.ndarray, on_levels: bool, several: bool) -> Any:
        original = axes.original[name]
        stated = str(original.attrs.get("units", ""))
        if name in self.units and stated:
            values = np.asarray(convert_units(values, self.units[name], stated, name), dtype=np.float32)
        dims = [*(["step"] if several else []), *([axes.level_name] if on_levels else []), axes.latitude_name,
                axes.longitude_name]  # fmt: skip
        variable = xarray.DataArray(axes.unsorted(values, on_levels), dims=dims, attrs=dict(original.attrs))
        order = [dim for dim in original.dims if dim in dims]
        return variable.transpose("step", *order) if several else variable.transpose(*order)

    def fit(
        self, climates: Sequence[Any], planets: Sequence[Mapping[str, float] | None] | None = None
    ) -> "AstroDatacubeProcessor":
        """Find units and statistics in training data; return the processor itself.

        Args:
            climates: Datasets, with states one step after another on their time axes.
            planets: Parameters of each, as of `__call__`.

        Raises:
            ValueError: If there are none, or units differ from one to another.
        """
        if isinstance(climates, xarray.Dataset):
            climates = [climates]
        if not climates:
            raise ValueError("climates must hold at least one Dataset; got none.")
        if planets is not None and len(planets) != len(climates):
            raise ValueError(f"planets must be one for each climate, {len(climates)}; got {len(planets)}.")
        self.statistics = None
        units: dict[str, str] = {}
        for place, climate in enumerate(climates):
            for name in (*self.level_variables, *self.surface_variables, *self.forcing_variables):
                if name in climate:
                    stated = str(climate[name].attrs.get("units", ""))
                    if units.setdefault(name, stated) != stated:
                        raise CubeError(
                            f"{name} of climate {place} must be in {units[name]!r}, as of those before; got "
                            f"{stated!r}. Convert it."
                        )
        several = [None] * len(climates) if planets is None else planets
        items = []
        for place, (climate, planet) in enumerate(zip(climates, several, strict=True)):
            steps, self.num_input_steps = self.num_input_steps, _num_times(climate, f"climate {place}")
            try:
                items.append(self.read(climate, planet, -1, f"climate {place}"))
            finally:
                self.num_input_steps = steps
        names = {kind: getattr(self, f"{kind}_variables") for kind in ("level", "surface", "forcing")}
        stated_units = {name: unit for name, unit in units.items() if unit}
        self.statistics = fit_statistics(items, names, self.vector_variables, self.planet_parameters, stated_units)
        return self


def _num_times(climate: Any, where: str) -> int:
    try:
        return int(climate.sizes[find_axis(climate, "T", where)])
    except CubeError:
        return 1


class _Axes:
    """A Dataset with its axes found, longitudes rising and levels from the top down."""

    def __init__(self, data: Any, where: str, needs_levels: bool):
        if xarray is None:
            raise ImportError(
                "a climate is an xarray.Dataset, and xarray is missing: pip install 'modeling_astrobio[climate]'."
            )
        if not isinstance(data, xarray.Dataset):
            raise CubeError(
                f"{where} must be an xarray.Dataset; got {type(data).__name__}. Open it with xarray.open_dataset."
            )
        self.original = data
        self.latitude_name = find_axis(data, "Y", where)
        self.longitude_name = find_axis(data, "X", where)
        self.level_name = find_axis(data, "Z", where) if needs_levels else None
        try:
            self.time_name: str | None = find_axis(data, "T", where)
        except CubeError:
            self.time_name = None
        self._columns = np.argsort(np.asarray(data[self.longitude_name].values), kind="stable")
        data = data.isel({self.longitude_name: self._columns})
        self.longitude = axis_degrees(data[self.longitude_name], 360.0, where)
        self.latitude = axis_degrees(data[self.latitude_name], 90.0, where)
        self.level_kind, self.levels = "sigma", np.empty(0)
        self._places = np.arange(0)
        if self.level_name is not None:
            self._places = np.argsort(np.asarray(data[self.level_name].values), kind="stable")
            data = data.isel({self.level_name: self._places})
            self.level_kind, self.levels = axis_levels(data[self.level_name], where)
        self.data = data

    def steps(self, last: int, count: int) -> list[int | None]:
        """Places on the time axis of the states that are read, None before the first."""
        if self.time_name is None:
            return ([None] * (count - 1) + [0])[:count]
        size = self.data.sizes[self.time_name]
        if not isinstance(last, int | np.integer) or not -size <= last < size:
            raise CubeError(f"time must be a place of the {size} on the axis {self.time_name}; got {last!r}.")
        end = last % size
        return [place if place >= 0 else None for place in range(end - count + 1, end + 1)]

    def values(self, name: str, on_levels: bool, steps: list[int | None], where: str) -> np.ndarray:
        """Values at the steps, shape (T, L, Y, X) or (T, Y, X), float64, NaN where missing."""
        wanted = [*([self.level_name] if on_levels else []), self.latitude_name, self.longitude_name]
        variable = self.data[name]
        extra = [str(dim) for dim in variable.dims if dim not in (*wanted, self.time_name)]
        absent = [dim for dim in wanted if dim not in variable.dims]
        if extra or absent:
            raise CubeError(
                f"{name} of {where} must have the axes {', '.join(map(str, wanted))}, and time or none; it has "
                f"{', '.join(map(str, variable.dims))}. Select from an axis that is too much, or rename it."
            )
        packed = [key for key in ("scale_factor", "add_offset") if key in variable.attrs]
        if packed:
            raise CubeError(
                f"{name} of {where} must be unpacked; it has the attributes {', '.join(packed)}. Open the file with "
                "mask_and_scale=True, xarray's default."
            )
        fill = [variable.attrs.get(key) for key in ("_FillValue", "missing_value")]
        if self.time_name is not None and self.time_name in variable.dims:
            variable = variable.transpose(self.time_name, *wanted)
            parts = [None if step is None else np.asarray(variable[step].values, np.float64) for step in steps]
        else:
            whole = np.asarray(variable.transpose(*wanted).values, np.float64)
            parts = [None if step is None else whole for step in steps]
        shape = next(part.shape for part in parts if part is not None)
        stacked = np.stack([np.full(shape, np.nan) if part is None else part for part in parts])
        with np.errstate(invalid="ignore"):
            is_missing = ~(np.abs(stacked) < _FILL)
        for value in fill:
            if value is not None and np.size(value):
                is_missing |= stacked == float(np.asarray(value).ravel()[0])
        return np.where(is_missing, np.nan, stacked)

    def unsorted(self, values: np.ndarray, on_levels: bool) -> np.ndarray:
        """Values in the order of the Dataset's own axes; the inverse of what was done to read them."""
        values = values[..., np.argsort(self._columns)]
        return values[..., np.argsort(self._places), :, :] if on_levels else values
