"""Former names of keys and values of study documents, so that stored documents can still be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_KEYS = {
    "fidelity": {"elastic_training": "supernet_training"},
    "data": {"val_share": "val_fraction"},
}
_UNITS = {"share": "fraction"}
_STRATEGIES = {True: "supernet", False: "finetune"}


def renamed(section: str, document: object) -> object:
    """Replace former names in one section of a study document; anything but a mapping is returned unchanged.

    Args:
        section: `fidelity`, `data` or `budget`.
        document: The section as plain data.

    Raises:
        ValueError: The section has both the former and the current name.
    """
    if not isinstance(document, Mapping):
        return document
    found = dict(document)
    for old, new in _KEYS.get(section, {}).items():
        if old in found:
            if new in found:
                raise ValueError(f"{old} is now called {new}; give only {new}")
            found[new] = found.pop(old)
    unit = found.get("unit")
    if section == "budget" and isinstance(unit, str) and unit in _UNITS:
        found["unit"] = _UNITS[unit]
    if section == "fidelity" and isinstance(found.get("elastic"), bool | None) and "elastic" in found:
        elastic = found.pop("elastic")
        strategy = None if elastic is None else _STRATEGIES[elastic]
        if strategy is not None and found.setdefault("strategy", strategy) != strategy:
            raise ValueError(f"elastic: {str(elastic).lower()} contradicts strategy: {found['strategy']}; give one")
    return found


def notes_on_renamed(document: Mapping[str, object]) -> Iterator[str]:
    """One line for each former name in a study document, with the current one."""
    for section, names in _KEYS.items():
        inner = document.get(section)
        if isinstance(inner, Mapping):
            for old, new in names.items():
                if old in inner:
                    yield f"{section}.{old} is now called {section}.{new}"
    budget, fidelity = document.get("budget"), document.get("fidelity")
    unit = budget.get("unit") if isinstance(budget, Mapping) else None
    if isinstance(unit, str) and unit in _UNITS:
        yield f"budget.unit: {unit} is now called {_UNITS[unit]}"
    if isinstance(fidelity, Mapping) and isinstance(fidelity.get("elastic"), bool):
        strategy = _STRATEGIES[bool(fidelity["elastic"])]
        yield f"fidelity.elastic: {str(fidelity['elastic']).lower()} is now written fidelity.strategy: {strategy}"
