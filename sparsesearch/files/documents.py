"""Read YAML documents that people write: bounded in size, and every fault is one line with its place."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from sparsesearch.errors import UserInputError, one_line

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50
_LARGEST_INTEGER = 2**63 - 1
_MAX_EVENTS = 2 * MAX_VALUES  # a list or mapping begins and ends
_SHOWN = 60
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, *, error: type[UserInputError], allow_nan: bool = False) -> object:
    """Read a YAML or JSON document as plain data; an empty one is None.

    Aliases are allowed as long as the document stays small: a few lines of them could stand for gigabytes.

    Args:
        path: The file.
        error: What is raised.
        allow_nan: Whether numbers may be NaN or infinite.

    Raises:
        UserInputError: The file is missing, too large, not UTF-8 or not YAML, has a key twice or an integer of more
            than 63 bits; one line.
    """
    try:
        with path.open("rb") as file:
            blob = file.read(MAX_BYTES + 1)
    except FileNotFoundError as caught:
        raise error(f"no such file: {path}") from caught
    except (OSError, ValueError) as caught:
        raise error(f"cannot read {path}: {getattr(caught, 'strerror', None) or one_line(caught)}") from caught
    if len(blob) > MAX_BYTES:
        raise error(f"{path} is larger than {MAX_BYTES:,} bytes; give a study document, a recipe or a space")
    try:
        text = blob.decode("utf-8-sig")
        _check_depth(text)
        loader = (_FiniteLoader if not allow_nan else _StrictLoader)(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except UnicodeDecodeError as caught:
        line = blob[: caught.start].count(b"\n") + 1
        raise error(f"{path} is not readable YAML: line {line} is not UTF-8 text; save the file as UTF-8") from caught
    except yaml.YAMLError as caught:
        raise error(f"{path} is not readable YAML: {_explain(caught)}") from caught
    except (ValueError, OverflowError, RecursionError, TypeError) as caught:
        raise error(f"{path} is not readable YAML: {one_line(caught)}") from caught


class _StrictLoader(_SafeLoader):  # type: ignore[misc]  # its class is chosen when the module is imported
    """Refuses a key that is there twice, and integers that neither a database nor a seed can hold."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping, whose keys are checked before those of `<<` are added."""
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                name = (key.tag, key.value)
                if name in first:
                    what = f"the key {_shown(key.value)} is there twice (first in line {first[name]})"
                    raise _fault(what, key.start_mark)
                first[name] = key.start_mark.line + 1
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return found

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer of at most 63 bits."""
        if len(node.value) <= 80:
            number: int = super().construct_yaml_int(node)
            if abs(number) <= _LARGEST_INTEGER:
                return number
        what = f"the integer {_shown(node.value)} has more than 63 bits"
        raise _fault(what, node.start_mark)


class _FiniteLoader(_StrictLoader):
    """Refuses NaN and infinities as well."""

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Return a finite number."""
        number: float = super().construct_yaml_float(node)
        if number - number != 0.0:
            what = f"{_shown(node.value)} is not a finite number"
            raise _fault(what, node.start_mark)
        return number


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_FiniteLoader.add_constructor("tag:yaml.org,2002:float", _FiniteLoader.construct_yaml_float)


def _check_depth(text: str) -> None:
    """Check the size of a document and how deeply it is nested, before anything recurses into it."""
    depth = 0
    events: Iterable[Any] = yaml.parse(text, Loader=_SafeLoader)
    for number, event in enumerate(events):
        if number > _MAX_EVENTS:
            what = f"the document has more than {MAX_VALUES:,} values"
            raise _fault(what, event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                what = f"lists and mappings are nested more than {MAX_DEPTH} levels deep"
                raise _fault(what, event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_size(root: yaml.Node) -> None:
    """Check that a document has few values once all aliases are replaced by what they stand for."""
    sizes: dict[int, tuple[int, int]] = {}

    def measure(node: Any) -> tuple[int, int]:
        known = sizes.get(id(node))
        if known == (0, 0):
            raise _fault("an alias stands for itself", node.start_mark)
        if known is not None or isinstance(node, yaml.ScalarNode):
            return known or (1, 0)
        sizes[id(node)] = (0, 0)
        pairs = isinstance(node, yaml.MappingNode)
        inner = [measure(one) for item in node.value for one in (item if pairs else (item,))]
        size = 1 + sum(values for values, _ in inner)
        depth = 1 + max((levels for _, levels in inner), default=0)
        if size > MAX_VALUES or depth > MAX_DEPTH:
            limit = f"{MAX_VALUES:,} values" if size > MAX_VALUES else f"{MAX_DEPTH} levels"
            what = f"the document has more than {limit}, counting what its aliases stand for"
            raise _fault(what, node.start_mark)
        sizes[id(node)] = (size, depth)
        return size, depth

    measure(root)


def _fault(what: str, mark: Any) -> yaml.YAMLError:
    """An error at a place of the document."""
    return yaml.constructor.ConstructorError(None, None, what, mark)


def _explain(error: yaml.YAMLError) -> str:
    """Place and cause of an error, in one line."""
    mark = getattr(error, "problem_mark", None)
    cause = getattr(error, "problem", None) or getattr(error, "reason", None) or one_line(error)
    if cause == "but found another document":
        cause = "another document begins here; give one document in a file"
    if cause == "found character that cannot start any token":
        cause += " (a tab, or one of @ ` %); indent with spaces and quote texts"
    return cause if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {cause}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
