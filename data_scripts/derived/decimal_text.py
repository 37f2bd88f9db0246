"""Decimal numbers as text, without exponents and without invented digits."""

from decimal import ROUND_HALF_EVEN, Context, Decimal


__all__ = ["plain_text", "round_significant", "round_whole"]


def plain_text(value: Decimal | int) -> str:
    """Return the number without exponent and without padding zeros: `Decimal("1.20E+3")` gives `1200`."""
    text = format(Decimal(value).normalize(), "f")
    return "0" if text == "-0" else text


def round_significant(value: Decimal, digits: int) -> Decimal:
    """Round to significant digits, ties to even, and keep zeros that are significant: 47.96 to 3 digits is 48.0.

    Raises:
        ValueError: If `digits` is less than 1.
    """
    if digits < 1:
        raise ValueError(f"digits must be at least 1; got {digits}. Pass the number of significant digits to keep.")
    if value == 0:
        return value
    # Rounding may carry into a new digit, 0.9999 to 1.00, so the last place kept follows from the rounded number.
    rounded = Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(value)
    return rounded.quantize(Decimal(1).scaleb(rounded.adjusted() - digits + 1))


def round_whole(value: Decimal) -> Decimal:
    """Round to a whole number, ties to even."""
    return value.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
