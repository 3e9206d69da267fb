"""Models as calls that can be timed, in the runtime in which they are to be deployed."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.backbones.transforms import freeze_
from sparsesearch.deploy.exported import DEFAULT_OPSET, quiet
from sparsesearch.deploy.formats import aoti, onnx
from sparsesearch.latency.target import Ready
from sparsesearch.study.latency_record import Runtime


def ready_in(runtime: Runtime) -> Ready | None:
    """What makes models ready to be timed in a runtime; None for those that torch itself has.

    Raises:
        MissingExtraError: The runtime is not installed.
    """
    if runtime == "onnx":
        onnx.check()
        return _in_onnx_runtime
    if runtime == "aoti":
        aoti.check()
        return _in_aot_inductor
    return None


def _in_onnx_runtime(model: nn.Module, example: Tensor) -> Callable[[Tensor], object]:
    """A session of ONNX Runtime with as many threads as torch has, for inputs of the size of the example."""
    import onnxruntime

    with _exporting(model, example) as program:
        graph = onnx.graph_of(program, {}, opset=DEFAULT_OPSET, any_batch=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {onnx.INPUT: x.numpy()})


def _in_aot_inductor(model: nn.Module, example: Tensor) -> Callable[[Tensor], object]:
    """A package of AOTInductor, for inputs of the size of the example."""
    made: Any = io.BytesIO()
    with _exporting(model, example) as program:
        torch._inductor.aoti_compile_and_package(program, package_path=made)
    with tempfile.TemporaryDirectory(prefix="sparsesearch-") as folder:
        path = Path(folder) / aoti.FILE
        path.write_bytes(made.getvalue())
        package: Any = torch._inductor.aoti_load_package(str(path))
    return lambda x: package(x)


@contextmanager
def _exporting(model: nn.Module, example: Tensor) -> Iterator[ExportedProgram]:
    """Export a model with inputs of one size, as it would be deployed; a sparse one is frozen."""
    if isinstance(getattr(model, "sparsity", None), Sparsity):
        freeze_(model)
    with torch.inference_mode(False), torch.no_grad(), quiet():
        yield torch.export.export(model, (example.clone(),), strict=False)
