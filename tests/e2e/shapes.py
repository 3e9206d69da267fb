"""Small images of coloured shapes, in the layouts that data comes in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")
SIZE = 24


def draw(label: int, rng: np.random.Generator) -> Image.Image:
    """One shape at a random place in a random shade, on grey noise. No two images are equal."""
    image = Image.fromarray(rng.integers(90, 130, (SIZE, SIZE, 3), dtype=np.uint8))
    left, top = (int(value) for value in rng.integers(0, 10, 2))
    shade = tuple(int(value) for value in rng.integers(0, 60, 3) + np.roll([190, 0, 0], label))
    box = (left, top, left + 12, top + 12)
    pen = ImageDraw.Draw(image)
    if label == 0:
        pen.ellipse(box, fill=shade)
    elif label == 1:
        pen.rectangle(box, fill=shade)
    else:
        pen.polygon([(left, top + 12), (left + 6, top), (left + 12, top + 12)], fill=shade)
    return image


def images(per_class: int, *, seed: int) -> Iterator[tuple[Image.Image, int]]:
    """The classes in turn."""
    rng = np.random.default_rng(seed)
    for _ in range(per_class):
        for label in range(len(CLASSES)):
            yield draw(label, rng), label


def write_classes(folder: Path, *, per_class: int, seed: int) -> Path:
    """A folder for each class."""
    for number, (image, label) in enumerate(images(per_class, seed=seed)):
        target = folder / CLASSES[label] / f"{number:05d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
    return folder


def png(image: Image.Image) -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
