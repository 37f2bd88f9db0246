"""Classes of planets by radius and of stars by temperature."""

from decimal import Decimal


__all__ = ["SIZE_CLASSES", "SPECTRAL_CLASSES", "size_class", "spectral_class"]

# Class and the radius below which it ends, Earth radii.
_SIZE_LIMITS_EARTH_RADII = (
    ("Earth-sized", Decimal("1.25")),
    ("super-Earth", Decimal("1.8")),
    ("sub-Neptune", Decimal(4)),
    ("Neptune-sized", Decimal(6)),
    ("giant planet", Decimal("Infinity")),
)
# Class and the effective temperature below which it ends, K.
_SPECTRAL_LIMITS_K = (
    ("M", Decimal(3700)),
    ("K", Decimal(5200)),
    ("G", Decimal(6000)),
    ("F", Decimal(7500)),
    ("A", Decimal(10000)),
    ("B", Decimal(30000)),
    ("O", Decimal("Infinity")),
)
SIZE_CLASSES = tuple(name for name, _ in _SIZE_LIMITS_EARTH_RADII)
SPECTRAL_CLASSES = tuple(name for name, _ in _SPECTRAL_LIMITS_K)


def size_class(planet_radius_earth_radii: Decimal) -> str:
    """Return the size class of a planet; a limit belongs to the larger class.

    Earth-sized below 1.25 and giant planet from 6 Earth radii (Borucki et al. 2011, ApJ 736, 19); super-Earth and
    sub-Neptune meet at 1.8, inside the valley at 1.5 to 2.0 (Fulton et al. 2017, AJ 154, 109); sub-Neptune and
    Neptune-sized meet at 4 (small and large Neptunes of Fressin et al. 2013, ApJ 766, 81). The class says nothing
    about mass: a "giant planet" may be a brown dwarf by other definitions.
    """
    return next(name for name, limit in _SIZE_LIMITS_EARTH_RADII if planet_radius_earth_radii < limit)


def spectral_class(star_effective_temperature_k: Decimal) -> str:
    """Return the Harvard class that the effective temperature gives; a limit belongs to the hotter class.

    M below 3700 K, K below 5200, G below 6000, F below 7500, A below 10,000, B below 30,000, O above: the usual limits
    for dwarfs (Habets & Heintze 1981, A&AS 46, 193). A class read from a spectrum differs for one planet in seven of
    the embedded table.
    """
    return next(name for name, limit in _SPECTRAL_LIMITS_K if star_effective_temperature_k < limit)
