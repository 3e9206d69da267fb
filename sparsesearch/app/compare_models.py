"""Compare trained models and deployed files on one test split, and on the clock of this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsesearch.app.deploy_speed import without_schedule
from sparsesearch.app.deploy_subject import Subject, find_subject
from sparsesearch.backbones.transforms import freeze_
from sparsesearch.data.test_split import open_test
from sparsesearch.deploy.compared import Contestant
from sparsesearch.deploy.format import Run, all_formats
from sparsesearch.deploy.metadata import read_metadata
from sparsesearch.deploy.speed import time_runs
from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.study.hits import Hits
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import DataSpec

DENSE = "dense"
_EVAL_BATCH = 64


@dataclass(frozen=True, eq=False)
class _Entrant:
    name: str
    runtime: str
    macs: int | None
    run: Run
    subject: Subject | None = None


@dataclass(frozen=True)
class ModelComparison:
    """Models that were compared.

    Attributes:
        contestants: What was measured of each, in the order that was given.
        class_names: Names of the classes; empty if unknown.
    """

    contestants: tuple[Contestant, ...]
    class_names: tuple[str, ...]


def compare_models(
    names: Sequence[str], *, data: DataSpec | None, settings: Settings, progress: Progress, times: bool = True
) -> ModelComparison:
    """Compare models. The test split is opened.

    Args:
        names: Files of `retrain` or `export --format`, names of studies, or `dense`: the first model without its
            schedule.
        data: The data; None for those that a model was trained on.
        settings: Where studies and their checkpoints are.
        progress: Reports progress.
        times: Whether they are timed.

    Raises:
        SpecError: A name is neither, there are no data, or the models have other classes.
    """
    entrants = _entrants(names, settings=settings)
    subject = next((each.subject for each in entrants if each.subject is not None), None)
    data = data or (None if subject is None else subject.card.data)
    if subject is None or data is None:
        raise SpecError("no data given; add --data, and at least one file of retrain or one study")
    task = open_test(data, backbone=subject.card.backbone, progress=progress)
    found, example = [], None
    for each in entrants:
        correct: list[bool] = []
        labels: list[int] = []
        with progress.bar(f"test split, {each.name}", None):
            for batch in task.test(batch_size=_EVAL_BATCH):
                images = batch.normalised().images
                example = images[:8] if example is None else example
                logits = each.run(images)[0]
                if logits.shape[1] != task.num_classes:
                    raise SpecError(
                        f"{each.name} has {logits.shape[1]} classes, but the data have {task.num_classes}; give the "
                        "data that it was trained on"
                    )
                correct += (logits.argmax(1) == batch.labels).tolist()
                labels += batch.labels.tolist()
        hits = Hits.of(correct, images="test")
        found.append(
            Contestant(each.name, each.runtime, each.macs, hits, _of_classes(correct, labels, task.num_classes))
        )
    if times and example is not None:
        with progress.bar("timing", None):
            timed = time_runs({str(i): each.run for i, each in enumerate(entrants)}, example)
        found = [
            replace(each, ms={batch: measured.latencies[str(i)].median_ms for batch, measured in timed.items()})
            for i, each in enumerate(found)
        ]
    return ModelComparison(tuple(found), task.class_names)


def _entrants(names: Sequence[str], *, settings: Settings) -> list[_Entrant]:
    found: list[_Entrant] = []
    for name in names:
        if name == DENSE:
            first = next((each.subject for each in found if each.subject is not None), None)
            if first is None:
                raise SpecError("dense is the model before it without its schedule; name a file or a study first")
            found.append(_Entrant(DENSE, "torch", first.card.dense_macs, _in_torch(without_schedule(first.model))))
        else:
            found.append(_deployed(name) or _trained(name, settings))
    return found


def _trained(name: str, settings: Settings) -> _Entrant:
    subject = find_subject(name, settings=settings)
    model = subject.model.cpu().float()
    freeze_(model)
    return _Entrant(name, "torch", subject.card.macs, _in_torch(model), subject=subject)


def _deployed(name: str) -> _Entrant | None:
    """A file of `export --format` that runs alone; None if it is none."""
    path = Path(name)
    endings = {Path(each.FILE).suffixes[-1]: each for each in all_formats().values() if each.RUNS_ALONE}
    chosen = all_formats()["aoti"] if path.name.endswith(".aoti.pt2") else endings.get(path.suffix)
    if chosen is None or not path.is_file():
        return None
    chosen.check()
    macs = read_metadata(path).get("macs")
    return _Entrant(name, chosen.NAME, None if macs is None else int(json.loads(macs)), chosen.open(path))


def _in_torch(model: nn.Module) -> Run:
    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return (model(images),)

    return run


def _of_classes(correct: Sequence[bool], labels: Sequence[int], num_classes: int) -> tuple[float, ...]:
    """Accuracy of each class, 0 for classes without images."""
    right, count = [0] * num_classes, [0] * num_classes
    for is_right, label in zip(correct, labels, strict=True):
        right[label] += is_right
        count[label] += 1
    return tuple(one / max(1, all_) for one, all_ in zip(right, count, strict=True))
