"""Data that people bring: folders, torchvision's and Hugging Face's data sets, tar shards; each through the whole."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import webdataset
from answers import Answer, Command
from PIL import Image
from shapes import CLASSES, draw, images, png, write_classes, write_mnist, write_shards
from torch import Tensor

import sparsesearch
from sparsesearch.backbones.registry import PICO
from sparsesearch.data import epoch_order
from sparsesearch.data.inputs import open_task
from sparsesearch.data.shard_reader import read_entries
from sparsesearch.data.shard_samples import decode_entry
from sparsesearch.data.source import absolute_source, parse_source
from sparsesearch.data.splits import open_splits
from sparsesearch.data.task import Batch, Epoch, Task, ValPart
from sparsesearch.data.test_split import open_test
from sparsesearch.data.validation_size import num_more_images
from sparsesearch.errors import DataError, MissingExtraError
from sparsesearch.study.spec import DataSpec

PARTS: tuple[ValPart, ...] = ("screen", "confirm")
LAYOUTS = ("train-val", "train-val-test", "classes")


def write_layout(root: Path, layout: str) -> str:
    """90 images or so in one of the three layouts of folders."""
    if layout == "classes":
        write_classes(root, per_class=40, seed=1)
    else:
        for number, split in enumerate(layout.split("-")):
            write_classes(root / split, per_class=30 if split == "train" else 10, seed=number)
    return f"folder:{root}"


def write_parquet(root: Path) -> str:
    root.mkdir()
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(CLASSES))})
    for number, (split, per_class) in enumerate((("train", 30), ("test", 10))):
        rows = [{"picture": {"bytes": png(image)}, "kind": label} for image, label in images(per_class, seed=number)]
        datasets.Dataset.from_list(rows, features=features).to_parquet(root / f"{split}.parquet")
    return f"hfds:{root}"


def write_named_folder(root: Path) -> str:
    for number, (split, per_class) in enumerate((("train", 30), ("validation", 10))):
        write_classes(root / split, per_class=per_class, seed=number)
    return f"hfds:{root}"


def write_torch(root: Path) -> str:
    return f"torch/mnist:{write_mnist(root, train=90, test=30, seed=1)}"


def write_torch_folder(root: Path) -> str:
    write_layout(root, "train-val")
    return f"torch/image_folder:{root}"


def write_stream(root: Path) -> str:
    write_shards(root, "train", per_class=30, num_shards=3, seed=1)
    write_shards(root, "val", per_class=16, num_shards=2, seed=2)
    return f"wds:{root}"


WRITERS: dict[str, Callable[[Path], str]] = {
    **{layout: lambda root, layout=layout: write_layout(root, layout) for layout in LAYOUTS},
    "parquet": write_parquet,
    "image-folder": write_named_folder,
    "torch": write_torch,
    "torch-folder": write_torch_folder,
    "shards": write_stream,
}
NUM_TEST = {"train-val-test": 30, "classes": 12, "shards": 24}


@pytest.fixture(autouse=True)
def _cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "hugging-face")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def prints(batches: Iterator[Batch]) -> list[bytes]:
    """Each image as bytes: no two of ours are equal."""
    return [image.numpy().tobytes() for batch in batches for image in batch.images]


def epoch(task: Task, number: int = 1, *, seed: int = 0, num_images: int | None = None) -> list[Tensor]:
    batches = list(task.fresh_epoch(Epoch(number=number, seed=seed, batch_size=16, num_images=num_images)))
    return [torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])]


class TestEverySource:
    """The same for all of them."""

    @pytest.fixture(params=WRITERS)
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def data(self, kind: str, tmp_path: Path) -> DataSpec:
        return DataSpec(source=WRITERS[kind](tmp_path / "data"))

    def test_no_image_is_in_two_parts(self, data: DataSpec, kind: str) -> None:
        task, opened = open_task(data, backbone=PICO), open_test(data, backbone=PICO)
        parts = {
            "screen": prints(task.val("screen", batch_size=7)),
            "confirm": prints(task.val("confirm", batch_size=7)),
            "test": prints(opened.test(batch_size=7)),
        }
        assert len(parts["screen"]) == len(parts["confirm"]) == task.num_val > 0
        assert len(parts["test"]) == NUM_TEST.get(kind, 30)
        everything = Counter(print_ for part in parts.values() for print_ in part)
        assert max(everything.values()) == 1
        assert task.num_classes == 3
        assert (task.image_size, task.in_chans) == (32, 3)
        assert opened.fingerprint == task.fingerprint

    def test_what_is_drawn_depends_on_seed_and_epoch_alone(self, data: DataSpec) -> None:
        task = open_task(data, backbone=PICO)
        state = torch.random.get_rng_state()
        first, again = epoch(task), epoch(open_task(data, backbone=PICO))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(map(torch.equal, first, again))
        assert not torch.equal(first[0], epoch(task, 2)[0])
        assert not torch.equal(first[0], epoch(task, seed=1)[0])
        assert first[0].shape[1:] == (3, 32, 32)
        assert first[0].dtype == torch.uint8
        assert set(first[1].tolist()) == {0, 1, 2}
        assert len(epoch(task, num_images=20)[1]) == 16
        assert len(epoch(task, num_images=5)[1]) == 5

    def test_another_place_is_the_same_data_and_another_picture_is_not(self, data: DataSpec, tmp_path: Path) -> None:
        first = open_task(data, backbone=PICO).fingerprint
        assert first.startswith("2-")
        (tmp_path / "data").rename(tmp_path / "moved")
        moved = data.model_copy(update={"source": data.source.replace(f"{tmp_path}/data", f"{tmp_path}/moved")})
        assert open_task(moved, backbone=PICO).fingerprint == first
        largest = max((tmp_path / "moved").rglob("*train*/**/*.*"), key=lambda file: file.stat().st_size, default=None)
        if largest is not None and largest.suffix == ".png":
            draw(0, np.random.default_rng(99)).save(largest)
            assert open_task(moved, backbone=PICO).fingerprint != first

    def test_the_two_parts_of_validation_have_the_same_classes(self, data: DataSpec) -> None:
        task = open_task(data, backbone=PICO)
        parts = [Counter(torch.cat([b.labels for b in task.val(part, batch_size=9)]).tolist()) for part in PARTS]
        assert max(abs(parts[0][label] - parts[1][label]) for label in range(3)) <= 1
        assert min(parts[0].values()) > 0

    def test_fewer_validation_images(self, data: DataSpec) -> None:
        task = open_task(data.model_copy(update={"num_val_images": 2}), backbone=PICO)
        assert task.num_val == 2
        screen, more, confirm = (prints(task.val(part, batch_size=7)) for part in ("screen", "more", "confirm"))
        assert len(screen) == len(confirm) == 2
        assert len(more) == num_more_images(task.num_ranking, task.num_val) > 0
        assert not set(screen) & set(more)


class TestFolders:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_training_images_are_in_no_other_part(self, tmp_path: Path, layout: str) -> None:
        data = DataSpec(source=write_layout(tmp_path / "data", layout))
        splits = open_splits(parse_source(data.source), data, mode="RGB")
        parts = [{base[index][0].tobytes() for index in indices} for base, indices in (splits.train, splits.val)]
        parts.append({splits.test[0][index][0].tobytes() for index in splits.test[1]})
        assert [len(part) for part in parts] == {
            "train-val": [81, 9, 30],
            "train-val-test": [90, 30, 30],
            "classes": [96, 12, 12],
        }[layout]
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert splits.class_names == tuple(sorted(CLASSES))

    def test_loader_processes_change_nothing(self, tmp_path: Path) -> None:
        data = DataSpec(source=write_layout(tmp_path / "data", "train-val"))
        alone = open_task(data, backbone=PICO)
        helped = open_task(data.model_copy(update={"workers": 2}), backbone=PICO)
        assert all(map(torch.equal, epoch(alone), epoch(helped)))
        assert prints(alone.val("screen", batch_size=4)) == prints(helped.val("screen", batch_size=4))

    def test_what_the_fingerprint_sees(self, tmp_path: Path) -> None:
        data = DataSpec(source=write_layout(tmp_path / "data", "classes"))
        first = open_task(data, backbone=PICO).fingerprint
        assert open_task(data, backbone=PICO).fingerprint == first
        moved = DataSpec(source=f"folder:{shutil.copytree(tmp_path / 'data', tmp_path / 'elsewhere')}")
        assert open_task(moved, backbone=PICO).fingerprint == first
        # Another share means other training images, so no training may be taken over.
        assert open_task(data.model_copy(update={"val_fraction": 0.2}), backbone=PICO).fingerprint != first
        assert open_task(data.model_copy(update={"image_size": 64}), backbone=PICO).fingerprint != first
        next((tmp_path / "data" / "circle").iterdir()).unlink()
        assert open_task(data, backbone=PICO).fingerprint != first

    def test_all_kinds_of_files(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        modes = ["RGB", "L", "P", "RGBA", "CMYK", "I;16", "1"]
        for label, name in enumerate(("class2", "class10")):
            folder = tmp_path / "data" / name / "deeper" / "still"
            folder.mkdir(parents=True)
            for number, mode in enumerate(modes):
                suffix = {"CMYK": "JPG", "RGB": "webp", "L": "bmp"}.get(mode, "png")
                draw(label, rng).convert("L" if mode == "I;16" else mode).convert(mode).save(
                    folder / f"{number}.{suffix}"
                )
        (tmp_path / "data" / ".cache").mkdir()
        (tmp_path / "data" / "class2" / "README.txt").write_text("not an image")
        data = DataSpec(source=f"folder:{tmp_path / 'data'}", val_fraction=0.2)
        splits = open_splits(parse_source(data.source), data, mode="RGB")
        assert splits.num_classes == 2
        assert splits.class_names == ("class2", "class10")
        samples = [base[index] for base, order in (splits.train, splits.val, splits.test) for index in order]
        assert Counter(label for _, label in samples) == {0: 7, 1: 7}
        assert {image.mode for image, _ in samples} == {"RGB"}
        assert sum(
            len(labels) for labels in (b.labels for b in open_task(data, backbone=PICO).val("screen", batch_size=2))
        )

    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_image_that_breaks_later_is_named(self, tmp_path: Path, workers: int) -> None:
        data = DataSpec(source=write_layout(tmp_path / "data", "train-val"), workers=workers)
        task = open_task(data, backbone=PICO)
        for file in (tmp_path / "data" / "train" / "square").iterdir():
            file.write_bytes(file.read_bytes()[:200])
        with pytest.raises(DataError, match=r"square/\d+\.png is not a readable image") as caught:
            epoch(task)
        assert "\n" not in str(caught.value)
        assert "Caught" not in str(caught.value)


def parquet(folder: Path) -> Path:
    """A place that has nothing else in it: Hugging Face looks at all that is there."""
    (folder / "data").mkdir(exist_ok=True)
    return folder / "data"


class TestNames:
    @pytest.mark.parametrize(
        ("text", "kind", "name", "path"),
        [
            ("digits", "digits", "", None),
            ("folder:/a b/c", "folder", "", "/a b/c"),
            ("torch/CIFAR10:/data", "torch", "cifar10", "/data"),
            ("hfds/owner/name", "hfds", "owner/name", None),
            ("hfds:/data", "hfds", "", "/data"),
            ("wds:/data", "wds", "", "/data"),
            ("wds//data", "wds", "", "/data"),
        ],
    )
    def test_sources(self, text: str, kind: str, name: str, path: str | None) -> None:
        source = parse_source(text)
        assert (source.kind, source.name, source.path) == (kind, name, None if path is None else Path(path))
        assert parse_source(str(source)) == source

    def test_paths_become_absolute(self, home: Path) -> None:
        assert absolute_source("folder:data") == f"folder:{Path.cwd() / 'data'}"
        assert absolute_source("folder:~/data") == f"folder:{Path.home() / 'data'}"

    def test_a_missing_reader_names_the_extra(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sparsesearch.data.named.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"pip install 'sparsesearch\[data\]'"):
            open_task(DataSpec(source="hfds/owner/name"), backbone=PICO)
        answer = command("run", "--backbone", PICO, "--budget", "35%", "--data", "hfds/owner/name")
        assert "pip install 'sparsesearch[data]'" in answer.complaint

    def test_columns_without_classes(self, tmp_path: Path) -> None:
        datasets.Dataset.from_list([{"text": "a", "label": 1}] * 4).to_parquet(parquet(tmp_path) / "train.parquet")
        with pytest.raises(DataError, match=r"lacks a column of images.*text, label"):
            open_task(DataSpec(source=f"hfds:{parquet(tmp_path)}"), backbone=PICO)

    def test_classes_that_the_data_declares_count(self, tmp_path: Path) -> None:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=7)})
        for split in ("train", "validation"):
            rows = [{"image": {"bytes": png(image)}, "label": label} for image, label in images(10, seed=3)]
            datasets.Dataset.from_list(rows, features=features).to_parquet(parquet(tmp_path) / f"{split}.parquet")
        assert open_task(DataSpec(source=f"hfds:{parquet(tmp_path)}"), backbone=PICO).num_classes == 7

    def test_names_of_classes(self, tmp_path: Path) -> None:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
        for split in ("train", "validation"):
            rows = [{"image": {"bytes": png(image)}, "label": label} for image, label in images(10, seed=3)]
            datasets.Dataset.from_list(rows, features=features).to_parquet(parquet(tmp_path) / f"{split}.parquet")
        assert open_test(DataSpec(source=f"hfds:{parquet(tmp_path)}"), backbone=PICO).class_names == tuple(CLASSES)
        assert open_test(DataSpec(), backbone=PICO).class_names == tuple("0123456789")

    def test_a_broken_image_is_not_replaced_by_another(self, tmp_path: Path) -> None:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
        rows = [{"image": {"bytes": png(image)}, "label": label} for image, label in images(10, seed=3)]
        rows[7]["image"] = {"bytes": b"no image"}
        for split in ("train", "validation"):
            datasets.Dataset.from_list(rows, features=features).to_parquet(parquet(tmp_path) / f"{split}.parquet")
        with pytest.raises(DataError, match=r"sample 7 of hfds:.* \(train\) is not a readable image"):
            open_task(DataSpec(source=f"hfds:{parquet(tmp_path)}"), backbone=PICO)


class TestContents:
    """What is inside of named data sets is part of their fingerprint."""

    def test_pictures_and_labels_of_a_hugging_face_set(self, tmp_path: Path) -> None:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
        rows = [{"image": {"bytes": png(image)}, "label": label} for image, label in images(10, seed=3)]

        def fingerprint(place: str, rows: list[dict[str, object]]) -> str:
            folder = tmp_path / place
            folder.mkdir()
            for split in ("train", "validation"):
                datasets.Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}.parquet")
            return open_task(DataSpec(source=f"hfds:{folder}"), backbone=PICO).fingerprint

        first = fingerprint("a", rows)
        assert fingerprint("b", rows) == first
        assert fingerprint("c", [*rows[:4], {**rows[4], "label": 0}, *rows[5:]]) != first
        other = {"bytes": png(draw(1, np.random.default_rng(9)))}
        assert fingerprint("d", [*rows[:4], {**rows[4], "image": other}, *rows[5:]]) != first

    def test_pictures_of_a_torchvision_set(self, tmp_path: Path) -> None:
        found = []
        for place, seed in (("a", 1), ("b", 1), ("c", 2)):
            source = f"torch/mnist:{write_mnist(tmp_path / place, train=90, test=30, seed=seed)}"
            found.append(open_task(DataSpec(source=source), backbone=PICO).fingerprint)
        assert found[0] == found[1] != found[2]

    def test_broken_images_of_a_hugging_face_set_are_left_out(self, tmp_path: Path) -> None:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
        rows = [{"image": {"bytes": png(image)}, "label": label} for image, label in images(10, seed=3)]
        rows[7]["image"] = {"bytes": b"no image"}
        for split in ("train", "validation"):
            datasets.Dataset.from_list(rows, features=features).to_parquet(parquet(tmp_path) / f"{split}.parquet")
        data = DataSpec(source=f"hfds:{parquet(tmp_path)}", on_broken="skip")
        splits = open_splits(parse_source(data.source), data, mode="RGB")
        assert len(splits.train[1]) + len(splits.val[1]) == len(splits.test[1]) == 29
        assert splits.account.left_out == {"broken images": 2}


class TestStreams:
    def test_reads_what_webdataset_reads(self, tmp_path: Path) -> None:
        """Sample by sample, in its order."""
        shards = write_shards(tmp_path, "train", per_class=9, num_shards=2, seed=5)
        pipeline = webdataset.DataPipeline(
            webdataset.SimpleShardList([str(shard) for shard in shards]), webdataset.tarfile_to_samples()
        )
        theirs = [(Image.open(io.BytesIO(s["png"])).tobytes(), int(s["cls"])) for s in pipeline]
        ours = [(decode_entry(entry, mode="RGB").tobytes(), entry.label) for entry in read_entries(shards)]
        assert ours == theirs
        assert len(ours) == 27

    @pytest.mark.parametrize("window", [8, 4096])
    def test_an_epoch_shows_every_training_sample_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
    ) -> None:
        monkeypatch.setattr(epoch_order, "_WINDOW", window)
        data = DataSpec(source=write_stream(tmp_path / "data"))
        splits = open_splits(parse_source(data.source), data, mode="RGB")
        assert splits.train_runs == (30, 30, 30)
        orders = [
            epoch_order.epoch_order(np.arange(90), runs=splits.train_runs, seed=seed).tolist() for seed in (1, 1, 2)
        ]
        assert orders[0] == orders[1] != orders[2]
        assert sorted(orders[0]) == sorted(orders[2]) == list(range(90))
        assert orders[0] != sorted(orders[0])
        if window == 8:
            assert [len({index // 30 for index in orders[0][start : start + 30]}) for start in (0, 30, 60)] == [1, 1, 1]
        batches = list(open_task(data, backbone=PICO).fresh_epoch(Epoch(number=1, seed=0, batch_size=90)))
        assert Counter(batches[0].labels.tolist()) == {0: 30, 1: 30, 2: 30}

    def test_shards_for_testing_leave_all_validation_to_the_search(self, tmp_path: Path) -> None:
        source = write_stream(tmp_path / "data")
        half = open_task(DataSpec(source=source), backbone=PICO).num_val
        write_shards(tmp_path / "data", "test", per_class=5, num_shards=1, seed=9)
        assert (half, open_task(DataSpec(source=source), backbone=PICO).num_val) == (12, 24)
        assert len(prints(open_test(DataSpec(source=source), backbone=PICO).test(batch_size=8))) == 15

    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    def test_loader_processes_change_nothing(self, tmp_path: Path, suffix: str) -> None:
        data = DataSpec(source=write_stream(tmp_path / "data"))
        if suffix == ".tar.gz":
            for shard in (tmp_path / "data").glob("*.tar"):
                shard.with_suffix(suffix).write_bytes(gzip.compress(shard.read_bytes()))
                shard.unlink()
        tasks = [open_task(data.model_copy(update={"workers": workers}), backbone=PICO) for workers in (0, 1, 2)]
        alone = epoch(tasks[0])
        for helped in tasks[1:]:
            assert all(map(torch.equal, alone, epoch(helped)))
            assert prints(tasks[0].val("screen", batch_size=4)) == prints(helped.val("screen", batch_size=4))

    def test_an_info_file_names_the_shards(self, tmp_path: Path) -> None:
        root = tmp_path / "data"
        write_shards(root / "a", "x", per_class=30, num_shards=2, seed=1)
        write_shards(root / "b", "y", per_class=10, num_shards=1, seed=2)
        splits = {
            "train": {"filenames": ["a/x-000000.tar", "a/x-000001.tar"], "num_samples": 90, "shard_lengths": [45, 45]},
            "validation": {"filenames": ["b/y-000000.tar"], "num_samples": 30, "shard_lengths": [30]},
        }
        (root / "info.json").write_text(json.dumps({"splits": splits}))
        task = open_task(DataSpec(source=f"wds:{root}"), backbone=PICO)
        assert (task.num_train, task.num_val) == (90, 7)
        splits["train"]["filenames"] = ["a/gone.tar"]
        (root / "info.json").write_text(json.dumps({"splits": splits}))
        with pytest.raises(DataError, match=r"no such shard: .*gone\.tar"):
            open_task(DataSpec(source=f"wds:{root}"), backbone=PICO)
        (root / "info.json").write_text("{}")
        with pytest.raises(DataError, match=r"info\.json does not list shards"):
            open_task(DataSpec(source=f"wds:{root}"), backbone=PICO)

    def test_broken_shards_are_named(self, tmp_path: Path) -> None:
        source = write_stream(tmp_path / "data")
        shard = tmp_path / "data" / "val-000001.tar"
        whole = shard.read_bytes()
        cuts = [whole[: len(whole) * tenths // 10] for tenths in (1, 3, 4, 5, 7, 8)]
        with tarfile.open(shard) as tar:
            header = tar.getmembers()[20].offset
        overwritten = whole[:header] + b"x" * 512 + whole[header + 512 :]
        for content in (b"", b"no tar" * 500, overwritten, *cuts):
            shard.write_bytes(content)
            with pytest.raises(DataError, match=r"val-000001\.tar is not a readable tar file") as caught:
                open_task(DataSpec(source=source), backbone=PICO)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"a.png": b"x"}, "the sample a in .* has no class label"),
            ({"a.png": b"x", "a.cls": b"cat"}, "the sample a in .* has no class label"),
            ({"a.cls": b"0"}, "the sample a in .* has no image"),
            ({"a.png": b"x", "a.cls": b"1"}, "the image of a in .* is not a readable image"),
        ],
    )
    def test_broken_samples_are_named(self, tmp_path: Path, files: dict[str, bytes], said: str) -> None:
        source = write_stream(tmp_path / "data")
        with tarfile.open(tmp_path / "data" / "val-000000.tar", "w") as tar:
            for copy in range(8):
                for name, content in files.items():
                    member = tarfile.TarInfo(name.replace("a.", "a." if copy == 0 else f"b{copy}."))
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        with pytest.raises(DataError, match=said):
            open_task(DataSpec(source=source), backbone=PICO)

    def test_a_class_that_validation_does_not_know(self, tmp_path: Path) -> None:
        source = write_stream(tmp_path / "data")
        with webdataset.TarWriter(str(tmp_path / "data" / "train-000009.tar")) as writer:
            writer.write({"__key__": "odd", "png": png(draw(0, np.random.default_rng(0))), "json": {"label": 12}})
        with pytest.raises(DataError, match=r"has labels up to 12, but no training images of class 3"):
            open_task(DataSpec(source=source), backbone=PICO)


TINY = """
backbone: deit_pico
dispatcher: inline
budget: 40%
precision: float32
device: cpu
weights: scratch
baselines: false
data: {source: "SOURCE", image_size: 32}
fidelity:
  evaluations: 2
  finalists: 1
  dense: {epochs: 1, images_per_epoch: 64, batch_size: 32}
  supernet_training: {epochs: 1, images_per_epoch: 64, batch_size: 32}
  finetune: {epochs: 1, images_per_epoch: 32, batch_size: 16}
  retrain: {epochs: 1, images_per_epoch: 32, batch_size: 16}
"""


@pytest.mark.slow
class TestWhole:
    @pytest.mark.parametrize("kind", WRITERS)
    def test_from_images_to_a_trained_model(self, command: Command, tmp_path: Path, kind: str) -> None:
        source = WRITERS[kind](tmp_path / "data")
        Path("study.yaml").write_text(TINY.replace("SOURCE", source), encoding="utf-8")
        found = command("run", "study.yaml", "--no-mlflow", "--json")
        assert found.code == 0, found.err
        assert "bundled demo" not in found.err
        assert "does not transfer" not in Path(found.document["recipe"]).read_text(encoding="utf-8")
        trained: Answer = command("retrain", found.document["recipe"], "--json")
        assert trained.code == 0, trained.err
        assert trained.document["metrics"]["test_images"] == NUM_TEST.get(kind, 30)
        model = sparsesearch.load(trained.document["model"])
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
