"""Image folders with defects, made by code, that know what must be read from them or why they are refused.

`make_folder` writes a good folder. Every function of `HARMLESS` and `FATAL` adds one defect to it and notes the
consequence, so that defects can be combined. Every image has one grey value all over, which is that of its class.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

GREY = {"class2": 40, "class10": 90, "class1": 140, "Über uns": 190}
SPLITS = ("train", "val", "test")
HIDDEN = "hidden or system files and folders"


@dataclass
class MadeFolder:
    """A folder, and what must be read from it.

    Attributes:
        root: The folder.
        folders: Path of each split; only `train` for class folders without splits.
        images: Number of good images by split and class.
        left_out: What is counted as left out, without files of no image type.
        no_images: Number of files of no image type, in class folders.
        refused: Patterns of the lines with which it may be refused; empty if it is read.
        notes: Patterns of lines that must be said.
        broken: Paths of the images that cannot be decoded.
    """

    root: Path
    folders: dict[str, Path]
    images: dict[str, Counter[str]]
    left_out: Counter[str] = field(default_factory=Counter)
    no_images: int = 0
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in natural order."""
        return tuple(name for name in ("class1", "class2", "class10", "Über uns") if name in self.images["train"])

    def some_class(self, split: str = "train") -> tuple[str, Path]:
        """A class of a split and its folder."""
        name = next(iter(self.images[split]))
        return name, self.folders[split] / name

    def add(self, image: Image.Image, name: str, *, split: str = "train", **options: object) -> Path:
        """Save one more good image in a class."""
        label, folder = self.some_class(split)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
        self.images[split][label] += 1
        return path


def grey(value: int, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> Image.Image:
    """An image of one grey value."""
    return Image.new("L", size, value).convert(mode)


def make_folder(
    root: Path,
    *,
    splits: tuple[str, ...] = ("train", "val", "test"),
    names: dict[str, str] | None = None,
    classes: tuple[str, ...] = ("class2", "class10", "class1"),
    per_class: int = 6,
) -> MadeFolder:
    """A good folder; without splits, of class folders only.

    Args:
        root: Where.
        splits: Those that there are.
        names: Folder names of the splits.
        classes: Keys of `GREY`.
        per_class: Images of each class in each split.
    """
    folders = {split: root / (names or {}).get(split, split) for split in splits} or {"train": root}
    for folder in folders.values():
        for name in classes:
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(per_class):
                grey(GREY[name]).save(folder / name / f"{number:03d}.png")
    return MadeFolder(root, folders, {split: Counter(dict.fromkeys(classes, per_class)) for split in folders})


# --- What is read in spite of it -------------------------------------------------------------------------------------


def _hidden_file(name: str) -> Callable[[MadeFolder], None]:
    def add(made: MadeFolder) -> None:
        for folder in {made.root, made.folders["train"], made.some_class()[1], made.some_class()[1] / "deeper"}:
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"of the system")
            made.left_out[HIDDEN] += 1

    return add


def _hidden_folder(name: str) -> Callable[[MadeFolder], None]:
    def add(made: MadeFolder) -> None:
        for folder in {made.root, made.folders["train"], made.some_class()[1]}:
            (folder / name / "inside").mkdir(parents=True)
            grey(250).save(folder / name / "inside" / "a.png")
            made.left_out[HIDDEN] += 1

    return add


def _other_files(made: MadeFolder) -> None:
    folder = made.some_class()[1]
    for name in ("notes.txt", "labels.json", "a.gif", "no-suffix", "b.xml", "c.npy", "d.pkl"):
        (folder / name).write_bytes(b"no image")
        made.no_images += 1


def _files_outside(made: MadeFolder) -> None:
    for folder in {made.root, made.folders["train"]}:
        (folder / "README.md").write_text("about")
        made.left_out["files outside of class folders"] += 1


def _deeper(made: MadeFolder) -> None:
    name = made.some_class()[0]
    made.add(grey(GREY[name]), "a/b/c/d e.png")


def _odd_names(made: MadeFolder) -> None:
    name = made.some_class()[0]
    for file in ("ü ñ 日本.png", "#1?.png", "a:b.png", "-x.png", "A.PNG", "two.dots.png", "line\nfeed.png", "%41.png"):
        made.add(grey(GREY[name]), file)


def _name_that_is_no_text(made: MadeFolder) -> None:
    name = made.some_class()[0]
    made.add(grey(GREY[name]), os.fsdecode(b"caf\xe9.png"))


def _dangling_link(made: MadeFolder) -> None:
    (made.some_class()[1] / "gone.png").symlink_to(made.root / "nowhere.png")
    made.left_out["links without a target"] += 1


def _linked_file(made: MadeFolder) -> None:
    name, folder = made.some_class()
    (made.root / ".store").mkdir(exist_ok=True)
    made.left_out[HIDDEN] += 1
    grey(GREY[name]).save(made.root / ".store" / "file.png")
    (folder / "linked.png").symlink_to(made.root / ".store" / "file.png")
    made.images["train"][name] += 1


def _linked_folder(made: MadeFolder) -> None:
    name, folder = made.some_class()
    outside = made.root.parent / f"{made.root.name}-outside"
    outside.mkdir()
    grey(GREY[name]).save(outside / "far.png")
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    made.images["train"][name] += 1


def _cycle_of_links(made: MadeFolder) -> None:
    folder = made.some_class()[1]
    (folder / "up").symlink_to(folder, target_is_directory=True)
    made.left_out["links to a folder that is read already"] += 1


def _link_to_itself(made: MadeFolder) -> None:
    folder = made.some_class()[1]
    (folder / "self").symlink_to(folder / "self")
    made.left_out["links without a target"] += 1


def _pipe(made: MadeFolder) -> None:
    os.mkfifo(made.some_class()[1] / "pipe.png")
    made.left_out["special files"] += 1


def _other_folder(made: MadeFolder) -> None:
    if len(made.folders) > 1:
        (made.root / "annotations").mkdir()
        made.left_out["folders that are no split"] += 1


def _class_missing(split: str, *, is_empty: bool) -> Callable[[MadeFolder], None]:
    def remove(made: MadeFolder) -> None:
        if split not in made.folders:
            return
        name, folder = made.some_class(split)
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        if not is_empty:
            folder.rmdir()
        del made.images[split][name]
        # Without a test split, val is the test.
        said = "search validation" if split == "val" and "test" in made.folders else "test"
        made.notes.append(f"no {said} images of class.*'{name}'")

    return remove


def _pixels(file: str, convert: Callable[[int], Image.Image], **options: object) -> Callable[[MadeFolder], None]:
    def add(made: MadeFolder) -> None:
        made.add(convert(GREY[made.some_class()[0]]), file, **options)

    return add


def _array(value: float, kind: str) -> Image.Image:
    return Image.fromarray(np.full((10, 12), value, dtype=kind))


def _transparent_palette(value: int) -> Image.Image:
    image = Image.new("P", (12, 10), 1)
    image.putpalette([7, 7, 7, value, value, value])
    image.info["transparency"] = b"\x00\x80"
    return image


PIXELS: dict[str, Callable[[MadeFolder], None]] = {
    "16-bit PNG": _pixels("a16.png", lambda value: _array(value * 257, "uint16")),
    "16-bit TIFF": _pixels("a16.tif", lambda value: _array(value * 257, "uint16")),
    "16-bit big-endian TIFF": _pixels("b16.tiff", lambda value: _array(value * 257, ">u2")),
    "32-bit TIFF of 16 bits": _pixels("a32.tif", lambda value: _array(value * 257, "int32")),
    "float TIFF": _pixels("af.tif", lambda value: _array(value / 255, "float32")),
    "palette": _pixels("p.png", lambda value: grey(value, "P")),
    "palette with transparency": _pixels("pt.png", _transparent_palette),
    "RGBA": _pixels("rgba.png", lambda value: Image.new("RGBA", (12, 10), (value, value, value, 3))),
    "LA": _pixels("la.png", lambda value: Image.new("LA", (12, 10), (value, 9))),
    "grey": _pixels("l.png", lambda value: grey(value, "L")),
    "CMYK JPEG": _pixels("cmyk.jpg", lambda value: grey(value, "CMYK"), quality=95),
    "progressive JPEG": _pixels("prog.jpeg", grey, progressive=True, quality=95),
    "JFIF": _pixels("j.jfif", grey, format="JPEG", quality=95),
    "WebP": _pixels("w.webp", grey, lossless=True),
    "BMP": _pixels("b.bmp", grey),
    "PPM": _pixels("p.ppm", grey),
    "PGM": _pixels("p.pgm", lambda value: grey(value, "L")),
    "YCbCr TIFF": _pixels("y.tif", lambda value: grey(value, "YCbCr")),
    "PNG named JPEG": _pixels("png.jpg", grey, format="PNG"),
    "one pixel": _pixels("one.png", lambda value: grey(value, size=(1, 1))),
    "damaged EXIF": _pixels("exif.jpg", grey, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", quality=95),
}
HARMLESS: dict[str, Callable[[MadeFolder], None]] = {
    **{f"file {name}": _hidden_file(name) for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", ".x.jpg")},
    **{
        f"folder {name}": _hidden_folder(name)
        for name in ("__MACOSX", ".git", "@eaDir", "lost+found", "__pycache__", ".ipynb_checkpoints", "$RECYCLE.BIN")
    },
    "files of no image type": _other_files,
    "files outside": _files_outside,
    "deeper folders": _deeper,
    "odd names": _odd_names,
    "name that is no text": _name_that_is_no_text,
    "dangling link": _dangling_link,
    "linked file": _linked_file,
    "linked folder": _linked_folder,
    "cycle of links": _cycle_of_links,
    "link to itself": _link_to_itself,
    "named pipe": _pipe,
    "a folder that is no split": _other_folder,
    "class missing in val": _class_missing("val", is_empty=False),
    "class missing in test": _class_missing("test", is_empty=False),
    "class empty in test": _class_missing("test", is_empty=True),
    **PIXELS,
}


# --- What is refused -------------------------------------------------------------------------------------------------


def _broken(name: str, content: Callable[[bytes], bytes]) -> Callable[[MadeFolder], None]:
    def add(made: MadeFolder) -> None:
        path = made.some_class()[1] / name
        grey(77, size=(64, 64)).save(path)
        path.write_bytes(content(path.read_bytes()))
        made.broken.append(path)
        made.refused.append(re.escape(name.replace("\n", "\\n")) + " is not a readable image")

    return add


def _bad_pixels(name: str, image: Callable[[], Image.Image], said: str) -> Callable[[MadeFolder], None]:
    def add(made: MadeFolder) -> None:
        path = made.some_class()[1] / name
        image().save(path)
        made.broken.append(path)
        made.refused.append(said)

    return add


def _bomb(made: MadeFolder) -> None:
    path = made.some_class()[1] / "bomb.pgm"
    path.write_bytes(b"P5 20000 20000 255\n" + bytes(1000))
    made.broken.append(path)
    made.refused.append("bomb.pgm has more than 179 million pixels")


def _unknown_class(name: str, said: str) -> Callable[[MadeFolder], None]:
    def add(made: MadeFolder) -> None:
        split = next((split for split in ("test", "val") if split in made.folders), None)
        if split is not None:
            folder = made.folders[split] / name
            folder.mkdir()
            grey(1).save(folder / "a.png")
            made.refused.append(said)

    return add


def _empty_class(made: MadeFolder) -> None:
    (made.folders["train"] / "empty").mkdir()
    made.refused.append("the class folder .*empty contains no images")


def _two_folders_of_a_split(made: MadeFolder) -> None:
    if len(made.folders) > 1:
        (made.root / "Training" / "class1").mkdir(parents=True)
        made.refused.append("has two folders for train, .* merge or rename one")


BROKEN: dict[str, Callable[[MadeFolder], None]] = {
    "empty file": _broken("empty.png", lambda _: b""),
    "name of two lines": _broken("two\nlines.png", lambda _: b"x"),
    "text": _broken("text.jpg", lambda _: b"<html>404</html>"),
    "truncated PNG": _broken("cut.png", lambda whole: whole[: len(whole) * 2 // 3]),
    "truncated JPEG": _broken("cut.jpg", lambda whole: whole[: len(whole) * 2 // 3]),
    "flipped PNG": _broken("flip.png", lambda whole: whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]),
    "float beyond 1": _bad_pixels(
        "f.tif", lambda: _array(3.5, "float32"), r"f\.tif has floating-point pixels from 3.5"
    ),
    "float NaN": _bad_pixels("nan.tif", lambda: _array(float("nan"), "float32"), r"nan\.tif has floating-point pixels"),
    "32-bit integers": _bad_pixels("i.tif", lambda: _array(70000, "int32"), r"i\.tif has integer pixels from 70000"),
    "gigantic": _bomb,
}
FATAL: dict[str, Callable[[MadeFolder], None]] = {
    **BROKEN,
    "class unknown to train": _unknown_class("zebra", "has class 'zebra', without training images"),
    "class in other case": _unknown_class("CLASS2", r"has class 'CLASS2', without .*train has 'class2'"),
    "empty class": _empty_class,
    "two folders of a split": _two_folders_of_a_split,
}
