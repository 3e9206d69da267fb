import hashlib
import os
import subprocess

import pytest
import torch
from geometries import DEIT_PICO
from safetensors.torch import save_file
from small_disk import small_disk

from sparsesearch.backbones.registry import backbone_geometry
from sparsesearch.errors import CheckpointError, DamagedFileError, InfrastructureError
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.spec import TrainSpec
from sparsesearch.study.trial import CheckpointRef
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.cache import dense_key, supernet_key
from sparsesearch.training.checkpoints import CheckpointFolder, read_tensors, write_tensors
from sparsesearch.training.study_folder import remove_older_files, remove_study_folder

TENSORS = {
    "weight": torch.linspace(-1, 1, 12).reshape(3, 4),
    "count": torch.tensor(7),
    "half": torch.tensor([0.1], dtype=torch.bfloat16),
}


def equal(found, expected):
    return set(found) == set(expected) and all(
        torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in expected
    )


class TestFiles:
    def test_tensors_and_document_come_back(self, tmp_path):
        path = tmp_path / "deep" / "er" / "a.safetensors"
        sha256 = write_tensors(path, TENSORS, metadata={"b": [1, None], "a": 0.1})
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        tensors, document = read_tensors(path, sha256=sha256)
        assert equal(tensors, TENSORS)
        assert document == {"a": 0.1, "b": [1, None]}
        assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"], "nothing half written is left"

    def test_equal_tensors_are_equal_bytes(self, tmp_path):
        views = {name: TENSORS[name] for name in reversed(TENSORS)}
        views["weight"] = TENSORS["weight"].t().contiguous().t()  # equal, but laid out otherwise
        first = write_tensors(tmp_path / "a", TENSORS, metadata={"x": 1, "y": 2})
        assert write_tensors(tmp_path / "b", views, metadata={"y": 2, "x": 1}) == first

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
    def test_a_damaged_file_is_refused_in_one_line(self, tmp_path, damage):
        path = tmp_path / "a.safetensors"
        sha256 = write_tensors(path, TENSORS, metadata={})
        blob = path.read_bytes()
        path.write_bytes(
            {"cut": blob[:-3], "flip": blob[:-1] + bytes([blob[-1] ^ 1]), "empty": b"", "text": b"hello" * 9}[damage]
        )
        with pytest.raises(DamagedFileError, match="SHA-256") as caught:
            read_tensors(path, sha256=sha256)
        assert "\n" not in str(caught.value)
        with pytest.raises(DamagedFileError, match="damaged" if damage == "flip" else "not a readable") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)

    def test_every_flipped_bit_is_found_without_a_recorded_hash(self, tmp_path):
        path = tmp_path / "a.safetensors"
        write_tensors(path, TENSORS, metadata={"a": "text"})
        blob = path.read_bytes()
        for place in range(len(blob)):
            path.write_bytes(blob[:place] + bytes([blob[place] ^ (1 << place % 8)]) + blob[place + 1 :])
            with pytest.raises(DamagedFileError):
                read_tensors(path)

    def test_a_file_of_an_older_version_has_no_hash_of_its_own(self, tmp_path):
        save_file(TENSORS, tmp_path / "a.safetensors", metadata={"sparsesearch": '{"a": 1}'})
        tensors, document = read_tensors(tmp_path / "a.safetensors")
        assert equal(tensors, TENSORS)
        assert document == {"a": 1}

    def test_a_document_that_is_no_json_is_refused(self, tmp_path):
        save_file(TENSORS, tmp_path / "a.safetensors", metadata={"sparsesearch": "{"})
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            read_tensors(tmp_path / "a.safetensors")

    def test_a_foreign_safetensors_file_has_an_empty_document(self, tmp_path):
        save_file(TENSORS, tmp_path / "a.safetensors")
        tensors, document = read_tensors(tmp_path / "a.safetensors")
        assert equal(tensors, TENSORS)
        assert document == {}

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*gone\.safetensors"):
            read_tensors(tmp_path / "gone.safetensors")


class TestCheckpointFolder:
    def test_a_reference_is_relative_and_checked(self, tmp_path):
        folder = CheckpointFolder(tmp_path / "old", "study")
        ref = folder.save("trial-00003", TENSORS, step=2, metadata={"whole": True})
        assert ref.uri == "study/trial-00003.safetensors"
        assert ref.step == 2
        (tmp_path / "old").rename(tmp_path / "new")
        moved = CheckpointFolder(tmp_path / "new", "study")
        assert moved.holds(ref)
        assert equal(moved.load(ref)[0], TENSORS)
        tensors, document = moved.read("trial-00003")
        assert equal(tensors, TENSORS)
        assert document == {"whole": True}

    def test_another_file_than_the_recorded_one_is_refused(self, tmp_path):
        folder = CheckpointFolder(tmp_path, "study")
        ref = folder.save("a", TENSORS, step=1, metadata={})
        folder.save("a", {"weight": torch.zeros(1)}, step=1, metadata={})
        with pytest.raises(DamagedFileError, match=r"recorded one\); it was set aside as a.safetensors.damaged"):
            folder.load(ref)
        assert [path.name for path in folder.folder.iterdir()] == ["a.safetensors.damaged"]
        assert not folder.holds(ref)
        with pytest.raises(CheckpointError, match="cannot read"):
            folder.load(ref)

    def test_older_checkpoints_of_one_trial_are_removed(self, tmp_path):
        folder = CheckpointFolder(tmp_path, "study")
        for step in (1, 2):
            folder.save(f"trial-00001-epoch-00{step}", TENSORS, step=step, metadata={})
        folder.save("trial-00002-epoch-001", TENSORS, step=1, metadata={})
        (folder.folder / "trial-00001-epoch-003.safetensors.77.part").write_bytes(b"killed while writing")
        folder.remove_others(prefix="trial-00001", keep=["trial-00001-epoch-002"])
        names = sorted(path.name for path in folder.folder.iterdir())
        assert names == ["trial-00001-epoch-002.safetensors", "trial-00002-epoch-001.safetensors"]

    def test_studies_of_one_name_have_their_own_folders(self, tmp_path):
        one, other = (CheckpointFolder(tmp_path, "study", uid) for uid in ("a" * 32, "b" * 32))
        ref = one.save("dense", TENSORS, step=1, metadata={})
        assert ref.uri == "study/dense.safetensors"
        assert one.holds(ref)
        assert not other.holds(ref)
        other.save("dense", {"weight": torch.zeros(1)}, step=1, metadata={})
        assert equal(one.load(ref)[0], TENSORS)
        remove_study_folder(tmp_path, "study", "b" * 32)
        assert one.verify(ref) is None

    def test_files_of_an_older_version_are_found_by_their_hash_and_left_there(self, tmp_path):
        older = CheckpointFolder(tmp_path, "study")
        ref = older.save("dense", TENSORS, step=1, metadata={})
        stranger = older.save("trial-00007", TENSORS, step=1, metadata={})
        newer = CheckpointFolder(tmp_path, "study", "a" * 32)
        assert equal(newer.load(ref)[0], TENSORS)
        wrong = ref.model_copy(update={"sha256": "0" * 64})
        with pytest.raises(DamagedFileError, match="it was left there"):
            newer.load(wrong)
        assert "it was left there" in newer.verify(wrong, sets_aside=True)
        remove_older_files(tmp_path, "study", [ref])
        assert not older.holds(ref)
        assert older.holds(stranger)
        remove_older_files(tmp_path, "study", [stranger])
        assert not older.folder.exists()

    def test_a_study_is_removed_whole(self, tmp_path):
        kept = CheckpointFolder(tmp_path, "kept").save("a", TENSORS, step=0, metadata={})
        folder = CheckpointFolder(tmp_path, "study")
        folder.save("a", TENSORS, step=0, metadata={})
        remove_study_folder(tmp_path, "study")
        remove_study_folder(tmp_path, "study")
        assert not folder.folder.exists()
        assert CheckpointFolder(tmp_path, "kept").holds(kept)


class TestKeys:
    def key(self, **changes):
        fields = {
            "backbone": "deit_pico",
            "geometry": backbone_geometry("deit_pico"),
            "num_classes": 10,
            "weights": "scratch",
            "data_fingerprint": "abc",
            "training": TrainSpec(epochs=2),
            "seed": 0,
            "arithmetic": Arithmetic(torch.device("cpu"), torch.float32),
        }
        return dense_key(**{**fields, **changes})

    def test_equal_inputs_have_one_key_and_others_another(self, tmp_path):
        changes = [
            {"backbone": "lvvit_pico"},
            {"geometry": backbone_geometry("deit_small_patch16_224")},
            {"geometry": backbone_geometry("deit_pico", image_size=64)},
            {"num_classes": 5},
            {"backbone": "deit_small_patch16_224", "weights": "pretrained"},
            {"data_fingerprint": "abd"},
            {"training": TrainSpec(epochs=3)},
            {"seed": 1},
            {"arithmetic": Arithmetic(torch.device("cpu"), torch.bfloat16)},
            {"arithmetic": Arithmetic(torch.device("cuda", 0), torch.float32)},
        ]
        assert self.key() == self.key()
        assert len({self.key(), *(self.key(**change) for change in changes)}) == 11

    def test_published_weights_count_by_their_tag_and_the_version_of_timm(self, monkeypatch):
        before = self.key(weights="pretrained", backbone="deit_small_patch16_224")
        assert before != self.key(weights="pretrained", backbone="deit_base_patch16_224")
        monkeypatch.setattr("sparsesearch.training.published_weights.version", lambda name: "0.0.1")
        assert before != self.key(weights="pretrained", backbone="deit_small_patch16_224")

    def test_a_weights_file_counts_by_its_content(self, tmp_path):
        for name, blob in (("a", b"1"), ("b", b"1"), ("c", b"2")):
            (tmp_path / name).write_bytes(blob)
        a, b, c = (self.key(weights=str(tmp_path / name)) for name in "abc")
        assert a == b
        assert a != c
        with pytest.raises(CheckpointError, match="no such weights file"):
            self.key(weights=str(tmp_path / "d"))

    def test_supernet_weights_belong_to_dense_weights_space_recipe_and_seed(self):
        given = {"space": SearchSpace().resolve(DEIT_PICO), "training": TrainSpec(epochs=8), "seed": 0}
        smaller = SearchSpace(max_predictors=2).resolve(DEIT_PICO)
        others = [{"space": smaller}, {"training": TrainSpec(epochs=9)}, {"seed": 5}]
        keys = {supernet_key("dense-1", **{**given, **change}) for change in others}
        assert len(keys | {supernet_key("dense-1", **given), supernet_key("dense-2", **given)}) == 5
        written_in_full = SearchSpace(blocks=tuple(range(1, 8))).resolve(DEIT_PICO)
        assert supernet_key("dense-1", **{**given, "space": written_in_full}) == supernet_key("dense-1", **given)


def test_checkpoint_references_are_plain_values():
    ref = CheckpointRef(uri="study/a.safetensors", sha256="0" * 64, step=1)
    assert CheckpointRef.model_validate_json(ref.model_dump_json()) == ref


class TestDisks:
    """What a disk does to checkpoints is told from what a file is."""

    def test_a_full_disk_leaves_the_recorded_checkpoint(self, tmp_path):
        with small_disk(tmp_path / "disk", kilobytes=128) as disk:
            folder = CheckpointFolder(disk, "study")
            ref = folder.save("dense", {"a": torch.zeros(10_000)}, step=1, metadata={})
            with pytest.raises(OSError, match=r"No space left on device.*dense\.safetensors") as caught:
                folder.save("dense", {"a": torch.zeros(30_000)}, step=2, metadata={})
            assert "the disk is full" in str(infrastructure_fault(caught.value))
            assert folder.verify(ref) is None
            assert [path.name for path in folder.folder.iterdir()] == ["dense.safetensors"]

    def test_a_folder_that_has_gone_away_is_not_created_again(self, tmp_path):
        with small_disk(tmp_path / "disk", kilobytes=128) as disk:
            folder = CheckpointFolder(disk / "storage", "study")
            folder.create()
            ref = folder.save("dense", TENSORS, step=1, metadata={})
            in_worker = CheckpointFolder(disk / "storage", "study", exists=True)
            subprocess.run(["umount", str(disk)], check=True)
            for use in (
                lambda: folder.save("dense", TENSORS, step=2, metadata={}),
                lambda: folder.load(ref),
                lambda: folder.check_recorded([ref]),
                lambda: in_worker.save("dense", TENSORS, step=1, metadata={}),
            ):
                with pytest.raises(InfrastructureError, match="mount"):
                    use()
            assert not list(disk.iterdir())
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)

    def test_folders_and_files_are_for_the_user_alone(self, tmp_path):
        folder = CheckpointFolder(tmp_path / "storage", "study", "a" * 32)
        ref = folder.save("dense", TENSORS, step=1, metadata={})
        assert [path.stat().st_mode & 0o777 for path in (tmp_path / "storage", folder.folder)] == [0o700, 0o700]
        assert folder.path_of(ref).stat().st_mode & 0o777 == 0o600

    def test_a_model_that_was_asked_for_by_name_is_not(self, tmp_path):
        before = os.umask(0o022)
        write_tensors(tmp_path / "a.safetensors", TENSORS, metadata={})
        os.umask(before)
        assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644
