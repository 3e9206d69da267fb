"""The size of an image: one number of pixels if it is square, otherwise height and width."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator

MIN_SIDE, MAX_SIDE = 8, 8192
"""Pixels of a side of an image; what is outside is a typing error."""


def as_image_size(value: object) -> int | tuple[int, int]:
    """Read the size of an image; a square has one form, so that equal sizes have equal documents, hashes and names.

    Args:
        value: 224, `"224"`, `"256x192"` or `[256, 192]`, height before width.

    Returns:
        One number if height and width are equal, else both.

    Raises:
        ValueError: The value has another form, or is out of range.
    """
    parts = value.lower().split("x") if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        parts = [parts]
    numbers = [number for part in parts if (number := _whole(part)) is not None]
    if len(numbers) != len(parts) or len(parts) not in (1, 2):
        raise ValueError(
            f"invalid image size {reprlib.repr(value)}; give one number of pixels, such as 256, or height x width, "
            "such as 256x192"
        )
    if not all(MIN_SIDE <= number <= MAX_SIDE for number in numbers):
        raise ValueError(f"invalid image size {'x'.join(map(str, numbers))}; give {MIN_SIDE} to {MAX_SIDE} pixels")
    return numbers[0] if numbers[0] == numbers[-1] else (numbers[0], numbers[1])


ImageSize = Annotated[int | tuple[int, int], BeforeValidator(as_image_size)]
"""Height and width in pixels, as `as_image_size` returns them; a field of this type reads all that it reads."""


def sides(size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: ImageSize) -> str:
    """`224`, or `256x192`, as `--image-size` takes them."""
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


def _whole(part: object) -> int | None:
    """A whole number, also as text or as a float; None for anything else."""
    if isinstance(part, str):
        return int(part) if re.fullmatch(r"\s*[0-9]{1,9}\s*", part) else None
    if isinstance(part, bool) or not isinstance(part, int | float) or part != part // 1:
        return None
    return int(part)
