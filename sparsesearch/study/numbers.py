"""Long sequences of numbers that mostly follow each other, such as those of the trials that a proposal has seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Run = tuple[int, int]
"""The first and the last of numbers that follow each other."""


class Numbers:
    """An immutable sequence of integers, kept as runs: ten thousand that follow each other need as much as two.

    It is equal to a tuple with the same numbers. In JSON, a run is a number or `[first, last]`; lists of numbers alone,
    as older versions wrote them, are read as well.
    """

    __slots__ = ("runs",)

    runs: tuple[Run, ...]

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        ordered = tuple(numbers)
        if len(ordered) > 1 and ordered == tuple(range(ordered[0], ordered[-1] + 1)):  # quick, and usual
            self.runs = ((ordered[0], ordered[-1]),)
            return
        runs: list[Run] = []
        for number in ordered:
            if runs and number == runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
        self.runs = tuple(runs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Numbers):
            return self.runs == other.runs
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.runs)

    def __repr__(self) -> str:
        return f"Numbers({self.document()!r})"

    def document(self) -> list[int | list[int]]:
        """Return the runs as they are written in JSON: `[0, 1, 2, 5]` as `[[0, 2], 5]`."""
        return [first if first == last else [first, last] for first, last in self.runs]

    @classmethod
    def of(cls, value: object) -> Numbers:
        """Return a value that may be written in JSON as numbers.

        Raises:
            ValueError: It is no list of integers and of pairs of them.
        """
        if isinstance(value, Numbers):
            return value
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | dict):
            raise ValueError("must be a list of integers and [first, last]")
        items = list(value)
        if all(type(item) is int for item in items):
            return cls(items)
        runs = [(item, item) if type(item) is int else item for item in items]
        numbers = cls()
        numbers.runs = tuple(_run(run) for run in runs)
        has_one_form = all(one[1] + 1 != two[0] for one, two in pairwise(numbers.runs))
        return numbers if has_one_form else cls(numbers)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(cls.document)
        return core_schema.no_info_plain_validator_function(cls.of, serialization=serialization)


def _run(run: object) -> Run:
    if isinstance(run, list | tuple) and len(run) == 2 and all(type(end) is int for end in run) and run[0] <= run[1]:
        return run[0], run[1]
    raise ValueError(f"{run!r} is neither an integer nor [first, last]")
