"""Evaluators described by plain data, which other processes can open."""

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
    """See `protocols.Evaluator`. Sent to other processes as JSON, and opened by the process that first uses it.

    Attributes:
        factory: `package.module:function`; the function takes the document and returns an evaluator.
        document: Plain data.
        logs: Folder for the tracebacks of failed trials, accessible at this path on every machine; None to keep none.
        work: Folder in which processes say what they run, accessible likewise; None if nobody looks.
    """

    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    document: dict[str, Any] = Field(default_factory=dict)
    logs: str | None = None
    work: str | None = None
    _opened: Evaluator | None = PrivateAttr(default=None)

    def on(self, device: str) -> PortableEvaluator:
        """This evaluator on a device, if its document names one."""
        if "device" not in self.document:
            return self
        return self.model_copy(update={"document": {**self.document, "device": device}})

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial to its end, continuing after its recorded measurements."""
        yield from self.open().evaluate(trial)

    def open(self) -> Evaluator:
        """The evaluator itself, opened once."""
        if self._opened is None:
            module, _, function = self.factory.partition(":")
            self._opened = getattr(import_module(module), function)(self.document)
        assert self._opened is not None
        return self._opened


_: type[Evaluator] = PortableEvaluator
