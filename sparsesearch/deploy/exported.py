"""A sparse model as one exported program, from which all formats are made.

Shapes: `B` batch, `K` kept tokens.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sparsesearch.artifacts.checkpoint import ModelCard, stamped
from sparsesearch.backbones.calls import trace_of
from sparsesearch.backbones.transforms import freeze_
from sparsesearch.schedule.image_size import sides

DEFAULT_OPSET = 20

_EXAMPLE_BATCH = 2  # an example of one image would be taken for a constant


@dataclass(frozen=True, eq=False)
class Exported:
    """A model that is ready to be written in any format.

    Attributes:
        model: The frozen model, on the CPU, in float32.
        card: Its metadata.
        program: The model as a program of images, with any number of them.
        metadata: What every file says of the model, as short texts.
        opset: Version of the operators of ONNX.
        pictures: Images of its data to show its choice of tokens on; None without data.
    """

    model: nn.Module
    card: ModelCard
    program: ExportedProgram
    metadata: Mapping[str, str]
    opset: int = DEFAULT_OPSET
    pictures: Tensor | None = None

    def program_of(self, *, with_kept: bool) -> ExportedProgram:
        """The program, if wanted with further outputs: the positions that each step keeps, `B x K` each."""
        return export_program(_WithKept(self.model), self.example()) if with_kept else self.program

    def example(self, batch: int = _EXAMPLE_BATCH) -> Tensor:
        """Random images of the right size."""
        shape = (batch, self.card.in_chans, *sides(self.card.image_size))
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class _WithKept(nn.Module):
    """Logits, and the positions that each step keeps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits, trace = trace_of(self.model, images)
        return logits, *(step.kept_BK for step in trace.steps if step.kept_BK is not None)


def kept_tokens(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The logits of a sparse model, and the positions that each step keeps, `B x K` each."""
    with torch.no_grad():
        found: tuple[Tensor, ...] = _WithKept(model)(images)
    return found


def export(model: nn.Module, card: ModelCard, *, accuracy: str, opset: int = DEFAULT_OPSET) -> Exported:
    """Export a sparse model, which is not changed.

    Args:
        model: A sparse model.
        card: Its metadata.
        accuracy: What the files say about how their accuracy was checked.
        opset: Version of the operators of ONNX.
    """
    frozen = copy.deepcopy(model).cpu().float()
    freeze_(frozen)
    card = stamped(card, frozen.state_dict())
    shape = (_EXAMPLE_BATCH, card.in_chans, *sides(card.image_size))
    program = export_program(frozen, torch.zeros(shape))
    return Exported(frozen, card, program, metadata_of(card, accuracy=accuracy), opset)


def export_program(model: nn.Module, example: Tensor) -> ExportedProgram:
    """Export a model with any number of images, fixed in nothing but their size."""
    with torch.no_grad(), quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of this machine
    return program


def metadata_of(card: ModelCard, *, accuracy: str) -> dict[str, str]:
    """What every file says of its model: strings and numbers as they are, the rest as JSON.

    Args:
        card: The metadata of the model.
        accuracy: How the accuracy was checked.
    """
    document = card.model_dump(mode="json", exclude={"preprocessing", "data"})
    document |= {} if card.preprocessing is None else card.preprocessing.model_dump(mode="json")
    document |= {"input_size": [card.in_chans, *sides(card.image_size)], "accuracy": accuracy}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in document.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warnings on the inside of exported graphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
