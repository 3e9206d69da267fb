"""The form with which a study is submitted: a few fields, a whole document, or both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from sparsesearch.app.run_arguments import parse_duration
from sparsesearch.app.study_request import overridden
from sparsesearch.errors import SpecError
from sparsesearch.study.spec import Budget, read_document
from sparsesearch.study.spec.budget import BudgetUnit
from sparsesearch.study.spec.fidelity import Strategy

UNITS: Mapping[BudgetUnit, str] = {"fraction": "of the dense cost", "gflops": "GFLOPs", "ms": "milliseconds"}
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
FIELDS = ("name", "backbone", "budget", "unit", "data", "strategy", "time_budget", "priority", "document")
"""The fields of the form. Those that are empty leave the document as it is."""

_NAME = "document.yaml"


def requested(form: Mapping[str, str]) -> dict[str, Any]:
    """The document that a form asks for, with `priority`, as the API takes it.

    Raises:
        SpecError: The document is not readable, or a field is invalid.
    """
    fields = {name: form.get(name) or None for name in FIELDS}
    budget, time_budget, strategy = fields["budget"], fields["time_budget"], fields["strategy"]
    flags = {
        "name": fields["name"],
        "backbone": fields["backbone"],
        "budget": None if budget is None else Budget.parse(budget, _unit(fields["unit"])).model_dump(),
        "data": {"source": fields["data"]},
        "fidelity": {"strategy": strategy},
        "time_budget_s": None if time_budget is None else parse_duration(time_budget),
        "priority": whole_number(fields["priority"], what="priority"),
    }
    return overridden(_document(fields["document"]), flags)


def whole_number(text: str | None, *, what: str) -> int | None:
    """A whole number that a form contains; None if the field is empty.

    Raises:
        SpecError: It is none.
    """
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise SpecError(f"{what} must be a whole number, got {text[:40]!r}") from error


def _unit(text: str | None) -> BudgetUnit:
    found = next((unit for unit in UNITS if unit == text), None)
    if found is None:
        raise SpecError(f"unit of the budget: choose one of {', '.join(UNITS)}")
    return found


def _document(text: str | None) -> dict[str, Any]:
    """A document as plain data, read as from a file: bounded in size, depth and what its aliases stand for."""
    if text is None:
        return {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / _NAME
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            read = read_document(path)
        except SpecError as error:
            raise SpecError(str(error).replace(str(path), "the document")) from error
    if not isinstance(read, dict):
        raise SpecError("the document must consist of keys and values, such as backbone: deit_pico")
    return read
