"""`onnx`: a graph in one file, for ONNX Runtime and what else reads ONNX."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from sparsesearch.deploy.exported import Exported, quiet
from sparsesearch.deploy.format import Run
from sparsesearch.errors import MissingExtraError, SpecError

NAME, FILE, DESCRIPTION, RUNS_ALONE = "onnx", "model.onnx", "ONNX, for ONNX Runtime and others", True

LOWEST_OPSET, HIGHEST_OPSET = 18, 23
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
PLACE = "module"
"""Key of the metadata of a node: the name of the module that it belongs to."""

_ONE_FILE_BYTES = 1_900_000_000  # protobuf allows 2 GB
_SCOPES = "pkg.torch.onnx.name_scopes"


def check() -> None:
    """Check that the extra is installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the format onnx needs {missing[0]}, which is not installed; run: pip install 'sparsesearch[onnx]'"
        )


def check_opset(opset: int) -> None:
    """Check that a graph can be written with an opset.

    Raises:
        SpecError: It cannot.
    """
    if not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        raise SpecError(f"opset {opset} is not supported; choose one from {LOWEST_OPSET} to {HIGHEST_OPSET}")


def write(exported: Exported, path: Path, *, with_kept: bool = False) -> None:
    """Write the graph; the metadata are its properties."""
    program = exported.program_of(with_kept=with_kept)
    save(graph_of(program, exported.metadata, opset=exported.opset), path)


def open(path: Path, *, threads: int | None = None) -> Run:
    """Load the graph into ONNX Runtime, on the CPU.

    Args:
        path: The file.
        threads: Number of threads; None for ONNX Runtime's own.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = session.run(None, {INPUT: images.detach().cpu().contiguous().numpy()})
        return tuple(map(torch.from_numpy, found))

    return run


def graph_of(program: ExportedProgram, metadata: Mapping[str, str], *, opset: int, any_batch: bool = True) -> Any:
    """The `onnx.ModelProto` of a program.

    Its nodes say which module they belong to, and nothing of the machine that wrote it.

    Args:
        program: The program.
        metadata: What the file says of its model.
        opset: Version of the operators.
        any_batch: Whether the program takes any number of images.
    """
    check_opset(opset)
    example = program.example_inputs
    assert example is not None
    names = [OUTPUT, *(f"kept_{i}" for i in range(len(program.graph_signature.user_outputs) - 1))]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with quiet(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        made = torch.onnx.export(
            program,
            example[0],
            dynamo=True,
            external_data=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=names,
            dynamic_shapes=({0: BATCH},) if any_batch else None,
            verbose=False,
        )
    assert made is not None
    graph = made.model_proto
    for node in graph.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        del node.metadata_props[:]
        node.metadata_props.add(key=PLACE, value=_module(scopes))
    del graph.graph.metadata_props[:]
    for values in (graph.graph.input, graph.graph.output, graph.graph.value_info, graph.graph.initializer):
        for value in values:
            del value.metadata_props[:]
    for key, text in metadata.items():
        graph.metadata_props.add(key=key, value=text)
    return graph


def save(graph: Any, path: Path) -> None:
    """Write a graph: one file, or weights of their own next to it where protobuf cannot hold them."""
    import onnx

    is_large = graph.ByteSize() > _ONE_FILE_BYTES
    large: dict[str, Any] = {"save_as_external_data": True, "location": f"{path.name}.data"} if is_large else {}
    onnx.save_model(graph, str(path), **large)
    onnx.checker.check_model(str(path), full_check=True)


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says of its model."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False)
    return {entry.key: entry.value for entry in graph.metadata_props}


def _module(scopes: str) -> str:
    """The innermost module of the scopes of a node, which end with the name of its operation."""
    try:
        found: list[str] = json.loads(scopes.replace("'", '"'))
    except ValueError:
        return ""
    return found[-2] if len(found) > 1 else ""
