"""Small images of coloured shapes, in the layouts that data comes in."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import webdataset
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


def write_mnist(folder: Path, *, train: int, test: int, seed: int) -> Path:
    """The files of torchvision's MNIST: grey images of three digits, which are our shapes."""
    rng = np.random.default_rng(seed)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", train), ("t10k", test)):
        labels = np.arange(count, dtype=np.uint8) % len(CLASSES)
        pixels = np.stack([np.asarray(draw(int(label), rng).convert("L").resize((28, 28))) for label in labels])
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.astype(np.uint8).tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return folder


def write_shards(folder: Path, split: str, *, per_class: int, num_shards: int, seed: int) -> list[Path]:
    """WebDataset shards, by WebDataset's own writer."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = list(images(per_class, seed=seed))
    paths = []
    for shard in range(num_shards):
        paths.append(folder / f"{split}-{shard:06d}.tar")
        with webdataset.TarWriter(str(paths[-1])) as writer:
            for number in range(shard, len(samples), num_shards):
                image, label = samples[number]
                writer.write({"__key__": f"{split}/{number:05d}", "png": png(image), "cls": str(label)})
    return paths
