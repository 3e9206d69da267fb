"""The input preprocessing of a backbone, and the task that provides its images."""

from __future__ import annotations

from dataclasses import replace

import timm

from sparsesearch.backbones.bundled import BUNDLED
from sparsesearch.backbones.lookup import backbone_geometry, is_recorded_timm, is_small
from sparsesearch.backbones.registry import built_geometry
from sparsesearch.data.content import Contents, task_fingerprint
from sparsesearch.data.digits import MEAN, STD
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.images_task import ImagesTask
from sparsesearch.data.input_size import input_size
from sparsesearch.data.loading import Preprocessing
from sparsesearch.data.source import source_of
from sparsesearch.data.splits import open_splits
from sparsesearch.data.task import Task
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import DataSpec


def preprocessing_of(backbone: str, data: DataSpec) -> Preprocessing:
    """Size and normalisation of the input of a backbone (resolved name) on the given data."""
    image_size, in_chans = input_size(backbone, data)
    if backbone in BUNDLED:
        crop_pct = 1.0 if is_small(backbone) else 0.875
        return Preprocessing(image_size=image_size, in_chans=in_chans, crop_pct=crop_pct)
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        return Preprocessing(image_size=image_size, in_chans=in_chans)
    return Preprocessing(
        image_size=image_size,
        in_chans=in_chans,
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation or "bicubic",
        crop_pct=config.crop_pct or 0.9,
    )


def preprocessing_for(
    backbone: str, data: DataSpec, *, in_chans: int | None, image_size: ImageSize | None
) -> Preprocessing:
    """The preprocessing of image files as in training; the demo data has its own normalisation.

    Args:
        backbone: Resolved backbone name.
        data: What the model was trained on.
        in_chans: Image channels; None for those of the backbone and data.
        image_size: Height and width in pixels; None for that of the backbone and data.
    """
    found = preprocessing_of(backbone, data)
    found = replace(found, in_chans=in_chans or found.in_chans, image_size=image_size or found.image_size)
    if data.is_demo:
        found = replace(found, mean=(MEAN,) * found.in_chans, std=(STD,) * found.in_chans)
    return found


def open_task(
    data: DataSpec,
    *,
    backbone: str,
    progress: Progress | None = None,
    expected: str | None = None,
    state: str = "",
) -> Task:
    """Training and validation data for a backbone (resolved name).

    Args:
        data: The data.
        backbone: Resolved name.
        progress: Shows the hashing of files, and lines about what is left out or unexpected.
        expected: Fingerprint of the task that a study began with. Where only broken images have been repaired or
            removed since, the task of then is opened.
        state: `Task.state` of another process, which is believed instead of looking at each file again.

    Raises:
        DataError: The data is missing, empty or corrupt.
        MissingExtraError: A package needed to read the data is not installed.
    """
    source, preprocessing = source_of(data), preprocessing_of(backbone, data)
    if source.kind == "digits":
        return DigitsTask(
            image_size=preprocessing.image_size,
            in_chans=preprocessing.in_chans,
            num_val_images=data.num_val_images,
            variant=source.variant,
        )
    matches = None if expected is None else lambda found: task_fingerprint(found, preprocessing) == expected
    splits = open_splits(
        source, data, mode=preprocessing.mode, contents=Contents(progress=progress), matches=matches, state=state
    )
    task = ImagesTask(splits, preprocessing, data)
    if progress is not None:
        for line in splits.account.lines(num_val=task.num_val):
            progress.line(line)
    return task


def task_geometry(backbone: str, task: Task) -> BackboneGeometry:
    """Geometry of a backbone (resolved name) with the head and input of a task; no weights are allocated.

    It is that of the model which will be trained: with another version of timm than the recorded one, it is built.
    """
    found = backbone_geometry if is_recorded_timm() else built_geometry
    return found(backbone, num_classes=task.num_classes, in_chans=task.in_chans, image_size=task.image_size)
