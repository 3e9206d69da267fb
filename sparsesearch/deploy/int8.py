"""Quantise an ONNX graph to int8: activations and weights of its large products, with scales from training images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsesearch.deploy.exported import quiet
from sparsesearch.deploy.formats.onnx import INPUT, PLACE

FILE = "model.int8.onnx"
NUM_IMAGES = 256
"""Training images that the scales are taken from."""

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_FLOAT = ("sparsity", "head", "head_dist", "fc", "classifier", "aux_head")
"""Modules that stay in float: what ranks tokens, and what classifies."""


def quantize(source: Path, target: Path, images: Iterable[Tensor], *, float_modules: Iterable[str] = ()) -> None:
    """Write a quantised copy of a graph (static, QDQ, weights per channel).

    Args:
        source: The graph in float32.
        target: Where the copy is written.
        images: Batches of training images.
        float_modules: Modules that stay in float, in addition to the scorers of tokens and the head.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = onnx.load(str(source))
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    stay = (*_FLOAT, *float_modules)
    excluded = [node.name for node in graph.graph.node if _is_in(_place(node), stay)]
    with quiet(), _without_advice():
        quantize_static(
            graph,
            str(target),
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_PRODUCTS),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )
    made = onnx.load(str(target))
    del made.metadata_props[:]
    for key, text in {**metadata, "int8": f"static QDQ; in float: {', '.join(stay)}"}.items():
        made.metadata_props.add(key=key, value=text)
    onnx.save_model(made, str(target))


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without ONNX Runtime's advice, on the root logger, to prepare graphs that the exporter has prepared already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Images:
    """Images as ONNX Runtime's calibration reads them."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self._left: Iterator[Tensor] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch.numpy()}

    def __iter__(self) -> _Images:
        return self

    def __next__(self) -> dict[str, Any]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found


def _place(node: Any) -> str:
    return next((str(entry.value) for entry in node.metadata_props if entry.key == PLACE), "")


def _is_in(place: str, modules: Iterable[str]) -> bool:
    return any(place == module or place.startswith(f"{module}.") for module in modules)
