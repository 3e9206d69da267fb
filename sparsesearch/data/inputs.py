"""The input preprocessing of a backbone, and the task that provides its images."""

from __future__ import annotations

import timm
import torch

from sparsesearch.backbones.bundled import BUNDLED, is_small
from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.images_task import ImagesTask
from sparsesearch.data.loading import Preprocessing
from sparsesearch.data.shards import open_stream
from sparsesearch.data.source import parse_source
from sparsesearch.data.splits import open_splits
from sparsesearch.data.stream_task import StreamTask
from sparsesearch.data.task import Task
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.spec import DataSpec


def has_pretrained(backbone: str) -> bool:
    """Whether there are published weights of a backbone (resolved name)."""
    config = None if backbone in BUNDLED else timm.get_pretrained_cfg(backbone)
    return config is not None and config.has_weights


def preprocessing_of(backbone: str, data: DataSpec) -> Preprocessing:
    """Size and normalisation of the input of a backbone (resolved name) on the given data."""
    if is_small(backbone):
        channels = 1 if data.is_demo else 3
        return Preprocessing(
            image_size=data.image_size or BUNDLED[backbone].image_size, in_chans=channels, crop_pct=1.0
        )
    if backbone in BUNDLED:
        return Preprocessing(image_size=data.image_size or BUNDLED[backbone].image_size, crop_pct=0.875)
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        return Preprocessing(image_size=data.image_size or 224)
    return Preprocessing(
        image_size=data.image_size or config.input_size[-1],
        in_chans=config.input_size[0],
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation or "bicubic",
        crop_pct=config.crop_pct or 0.9,
    )


def open_task(data: DataSpec, *, backbone: str) -> Task:
    """Training and validation data for a backbone (resolved name).

    Raises:
        DataError: The data is missing, empty or corrupt.
        MissingExtraError: A package needed to read the data is not installed.
    """
    source, preprocessing = parse_source(data.source), preprocessing_of(backbone, data)
    if source.kind == "digits":
        return DigitsTask(
            image_size=preprocessing.image_size,
            in_chans=preprocessing.in_chans,
            num_val_images=data.num_val_images,
            variant=source.variant,
        )
    if source.kind == "wds" and source.path is not None:
        return StreamTask(open_stream(source.path), preprocessing, data)
    return ImagesTask(open_splits(source, data, mode=preprocessing.mode), preprocessing, data)


def task_geometry(backbone: str, task: Task) -> BackboneGeometry:
    """Geometry of a backbone (resolved name) with the head and input of a task; no weights are allocated."""
    with torch.device("meta"):
        model = create_model(backbone, num_classes=task.num_classes, in_chans=task.in_chans, image_size=task.image_size)
    return geometry(model, backbone)
