"""The only place where image files are decoded: for training, evaluation and pictures alike."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sparsesearch.errors import DataError, one_line

# Images of 90 to 180 million pixels are read; Pillow refuses larger ones, which are more likely an attack.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Damaged EXIF data, of images whose pixels are good.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# What Pillow logs about a damaged file, it raises as well.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decoded(
    file: str | IO[bytes] | Image.Image, *, mode: str, what: str, advice: str = "remove or replace it"
) -> Image.Image:
    """Decode an image, turn it as its EXIF orientation says, and convert it to 8 bits a channel.

    16-bit greyscale is scaled from 0..65535, floating point from 0..1. Transparency is dropped, as torchvision and timm
    do.

    Args:
        file: Path, open file, or an image that is open already.
        mode: Pillow's mode of the result, `RGB` or `L`.
        what: Names the image in errors.
        advice: Ends the line of an error.

    Raises:
        DataError: The file is no image, broken, too large, or has pixels whose range is unknown.
    """
    try:
        with file if isinstance(file, Image.Image) else Image.open(file) as image:
            image.load()
            _turn_upright_(image)
            return _eight_bits(image).convert(mode)
    except DataError as error:
        raise DataError(f"{what} {error}; {advice}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"{what} has more than {limit / 1e6:.0f} million pixels, which Pillow refuses; {advice}"
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{what} is not a readable image; {advice}") from error
    except Exception as error:  # decoders raise many exception types for corrupt files
        raise DataError(f"{what} is not a readable image ({one_line(error)}); {advice}") from error


def check_header(path: str, *, advice: str = "remove or replace it") -> None:
    """Check that a file begins like an image.

    Raises:
        DataError: It does not, or it is empty.
    """
    try:
        Image.open(path).close()
    except Image.DecompressionBombError:
        decoded(path, mode="L", what=path, advice=advice)
    except Exception as error:  # decoders raise many exception types for corrupt files
        with open(path, "rb") as file:
            reason = "unknown format or damaged" if file.read(1) else "it is empty"
        raise DataError(f"{path} is not a readable image ({reason}); {advice}") from error


def _silence_libtiff() -> None:
    """Keep libtiff from printing errors, which Pillow raises too, to standard error; for Pillow's library on Linux."""
    with contextlib.suppress(OSError, AttributeError):
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        path = next((line.split(maxsplit=5)[5] for line in mapped if "/libtiff" in line), None)
        if path is not None:
            ctypes.CDLL(path).TIFFSetErrorHandler(None)


_silence_libtiff()


def _turn_upright_(image: Image.Image) -> None:
    """Apply the EXIF orientation; without effect if the EXIF data is damaged, whose decoders raise many exceptions."""
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale pixels of more than 8 bits, which Pillow's `convert` would clip."""
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in _16_BIT:
        pixels = np.asarray(image)
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 65535:
            raise DataError(f"has integer pixels from {low} to {high}, where only 0 to 65535 is scaled")
        return Image.fromarray(((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            span = f"{values.min():g} to {values.max():g}"
            raise DataError(f"has floating-point pixels from {span}, where only 0 to 1 is scaled")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    return image
