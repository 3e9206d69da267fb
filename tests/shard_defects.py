"""WebDataset shards with defects, made by code, with what must be read from them or the line that refuses them.

Every image has one grey value all over, which is that of its class; every class is 20 grey values from the next.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

STEP = 20
Members = list[tuple[str, bytes]]


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._path,))


def png(label: int) -> bytes:
    """An image of a class."""
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (10 + STEP * label,) * 3).save(file, format="PNG")
    return file.getvalue()


def samples(labels: Iterable[int], *, prefix: str = "") -> Members:
    """Images and `cls` files."""
    found: Members = []
    for number, label in enumerate(labels):
        found += [(f"{prefix}{number:04d}.png", png(label)), (f"{prefix}{number:04d}.cls", str(label).encode())]
    return found


def tar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """The bytes of an archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


TRAIN, VAL = [0, 1, 2] * 6, [0, 1, 2] * 4


def write(root: Path) -> Path:
    """Two good training shards of nine samples, and a validation shard of twelve."""
    root.mkdir()
    for number in range(2):
        (root / f"train-{number:06d}.tar").write_bytes(tar(samples(TRAIN[number::2], prefix=f"{number}")))
    (root / "val-000000.tar").write_bytes(tar(samples(VAL)))
    return root


@dataclass(frozen=True)
class ReadShards:
    """What must be read: training, search and test samples, and the reasons for what is left out."""

    train: int = 18
    search: int = 6
    test: int = 6
    left_out: int = 0


def _add(name: str, members: Members, *, expected: ReadShards) -> Callable[[Path], ReadShards]:
    def add(root: Path) -> ReadShards:
        (root / name).write_bytes(tar(members))
        return expected

    return add


def _compressed(old: str, new: str) -> Callable[[Path], ReadShards]:
    def change(root: Path) -> ReadShards:
        content = gzip.compress((root / old).read_bytes())
        (root / old).unlink()
        (root / new).write_bytes(content)
        return ReadShards()

    return change


def _hostile(root: Path) -> ReadShards:
    pickled = pickle.dumps(Hostile(root / "pwned"))
    found = samples([0, 1, 2])
    for suffix in ("pkl", "pickle", "pyd", "pth", "npy", "npz", "ten", "json5"):
        found.insert(2, (f"0000.{suffix}", pickled))
    (root / "train-000009.tar").write_bytes(tar(sorted(found)))
    return ReadShards(train=21)


def _system_members(root: Path) -> ReadShards:
    more = [("._0000.png", b"x"), ("__MACOSX/0001.png", b"x"), (".DS_Store", b"x"), ("__meta__", b"{}")]
    (root / "train-000009.tar").write_bytes(tar(sorted([*samples([0, 1, 2]), *more])))
    return ReadShards(train=21)


def _json_labels(root: Path) -> ReadShards:
    members: Members = []
    for number, label in enumerate((0, 1, 2, 2.0)):
        members += [(f"{number}.JPEG", png(int(label))), (f"{number}.json", json.dumps({"label": label}).encode())]
    (root / "train-000009.tar").write_bytes(tar(members))
    return ReadShards(train=22)


def _in_folders(root: Path) -> ReadShards:
    for split in ("train", "val"):
        (root / split).mkdir()
        for number, shard in enumerate(sorted(root.glob(f"{split}-*.tar"))):
            shard.rename(root / split / f"{number}.tar")
    return ReadShards()


def _test_shards(root: Path) -> ReadShards:
    (root / "test-0.tar").write_bytes(tar(samples([0, 1, 2, 2])))
    return ReadShards(search=12, test=4)


def _other_files(root: Path) -> ReadShards:
    for name in ("README.md", "extra.tar", "val.txt", ".hidden"):
        (root / name).write_bytes(b"something")
    return ReadShards(left_out=4)


HARMLESS: dict[str, Callable[[Path], ReadShards]] = {
    "good": lambda root: ReadShards(),
    "gzip": _compressed("train-000000.tar", "train-000000.tar.gz"),
    "tgz": _compressed("val-000000.tar", "val-000000.tgz"),
    "gzip named tar": _compressed("val-000000.tar", "val-000000.tar"),
    "an empty shard": _add("train-000009.tar", [], expected=ReadShards()),
    "hostile members": _hostile,
    "system members": _system_members,
    "folders in names": _add("train-000009.tar", samples([0, 1], prefix="./a/b/"), expected=ReadShards(train=20)),
    "labels in JSON": _json_labels,
    "in folders": _in_folders,
    "test shards": _test_shards,
    "other files": _other_files,
}


def _bad(members: Members, *, name: str = "train-000009.tar") -> Callable[[Path], None]:
    def add(root: Path) -> None:
        (root / name).write_bytes(tar(members))

    return add


def _content(change: Callable[[bytes], bytes], name: str = "train-000001.tar") -> Callable[[Path], None]:
    def rewrite(root: Path) -> None:
        (root / name).write_bytes(change((root / name).read_bytes()))

    return rewrite


def _labelled(text: bytes, suffix: str = "cls") -> Callable[[Path], None]:
    return _bad([("odd.png", png(0)), (f"odd.{suffix}", text)])


def _overwritten_header(whole: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        start = archive.getmembers()[-2].offset
    return whole[:start] + b"x" * 512 + whole[start + 512 :]


def _listed(*shards: str) -> Callable[[Path], None]:
    def write_info(root: Path) -> None:
        splits = {"train": {"filenames": list(shards)}, "validation": {"filenames": ["val-000000.tar"]}}
        (root / "info.json").write_text(json.dumps({"splits": splits}))

    return write_info


def _one_class(root: Path) -> None:
    for shard in root.iterdir():
        shard.write_bytes(tar(samples([0] * 12)))


def _only_empty(root: Path) -> None:
    for shard in root.glob("train-*"):
        shard.write_bytes(tar([]))


_TAR = "is not a readable tar file"
FATAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty training shards": (_only_empty, "no training images of class 0"),
    "empty validation shard": (_bad([], name="val-000000.tar"), "contain 0 samples; at least 8 are required"),
    "empty file": (_content(lambda _: b""), _TAR),
    "no tar": (_content(lambda _: b"no tar" * 500), _TAR),
    "cut in a member": (_content(lambda whole: whole[:1800]), _TAR),
    "cut at a member": (_content(lambda whole: whole[: 512 * 4]), _TAR),
    "cut gzip": (_content(lambda whole: gzip.compress(whole)[:-20]), _TAR),
    "overwritten header": (_content(_overwritten_header), _TAR),
    "something after the end": (_content(lambda whole: whole + whole), "something after the end of the archive"),
    "negative label": (_labelled(b"-1"), "the sample odd in .* has the negative label -1"),
    "label as text": (_labelled(b"cat"), "the sample odd in .* has no class label but 'cat'"),
    "empty label": (_labelled(b""), "the sample odd in .* has no class label but ''"),
    "label in JSON as text": (_labelled(b'{"label": "cat"}', "json"), "the sample odd in .* has no class label"),
    "fraction as label": (_labelled(b'{"label": 1.5}', "json"), "the sample odd in .* has no class label"),
    "true as label": (_labelled(b'{"label": true}', "json"), "the sample odd in .* has no class label"),
    "JSON without label": (_labelled(b"{}", "json"), "the sample odd in .* has no class label"),
    "broken JSON": (_labelled(b"{", "json"), "the sample odd in .* has no class label"),
    "label out of range": (_labelled(b"999999999999"), "labels up to 999999999999, but no training images of class 3"),
    "no label": (_bad([("odd.png", png(0))]), "the sample odd in .* has no class label"),
    "no image": (_bad([("odd.cls", b"0")]), "the sample odd in .* has no image"),
    "image of unknown kind": (_bad([("odd.gif", png(0)), ("odd.cls", b"0")]), "the sample odd in .* has no image"),
    "class unknown to train": (_bad(samples([*VAL, 3]), name="val-000000.tar"), "no training images of class 3"),
    "broken picture in training": (_bad([("odd.png", b"x"), ("odd.cls", b"0")]), "odd in .* is not a readable image"),
    "twice in a sample": (_bad([*samples([0]), ("0000.cls", b"1")]), "duplicate file name"),
    "one class": (_one_class, "has only one class; at least two are required"),
    "pipe": (_listed("pipe:touch pwned"), "no such shard: .*pipe:touch pwned"),
    "URL": (_listed("http://127.0.0.1:9/train.tar"), "no such shard: .*http:"),
}
