"""What the schedule and int8 are worth in a runtime: the files next to those of the dense model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsesearch.app.deploy_subject import Subject
from sparsesearch.backbones.transforms import restore_, sparsify_
from sparsesearch.data.task import Epoch
from sparsesearch.data.test_split import TestedTask
from sparsesearch.deploy.check import TestSplit
from sparsesearch.deploy.exported import Exported, export
from sparsesearch.deploy.format import Format, Run
from sparsesearch.deploy.formats import onnx
from sparsesearch.deploy.int8 import FILE, NUM_IMAGES, quantize
from sparsesearch.deploy.speed import time_runs
from sparsesearch.schedule import Schedule

_NOT_FASTER = 1.02
_CALIBRATION_BATCH = 16


def without_schedule(model: nn.Module) -> nn.Module:
    """A dense copy of a model with the same weights."""
    dense = copy.deepcopy(model).cpu().float()
    restore_(dense)
    return dense.eval()


def dense_export(subject: Subject, *, opset: int) -> Exported:
    """Export the same weights without the schedule."""
    model = without_schedule(subject.model)
    sparsify_(model, Schedule())
    card = subject.card.model_copy(update={"schedule": Schedule(), "macs": subject.card.dense_macs or 0})
    return export(model, card, accuracy="the same weights without their schedule", opset=opset)


def speed_next_to_dense(each: Format, path: Path, dense: Exported, aside: Path) -> tuple[dict[str, Any], str]:
    """Time a file next to the dense model in the same format: what `export.json` says of it, and a line."""
    target = aside / f"dense-{each.FILE}"
    each.write(dense, target)
    runs: dict[str, Run] = {"dense": each.open(target), "sparse": each.open(path)}
    times = time_runs(runs, dense.example(batch=8))
    ratios = {str(batch): measured.ratio("dense", to="sparse") for batch, measured in times.items()}
    shown = ", ".join(f"{ratio:.2f} at batch size {batch}" for batch, ratio in ratios.items())
    line = f"{each.FILE}: speed relative to the dense model: {shown}"
    if max(ratios.values()) < _NOT_FASTER:
        line += "; it is not faster: fewer tokens do not pay here, deploy the dense model"
    if any(measured.is_busy for measured in times.values()):
        line += " (other processes used the machine)"
    return {"speed_relative_to_dense": ratios}, line


def int8_table(
    subject: Subject, dense: Exported, stage: Path, aside: Path, *, task: TestedTask, split: TestSplit
) -> tuple[dict[str, Any], list[str]]:
    """Quantise the graph and that of the dense model, and compare all four on the test split and the clock.

    Args:
        subject: The model.
        dense: Its dense export.
        stage: Where `model.onnx` is, and the quantised one goes.
        aside: Folder for the dense ones.
        task: The data: training images for the scales.
        split: The test split.

    Returns:
        What `export.json` says of it, and lines of a table.
    """
    files = {
        ("sparse", "float32"): stage / onnx.FILE,
        ("dense", "float32"): aside / f"dense-{onnx.FILE}",
        ("sparse", "int8"): stage / FILE,
        ("dense", "int8"): aside / f"dense-{FILE}",
    }
    onnx.write(dense, files["dense", "float32"])
    for kind in ("sparse", "dense"):
        quantize(files[kind, "float32"], files[kind, "int8"], calibration_images(task))
    runs = {f"{kind} {numbers}": onnx.open(path) for (kind, numbers), path in files.items()}
    times = time_runs(runs, dense.example(batch=8))
    rows, lines = {}, [f"{'':16s} {'test accuracy':>13s}  milliseconds at batch size {', '.join(map(str, times))}"]
    for name, run in runs.items():
        compared = split.compare(name, run, is_strict=False)
        ms = {str(batch): measured.latencies[name].median_ms for batch, measured in times.items()}
        rows[name] = {"test_top1": compared.top1, "median_ms": ms}
        lines.append(f"{name:16s} {compared.top1:>13.2%}  {', '.join(f'{value:.3g}' for value in ms.values())}")
    return {"int8": rows, "int8_calibration_images": NUM_IMAGES}, lines


def calibration_images(task: TestedTask) -> Iterator[Tensor]:
    """Training images for the scales of int8."""
    num_images = min(NUM_IMAGES, task.num_train)
    epoch = Epoch(number=0, seed=0, batch_size=_CALIBRATION_BATCH, num_images=num_images, rand_augment=None)
    return (batch.normalised().images for batch in task.fresh_epoch(epoch))
