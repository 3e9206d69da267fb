"""Plain data from and for the network: no larger, deeper or odder than what is read from files."""

from __future__ import annotations

import math

from sparsesearch.errors import SpecError
from sparsesearch.files.documents import MAX_DEPTH, MAX_VALUES

_MAX_TEXT = 4096
_LARGEST_INTEGER = 2**63 - 1


def check_plain(document: object, *, what: str) -> None:
    """Check that a document could be that of a file; see `read_yaml`.

    Args:
        document: What was read from JSON.
        what: What it is, for the message.

    Raises:
        SpecError: It is too large or too deeply nested, has a number that is not finite or has more than 63 bits, or a
            text that is longer than a path or has characters that are none.
    """
    level, num_values = [document], 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for value in level:
            match value:
                case dict():
                    inner.extend((*value.keys(), *value.values()))
                case list():
                    inner.extend(value)
                case str():
                    _check_text(value, what=what)
                case bool() | None:
                    pass
                case int() if abs(value) > _LARGEST_INTEGER:
                    raise SpecError(f"invalid {what}: an integer has more than 63 bits")
                case float() if not math.isfinite(value):
                    raise SpecError(f"invalid {what}: {value} is not a finite number")
        num_values += len(inner)
        if num_values > MAX_VALUES:
            raise SpecError(f"invalid {what}: it has more than {MAX_VALUES:,} values")
        if not inner:
            return
        level = inner
    raise SpecError(f"invalid {what}: lists and mappings are nested more than {MAX_DEPTH} levels deep")


def _check_text(text: str, *, what: str) -> None:
    if len(text) > _MAX_TEXT:
        raise SpecError(f"invalid {what}: the text {text[:40] + '...'!r} has more than {_MAX_TEXT:,} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise SpecError(f"invalid {what}: {text[:40]!r} has characters that are no text")


def finite(value: object) -> object:
    """Plain data as JSON has it: null in place of numbers that are not finite."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value
