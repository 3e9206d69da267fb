"""How numbers are written for people, and lists of numbers are read."""

from __future__ import annotations

from sparsesearch.errors import SpecError

_GIGA, _MEGA = 1e9, 1e6


def human_time(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def macs_text(macs: float) -> str:
    """Multiply-adds as `2.905 GMACs`, or below 0.1 GMACs as `6.42 MMACs`."""
    divisor, unit = macs_unit(macs)
    value = macs / divisor
    return (
        f"{value:.3f} {unit}" if divisor == _GIGA else f"{value:.2f} {unit}" if value >= 0.1 else f"{value:.2g} {unit}"
    )


def macs_unit(largest: float) -> tuple[float, str]:
    """The unit that multiply-adds up to `largest` are written in, as its size and its name."""
    return (_GIGA, "GMACs") if largest >= 0.1 * _GIGA else (_MEGA, "MMACs")


def percent_text(fraction: float, *, digits: int = 2) -> str:
    """A fraction as `95.30 %`."""
    return f"{100 * fraction:.{digits}f} %"


def ms_text(ms: float) -> str:
    """Milliseconds as `2.414 ms`."""
    return f"{ms:.4g} ms"


def parse_numbers(text: str, *, what: str) -> list[float]:
    """Numbers of a comma-separated list; an empty text is an empty list.

    Raises:
        SpecError: An entry is not a number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SpecError(f"cannot read {what} {text!r}; write numbers with commas between") from error


def parse_counts(text: str, *, what: str, least: int) -> list[int]:
    """Whole numbers of a comma-separated list.

    Raises:
        SpecError: An entry is not a whole number, or is too small.
    """
    numbers = parse_numbers(text, what=what)
    if any(number != int(number) or number < least for number in numbers):
        raise SpecError(f"{what} {text!r} must be whole numbers from {least}, with commas between")
    return [int(number) for number in numbers]
