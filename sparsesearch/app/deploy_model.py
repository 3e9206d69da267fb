"""Write a trained model in formats for deployment; what fails a check is not kept."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsesearch.app.deploy_speed import dense_export, int8_table, speed_next_to_dense
from sparsesearch.app.deploy_subject import Subject
from sparsesearch.artifacts.output_files import check_folder
from sparsesearch.data.task import Batch
from sparsesearch.data.test_split import TestedTask, open_test
from sparsesearch.deploy import int8
from sparsesearch.deploy.check import BATCHES, TOLERANCE, DeployCheckError, TestSplit, check_outputs, clear_images
from sparsesearch.deploy.exported import DEFAULT_OPSET, Exported, export
from sparsesearch.deploy.format import Format, Run
from sparsesearch.errors import DataError, MissingExtraError, SparseSearchError, SpecError, one_line
from sparsesearch.files.durable import write_file
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.schedule import Schedule
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import DataSpec

REPORT = "export.json"
NOT_CHECKED = "not checked (--no-accuracy)"
_EVAL_BATCH = 64
_NUM_PICTURES = 4
_TIMED = ("onnx", "aoti")


@dataclass(frozen=True)
class DeployOptions:
    """How a model is written.

    Attributes:
        formats: The formats, with what they need installed.
        data: Its data; None for those that it was trained on.
        checks_accuracy: Whether the test split is evaluated in each runtime.
        times: Whether compiled formats are timed next to the dense model.
        int8: Whether the ONNX graph is quantised as well.
        tolerance: The largest difference of a logit that is accepted.
        opset: Version of the operators of ONNX.
        force: Whether files may be overwritten.
    """

    formats: Sequence[Format]
    data: DataSpec | None = None
    checks_accuracy: bool = True
    times: bool = True
    int8: bool = False
    tolerance: float = TOLERANCE
    opset: int = DEFAULT_OPSET
    force: bool = False


@dataclass
class Deployed:
    """What was written.

    Attributes:
        folder: The folder.
        document: What `export.json` says.
        lines: The same for people.
    """

    folder: Path
    document: dict[str, Any]
    lines: list[str] = field(default_factory=list)


def deploy_model(subject: Subject, folder: Path, options: DeployOptions, *, progress: Progress) -> Deployed:
    """Write a model into a folder in several formats, and check each in its own runtime.

    Kept tokens and logits are compared with torch at batch sizes 1, 2 and 5, and the classes of all test images. The
    test split is opened for that, which is recorded in `export.json`. Nothing is left if a check fails.

    Args:
        subject: The model.
        folder: Where the files go.
        options: The formats, and how they are checked.
        progress: Reports progress.

    Raises:
        SpecError: A file exists, the folder is not writable, or there are no data for the check.
        DeployCheckError: A file does not do what its model does.
        InfrastructureError: The disk is full, or failed.
    """
    check_folder(folder)
    if options.int8 and not (options.checks_accuracy and any(each.NAME == "onnx" for each in options.formats)):
        raise SpecError("--int8 quantises the format onnx and states its accuracy; add --format onnx, and the data")
    _check_new(folder, options)
    task = _open_data(subject, options, progress=progress) if options.checks_accuracy else None
    accuracy = NOT_CHECKED if task is None else "checked on the test split in each runtime"
    with progress.bar("exporting", None):
        exported = export(subject.model, subject.card, accuracy=accuracy, opset=options.opset)
    images = clear_images(exported.model, _images(exported, task))
    exported = exported if task is None else replace(exported, pictures=images[:_NUM_PICTURES])
    split = None if task is None else _in_torch(exported, task, progress=progress)
    document: dict[str, Any] = {
        "model": subject.what,
        **exported.metadata,
        "test_split": "not opened" if split is None else f"opened: {split.num_images} images",
        "checks": {"batch_sizes": list(BATCHES), "tolerance": options.tolerance},
        "files": {},
    }
    deployed = Deployed(folder, document)
    if split is not None:
        document["torch_test_top1"] = split.num_correct / split.num_images
    with _staged(folder) as stage:
        for each in options.formats:
            written = _written(each, exported, stage, images, split, options, progress=progress)
            document["files"][each.FILE] = written
            deployed.lines.append(_line(folder / each.FILE, written))
        _compare_with_dense(subject, deployed, stage, options, task=task, split=split, progress=progress)
        write_file(stage / REPORT, json.dumps(document, indent=1, sort_keys=True) + "\n")
        _move(stage, folder)
    return deployed


def _written(
    each: Format,
    exported: Exported,
    stage: Path,
    images: Tensor,
    split: TestSplit | None,
    options: DeployOptions,
    *,
    progress: Progress,
) -> dict[str, Any]:
    """Write and check one format; returns what `export.json` says of it."""
    path = stage / each.FILE
    with progress.bar(f"writing {each.FILE}", None), _told(each.FILE):
        each.write(exported, path)
        run = each.open(path)
        run_kept: Run | None = None
        if each.RUNS_ALONE:
            with tempfile.TemporaryDirectory(dir=stage) as aside:
                each.write(exported, Path(aside) / each.FILE, with_kept=True)
                run_kept = each.open(Path(aside) / each.FILE)
        difference = check_outputs(
            each.FILE, exported.model, images, run=run, run_kept=run_kept, tolerance=options.tolerance
        )
    found: dict[str, Any] = {
        "format": each.NAME,
        "bytes": sum(file.stat().st_size for file in _files(path)),
        "largest_difference_of_a_logit": difference,
    }
    if split is not None and each.RUNS_ALONE:
        with progress.bar(f"test split in {each.FILE}", None), _told(each.FILE):
            compared = split.compare(each.FILE, run)
        found |= {"test_top1": compared.top1, "test_images_classified_differently": compared.num_different}
    return found


def _compare_with_dense(
    subject: Subject,
    deployed: Deployed,
    stage: Path,
    options: DeployOptions,
    *,
    task: TestedTask | None,
    split: TestSplit | None,
    progress: Progress,
) -> None:
    """Time what was written next to the dense model, and quantise it if wanted."""
    timed = [each for each in options.formats if options.times and each.NAME in _TIMED]
    if subject.card.schedule == Schedule():
        timed = []
    if not timed and not options.int8:
        return
    with progress.bar("comparing with the dense model", None), _told("the dense model"):
        dense = dense_export(subject, opset=options.opset)
        with tempfile.TemporaryDirectory(dir=stage) as name:
            aside = Path(name)
            for each in timed:
                found, line = speed_next_to_dense(each, stage / each.FILE, dense, aside)
                deployed.document["files"][each.FILE] |= found
                deployed.lines.append(line)
            if options.int8:
                assert task is not None
                assert split is not None
                table, lines = int8_table(subject, dense, stage, aside, task=task, split=split)
                deployed.document |= table
                deployed.lines += lines


def _line(path: Path, written: dict[str, Any]) -> str:
    text = f"{path}: {written['bytes'] / 1e6:.1f} MB, logits within {written['largest_difference_of_a_logit']:.1g}"
    if "test_top1" in written:
        text += f", test accuracy {written['test_top1']:.2%}"
    return text


def _open_data(subject: Subject, options: DeployOptions, *, progress: Progress) -> TestedTask:
    data = options.data or subject.card.data
    if data is None:
        raise SpecError(
            f"{subject.what} does not say what data it was trained on, so its accuracy cannot be checked; give "
            "them with --data, or leave the check out with --no-accuracy"
        )
    try:
        task = open_test(data, backbone=subject.card.backbone, progress=progress)
    except (DataError, MissingExtraError) as error:
        raise SpecError(
            f"the accuracy cannot be checked ({error}); give the data with --data, or leave the check out with "
            "--no-accuracy"
        ) from error
    if task.num_classes != subject.card.num_classes:
        raise SpecError(
            f"{data.source} has {task.num_classes} classes, but {subject.what} has {subject.card.num_classes}; "
            "give the data that it was trained on"
        )
    return task


def _images(exported: Exported, task: TestedTask | None) -> Iterable[Tensor]:
    """Images to compare runtimes on: of the data, or random ones without them."""
    if task is None:
        return [exported.example(batch=16), torch.rand(exported.example(batch=48).shape) - 0.5]
    return (batch.normalised().images for batch in task.test(batch_size=16))


def _in_torch(exported: Exported, task: TestedTask, *, progress: Progress) -> TestSplit:
    def batches() -> Iterator[Batch]:
        return task.test(batch_size=_EVAL_BATCH)

    with progress.bar("test split in torch", None):
        return TestSplit(exported.model, batches)


def _check_new(folder: Path, options: DeployOptions) -> None:
    names = [*(each.FILE for each in options.formats), *([int8.FILE] if options.int8 else [])]
    there = [folder / name for name in names if (folder / name).exists()]
    if there and not options.force:
        raise SpecError(f"{there[0]} already exists; choose another folder, or overwrite it with --force")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder next to the final one, which is removed whatever happens."""
    stage: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
        yield stage
    except OSError as error:
        fault = infrastructure_fault(error)
        raise fault or SpecError(f"cannot write into {folder}: {one_line(error)}") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise the errors of exporters and runtimes, which are of many types, as one line of ours."""
    try:
        yield
    except (SparseSearchError, OSError):
        raise
    except Exception as error:
        fault = infrastructure_fault(error)
        raise fault or DeployCheckError(f"{what} could not be written or run: {one_line(error)}") from error


def _move(stage: Path, folder: Path) -> None:
    for made in sorted(stage.iterdir()):
        target = folder / made.name
        if target.is_dir():
            shutil.rmtree(target)
        made.replace(target)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
