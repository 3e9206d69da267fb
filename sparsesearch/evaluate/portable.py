"""Evaluators as plain data, so that other processes can open them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from sparsesearch.events import Event
from sparsesearch.protocols import Evaluator
from sparsesearch.trial import Trial


class PortableEvaluator(BaseModel):
    """See `protocols.Evaluator`. Opened at its first use, in whatever process that is; crosses processes as JSON.

    Attributes:
        factory: `package.module:function`; the function takes the document and returns an evaluator.
        document: Plain data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    document: dict[str, Any] = {}
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
