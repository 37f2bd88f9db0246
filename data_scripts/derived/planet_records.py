"""Text records: everything the table says about one planet, in several layouts."""

import random
from collections.abc import Callable
from decimal import Decimal

from data_scripts.derived.decimal_text import plain_text
from data_scripts.embedded.planets import Planet


__all__ = ["RECORD_LAYOUTS", "planet_record"]


def planet_record(planet: Planet, layout: str, seed: int = 0) -> str:
    """Return a planet as text.

    Numbers stand as in the table, digit by digit, with their unit; what is null is left out.

    Args:
        planet: A row of the table.
        layout: One of `RECORD_LAYOUTS`.
        seed: Chooses among the phrasings of a layout; the same planet, layout and seed give the same text.

    Raises:
        ValueError: If there is no such layout.
    """
    if layout not in _LAYOUTS:
        raise ValueError(
            f"layout must be one of {', '.join(_LAYOUTS)}; got {layout!r}. Pass a name of RECORD_LAYOUTS."
        )
    return _LAYOUTS[layout](planet, random.Random(f"{seed}:{layout}:{planet.planet_name}"))


def _quantity(value: Decimal | None, unit: str) -> str | None:
    return None if value is None else f"{plain_text(value)} {unit}".rstrip()


def _with_uncertainty(value: Decimal, plus: Decimal, minus: Decimal, unit: str) -> str:
    if plus == minus:
        return f"{plain_text(value)} ± {plain_text(plus)} {unit}"
    return f"{plain_text(value)} (+{plain_text(plus)} −{plain_text(minus)}) {unit}"


def _radius_with_uncertainty(planet: Planet) -> str:
    return _with_uncertainty(
        planet.planet_radius_earth_radii,
        planet.planet_radius_uncertainty_plus_earth_radii,
        planet.planet_radius_uncertainty_minus_earth_radii,
        "R⊕",
    )


def _mass_with_uncertainty(planet: Planet) -> str:
    return _with_uncertainty(
        planet.planet_mass_earth_masses,
        planet.planet_mass_uncertainty_plus_earth_masses,
        planet.planet_mass_uncertainty_minus_earth_masses,
        "M⊕",
    )


def _join(sentences: list[str | None]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _optional(template: str, value: Decimal | str | None) -> str | None:
    """Fill the template, or return nothing for a null."""
    if value is None:
        return None
    return template.format(value if isinstance(value, str) else plain_text(value))


def _discovery(planet: Planet, rng: random.Random) -> str:
    method = _METHOD_PHRASES.get(planet.discovery_method, planet.discovery_method.lower())
    return rng.choice(
        (
            f"It was discovered in {planet.discovery_year} by {method}.",
            f"It was found in {planet.discovery_year} through {method}.",
            f"Its discovery, by {method}, dates from {planet.discovery_year}.",
        )
    )


_METHOD_PHRASES = {
    "Transit": "the transit method",
    "Radial Velocity": "the radial velocity method",
    "Imaging": "direct imaging",
}


def _system(planet: Planet) -> str:
    if planet.planets_in_system_count == 1:
        return "It is the only known planet of its system."
    return f"Its system has {planet.planets_in_system_count} known planets."


def _orbit(planet: Planet, rng: random.Random) -> str:
    period = _quantity(planet.orbital_period_days, "days")
    axis = _quantity(planet.semi_major_axis_au, "au")
    if axis is None:
        return rng.choice((f"One orbit takes {period}.", f"Its orbital period is {period}."))
    return rng.choice(
        (
            f"One orbit, with a semi-major axis of {axis}, takes {period}.",
            f"Its orbital period is {period} and its semi-major axis is {axis}.",
            f"It goes round its star once in {period}, on an orbit with a semi-major axis of {axis}.",
        )
    )


def _paragraph(planet: Planet, rng: random.Random) -> str:
    mass = _quantity(planet.planet_mass_earth_masses, "M⊕")
    radius = _quantity(planet.planet_radius_earth_radii, "R⊕")
    opening = rng.choice(
        (
            f"{planet.planet_name} is a planet of the star {planet.host_star_name}.",
            f"The planet {planet.planet_name} orbits the star {planet.host_star_name}.",
            f"{planet.planet_name} orbits {planet.host_star_name}.",
        )
    )
    body = rng.choice(
        (
            f"It has a radius of {radius} and a mass of {mass}.",
            f"Its radius is {radius} and its mass is {mass}.",
            f"Its mass is {mass} and its radius is {radius}.",
        )
    )
    star = rng.choice(
        (
            f"The star has a temperature of {_quantity(planet.star_effective_temperature_k, 'K')}, a radius of "
            f"{_quantity(planet.star_radius_solar_radii, 'R☉')} and a mass of "
            f"{_quantity(planet.star_mass_solar_masses, 'M☉')}.",
            f"Its star, with {_quantity(planet.star_mass_solar_masses, 'M☉')} and "
            f"{_quantity(planet.star_radius_solar_radii, 'R☉')}, has an effective temperature of "
            f"{_quantity(planet.star_effective_temperature_k, 'K')}.",
        )
    )
    return _join(
        [
            opening,
            _discovery(planet, rng),
            _orbit(planet, rng),
            _optional("The orbit has an eccentricity of {}.", planet.eccentricity_dimensionless),
            body,
            _optional("Its equilibrium temperature is {} K.", planet.equilibrium_temperature_k),
            _optional("It receives {} times the starlight of Earth.", planet.insolation_earth_flux),
            star,
            f"The system is {_quantity(planet.distance_pc, 'pc')} away.",
        ]
    )


def _star_first(planet: Planet, rng: random.Random) -> str:
    star_type = planet.star_spectral_type
    opening = (
        f"The star {planet.host_star_name} lies at a distance of {_quantity(planet.distance_pc, 'pc')}."
        if star_type is None
        else f"The star {planet.host_star_name}, of spectral type {star_type}, lies at a distance of "
        f"{_quantity(planet.distance_pc, 'pc')}."
    )
    return _join(
        [
            opening,
            f"It has {_quantity(planet.star_mass_solar_masses, 'M☉')}, "
            f"{_quantity(planet.star_radius_solar_radii, 'R☉')} and an effective temperature of "
            f"{_quantity(planet.star_effective_temperature_k, 'K')}.",
            _optional("Its metallicity [Fe/H] is {} dex.", planet.star_metallicity_fe_h_dex),
            rng.choice(
                (
                    f"Its planet {planet.planet_name} was discovered in {planet.discovery_year}.",
                    f"The planet {planet.planet_name}, known since {planet.discovery_year}, goes round it.",
                )
            ),
            _system(planet),
            _orbit(planet, rng),
            f"The planet has {_quantity(planet.planet_mass_earth_masses, 'M⊕')} and "
            f"{_quantity(planet.planet_radius_earth_radii, 'R⊕')}.",
            _optional("In equilibrium with the starlight it would have {} K.", planet.equilibrium_temperature_k),
        ]
    )


def _card(planet: Planet, rng: random.Random) -> str:
    lines: list[tuple[str, str | None]] = [
        ("Host star", planet.host_star_name),
        ("Planets in the system", str(planet.planets_in_system_count)),
        ("Discovery method", planet.discovery_method),
        ("Discovery year", str(planet.discovery_year)),
        ("Orbital period", _quantity(planet.orbital_period_days, "days")),
        ("Semi-major axis", _quantity(planet.semi_major_axis_au, "au")),
        ("Eccentricity", _quantity(planet.eccentricity_dimensionless, "")),
        ("Radius", _radius_with_uncertainty(planet)),
        ("Mass", _mass_with_uncertainty(planet)),
        ("Equilibrium temperature", _quantity(planet.equilibrium_temperature_k, "K")),
        ("Insolation", _quantity(planet.insolation_earth_flux, "S⊕")),
        ("Star type", planet.star_spectral_type),
        ("Star temperature", _quantity(planet.star_effective_temperature_k, "K")),
        ("Star radius", _quantity(planet.star_radius_solar_radii, "R☉")),
        ("Star mass", _quantity(planet.star_mass_solar_masses, "M☉")),
        ("Star metallicity [Fe/H]", _quantity(planet.star_metallicity_fe_h_dex, "dex")),
        ("Distance", _quantity(planet.distance_pc, "pc")),
    ]
    # The name stays first; a random order of the rest keeps a model from learning positions.
    rng.shuffle(lines)
    return "\n".join([f"Planet: {planet.planet_name}", *(f"{label}: {value}" for label, value in lines if value)])


def _brief(planet: Planet, rng: random.Random) -> str:
    facts = [
        _optional("{} days per orbit", planet.orbital_period_days),
        _optional("{} R⊕", planet.planet_radius_earth_radii),
        _optional("{} M⊕", planet.planet_mass_earth_masses),
        _optional("{} au from its star", planet.semi_major_axis_au),
        _optional("equilibrium at {} K", planet.equilibrium_temperature_k),
        _optional("{} pc from the Sun", planet.distance_pc),
    ]
    listed = ", ".join(fact for fact in facts if fact)
    return rng.choice((f"{planet.planet_name}: {listed}.", f"In brief, {planet.planet_name}: {listed}."))


def _measurement(planet: Planet, rng: random.Random) -> str:
    mass, radius = _mass_with_uncertainty(planet), _radius_with_uncertainty(planet)
    return _join(
        [
            rng.choice(
                (
                    f"The mass of {planet.planet_name} was measured as {mass}, its radius as {radius}.",
                    f"Measurements give {planet.planet_name} a radius of {radius} and a mass of {mass}.",
                )
            ),
            _discovery(planet, rng),
            _system(planet),
            f"Its star {planet.host_star_name} has a temperature of "
            f"{_quantity(planet.star_effective_temperature_k, 'K')}.",
            _optional("The spectral type of the star is {}.", planet.star_spectral_type),
            _orbit(planet, rng),
            _optional("The eccentricity of the orbit was measured as {}.", planet.eccentricity_dimensionless),
        ]
    )


_LAYOUTS: dict[str, Callable[[Planet, random.Random], str]] = {
    "paragraph": _paragraph,
    "star_first": _star_first,
    "card": _card,
    "brief": _brief,
    "measurement": _measurement,
}
RECORD_LAYOUTS = tuple(_LAYOUTS)
