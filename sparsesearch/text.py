"""How durations are said, and lists of numbers are read."""

from __future__ import annotations

from sparsesearch.errors import SpecError


def human_time(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


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
