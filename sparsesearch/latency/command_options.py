"""Command-line options declared as the fields of a dataclass."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any

from sparsesearch.errors import SpecError
from sparsesearch.schedule.image_size import ImageSize, as_image_size

_TYPES = {"int": int, "float": float, "str": str}


def option(default: Any, text: str, *, parse: Callable[[str], Any] | None = None) -> Any:
    """A dataclass field with a default, the help text of its option, and what parses it if not its annotation."""
    return field(default=default, metadata={"help": text, "parse": parse})


def image_size_argument(text: str) -> ImageSize:
    """Parse `--image-size` for argparse, whose message is that of the error.

    Raises:
        argparse.ArgumentTypeError: It is no size, or out of range.
    """
    try:
        return as_image_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def option_help(kind: Any, name: str) -> str:
    """The help text of an option of a dataclass."""
    return next(str(one.metadata["help"]) for one in fields(kind) if one.name == name)


def add_options(parser: argparse.ArgumentParser, kind: Any) -> None:
    """Add every field of a dataclass to a parser: a flag for `bool`, otherwise an option of its type."""
    for one in fields(kind):
        flag, text = _flag(one.name), str(one.metadata["help"])
        if isinstance(one.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=one.default, help=text)
        else:
            type_ = one.metadata["parse"] or _TYPES[str(one.type).partition(" ")[0]]
            parser.add_argument(flag, type=type_, default=one.default, help=text)


def check_positive(options: object, *names: str) -> None:
    """Check that options are positive or None.

    Raises:
        SpecError: An option is zero or negative.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise SpecError(f"invalid {_flag(name)} {value:g}; give a positive number")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
