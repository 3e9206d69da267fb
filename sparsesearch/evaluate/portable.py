"""Evaluators as plain data, so that other processes can open them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydantic import Field, PrivateAttr

from sparsesearch.study.events import Event
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.trial import Trial
from sparsesearch.value import Value


class PortableEvaluator(Value):
    """See `protocols.Evaluator`. Opened at its first use, in whatever process that is; crosses processes as JSON.

    Attributes:
        factory: `package.module:function`; the function takes the document and returns an evaluator.
        document: Plain data.
    """

    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    document: dict[str, Any] = Field(default_factory=dict)
    _opened: Evaluator | None = PrivateAttr(default=None)

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial from where its record stands to its end."""
        yield from self.open().evaluate(trial)

    def open(self) -> Evaluator:
        """The evaluator itself, opened once."""
        if self._opened is None:
            module, _, function = self.factory.partition(":")
            self._opened = getattr(import_module(module), function)(self.document)
        assert self._opened is not None
        return self._opened


_: type[Evaluator] = PortableEvaluator
