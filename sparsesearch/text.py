"""Format numbers for display, and parse lists of numbers."""

from __future__ import annotations

from sparsesearch.errors import SpecError

_GIGA, _MEGA = 1e9, 1e6


def human_time(seconds: float) -> str:
    """Format a duration, such as `45 s`, `12 min` or `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def macs_text(macs: float) -> str:
    """Format multiply-adds as `2.905 GMACs`, or below 0.1 GMACs as `6.42 MMACs`."""
    divisor, unit = macs_unit(macs)
    value = macs / divisor
    return (
        f"{value:.3f} {unit}" if divisor == _GIGA else f"{value:.2f} {unit}" if value >= 0.1 else f"{value:.2g} {unit}"
    )


def macs_unit(largest: float) -> tuple[float, str]:
    """Return the divisor and the name of the unit for multiply-adds up to `largest`."""
    return (_GIGA, "GMACs") if largest >= 0.1 * _GIGA else (_MEGA, "MMACs")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Format a number of things: `1 image`, `1,200 images`; `many` is the plural if it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def percent_text(fraction: float, *, digits: int = 2) -> str:
    """Format a fraction as `95.30 %`."""
    return f"{100 * fraction:.{digits}f} %"


def size_text(num_bytes: float) -> str:
    """Format a size in memory as `5.4 GB`, or below 0.1 GB as `12 MB`."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"


def ms_text(ms: float) -> str:
    """Format milliseconds as `2.414 ms`."""
    return f"{ms:.4g} ms"


def parse_numbers(text: str, *, what: str) -> list[float]:
    """Parse a comma-separated list of numbers; an empty string gives an empty list.

    Raises:
        SpecError: An entry is not a number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SpecError(f"invalid {what} {text!r}; use comma-separated numbers") from error


def parse_counts(text: str, *, what: str, least: int) -> list[int]:
    """Parse a comma-separated list of integers.

    Raises:
        SpecError: An entry is not an integer, or is too small.
    """
    numbers = parse_numbers(text, what=what)
    if any(number != int(number) or number < least for number in numbers):
        raise SpecError(f"invalid {what} {text!r}; use comma-separated integers of at least {least}")
    return [int(number) for number in numbers]
