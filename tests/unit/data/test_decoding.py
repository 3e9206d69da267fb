"""One function decodes, for training and pictures alike."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_defects import make_folder
from PIL import Image, ImageOps

from sparsesearch.data.content import Contents
from sparsesearch.data.decoding import decoded
from sparsesearch.data.folders import open_folder
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec
from sparsesearch.visualize.inspect import _read


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_in_training_as_in_pictures(tmp_path: Path, orientation: int) -> None:
    made = make_folder(tmp_path / "data", splits=("train", "val", "test"))
    pixels = np.zeros((40, 64, 3), dtype=np.uint8)
    pixels[:20, :32] = (250, 20, 20)
    pixels[20:, 32:] = (20, 20, 250)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = made.folders["train"] / "class1" / "turned.png"
    image.save(path, exif=exif)
    splits = open_folder(made.root, DataSpec(source=f"folder:{made.root}"), mode="RGB", contents=Contents(tmp_path))
    samples, order = splits.train
    (seen,) = [samples[index][0] for index in order if samples[index][0].size != (12, 10)]
    with Image.open(path) as opened:
        wanted = ImageOps.exif_transpose(opened).convert("RGB")
    assert seen.size == ((64, 40) if orientation < 5 else (40, 64))
    assert seen.tobytes() == wanted.tobytes() == _read(path, "RGB", min_pixels=1).tobytes()
    assert (seen.tobytes() == image.tobytes()) == (orientation == 1)


def test_scaling_of_16_bits_is_exact_at_both_ends_and_between(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    seen = np.asarray(decoded(str(tmp_path / "ramp.png"), mode="L", what="it"))
    assert seen.ravel().tolist() == list(range(256))


@pytest.mark.parametrize("value", [0, 1])
def test_one_bit_is_black_and_white(tmp_path: Path, value: int) -> None:
    Image.new("1", (9, 9), value).save(tmp_path / "bit.png")
    assert set(np.asarray(decoded(str(tmp_path / "bit.png"), mode="RGB", what="it")).ravel()) == {255 * value}


def test_transparency_is_dropped_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    rng = np.random.default_rng(0)
    for name, mode in (("rgba.png", "RGBA"), ("la.png", "LA"), ("cmyk.jpg", "CMYK")):
        channels = len(mode)
        Image.fromarray(rng.integers(0, 256, (20, 30, channels), dtype=np.uint8), mode=mode).save(tmp_path / name)
        seen = decoded(str(tmp_path / name), mode="RGB", what=name)
        assert seen.tobytes() == pil_loader(str(tmp_path / name)).tobytes(), name


def test_every_truncation_is_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for suffix in ("png", "jpg", "webp", "tif", "bmp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
        whole = path.read_bytes()
        for tenth in range(9):
            path.write_bytes(whole[: len(whole) * tenth // 10])
            with pytest.raises(DataError, match="is not a readable image") as caught:
                decoded(str(path), mode="RGB", what=str(path))
            assert "\n" not in str(caught.value)


DECODE_ALL = """
import logging, sys, pathlib
from sparsesearch.data.decoding import decoded
from sparsesearch.errors import DataError
logging.basicConfig(level=logging.WARNING)
broken = 0
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        decoded(str(path), mode="RGB", what=path.name)
    except DataError:
        broken += 1
print(broken)
"""


def test_decoding_prints_nothing(tmp_path: Path) -> None:
    """Damaged EXIF data and TIFF files, and large images, about which Pillow warns and libtiff prints."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 30
    image.save(tmp_path / "exif.jpg", exif=exif)
    whole = (tmp_path / "exif.jpg").read_bytes()
    header = whole.find(b"Exif") + 14
    (tmp_path / "exif.jpg").write_bytes(whole[:header] + bytes(40) + b"\xff" * 8 + whole[header + 48 :])
    Image.new("1", (9700, 9700)).save(tmp_path / "large.png")
    for kind in ("tiff_lzw", "tiff_deflate", "jpeg", "raw"):
        image.save(tmp_path / "whole.tif", compression=kind)
        whole = (tmp_path / "whole.tif").read_bytes()
        for seed in range(12):
            draws, changed = random.Random(seed), bytearray(whole)
            for _ in range(3):
                changed[draws.randrange(8, len(whole))] = draws.randrange(256)
            (tmp_path / f"{kind}-{seed}.tif").write_bytes(changed)
    done = subprocess.run([sys.executable, "-c", DECODE_ALL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 10
    assert done.stderr == ""
