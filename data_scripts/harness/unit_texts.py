"""Whether two texts name one unit."""

import functools

import astropy.units


__all__ = ["same_unit"]


@functools.lru_cache(maxsize=4096)
def same_unit(stated: str, declared: str | None) -> bool:
    """Whether both texts name one unit of one scale; texts that `astropy.units` cannot read must be equal.

    Args:
        stated: What a body says; blank where it has no unit.
        declared: The schema's unit, or None.
    """
    stated, declared = stated.strip(), (declared or "").strip()
    if stated == declared:
        return True
    try:
        return bool(astropy.units.Unit(stated) == astropy.units.Unit(declared))
    except (ValueError, TypeError):
        return False
