"""Whatever a person gets wrong: one line that says what, where and how to mend it, and exit code 2."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from answers import PROGRAM, Command
from shapes import write_classes

import sparsesearch
from sparsesearch.artifacts.recipe import write_recipe
from sparsesearch.backbones.registry import PICO, backbone_geometry, create_model
from sparsesearch.cli import main
from sparsesearch.errors import CheckpointError
from sparsesearch.schedule import Schedule
from sparsesearch.space.definition import SearchSpace
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import VERSION_TABLE
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import Budget, Resolved, StudySpec, TrainSpec
from sparsesearch.study.stop import StopCause, StoppedError
from tests.sample_recipe import sample_recipe

RUN = ("run", "--backbone", PICO, "--budget", "35%")


def stored_study(home: Path, name: str = "taken") -> None:
    """A study without trials in the database."""
    geometry = backbone_geometry(PICO)
    space = SearchSpace().resolve(geometry)
    resolved = Resolved(geometry=geometry, space=space, num_classes=10, in_chans=1, data_fingerprint="none")
    home.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{home / 'studies.db'}")
    store.create_study(StudySpec(name=name, backbone=PICO, budget=Budget(high=0.35), resolved=resolved)).close()


class TestBackboneAndBudget:
    def test_an_unknown_backbone_names_the_nearest(self, command: Command) -> None:
        line = command("run", "--backbone", "deit_smal", "--budget", "35%").complaint
        assert "'deit_smal'" in line
        assert "did you mean deit_small" in line

    def test_a_timm_model_of_another_family(self, command: Command) -> None:
        line = command("run", "--backbone", "resnet50", "--budget", "35%").complaint
        assert "resnet50" in line
        assert "VisionTransformer" in line

    @pytest.mark.parametrize("flag", [("--budget", "1%"), ("--budget-gflops", "0.0001"), ("--budget", "1%:30%")])
    def test_an_unreachable_budget_states_what_can_be_reached(self, command: Command, flag: tuple[str, str]) -> None:
        line = command("run", "--backbone", PICO, *flag).complaint
        assert "feasible range of deit_pico" in line
        assert "to 99.99% of dense" in line

    def test_the_stated_interval_can_be_typed_in(self, command: Command) -> None:
        line = command("run", "--backbone", PICO, "--budget", "1%").complaint
        low = line.partition("that is ")[2].partition("%")[0]
        # The next thing to be found wrong is the device: the budget is fine.
        line = command("run", "--backbone", PICO, "--budget", f"{low}%", "--weights", "nowhere.pth").complaint
        assert "nowhere.pth" in line

    @pytest.mark.parametrize("flag", [("--budget", "120%"), ("--budget", "100%"), ("--budget-gflops", "3.0")])
    def test_a_budget_that_dense_already_meets(self, command: Command, flag: tuple[str, str]) -> None:
        line = command("run", "--backbone", PICO, *flag).complaint
        assert "needs no search" in line
        assert "give a smaller budget" in line

    def test_both_budgets(self, command: Command) -> None:
        line = command("run", "--backbone", PICO, "--budget", "35%", "--budget-gflops", "1").complaint
        assert line == "give either --budget-gflops or --budget, not both"

    @pytest.mark.parametrize(
        ("flag", "text"),
        [
            *(("--budget", text) for text in ("35", "lots", "45%:20%", "0%", "-3%", "")),
            *(("--budget-gflops", text) for text in ("35%", "3,0", "3:2")),
        ],
    )
    def test_a_malformed_budget(self, command: Command, flag: str, text: str) -> None:
        assert repr(text) in command("run", "--backbone", PICO, f"{flag}={text}").complaint

    def test_no_backbone_and_no_budget(self, command: Command) -> None:
        assert "--backbone deit_s" in command("run", "--budget", "35%").complaint
        assert "--budget-gflops 3.0" in command("run", "--backbone", PICO).complaint


class TestData:
    def test_a_missing_folder(self, command: Command) -> None:
        assert "no such data folder: /no/where" in command(*RUN, "--data", "folder:/no/where").complaint

    def test_an_empty_folder(self, command: Command, tmp_path: Path) -> None:
        line = command(*RUN, "--data", f"folder:{tmp_path / 'here'}").complaint
        assert "no class folders" in line
        assert "a separate folder" in line

    def test_a_folder_with_one_class(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "data" / "cats").mkdir(parents=True)
        assert "only the class folder cats" in command(*RUN, "--data", f"folder:{tmp_path / 'data'}").complaint

    def test_a_class_without_images(self, command: Command, tmp_path: Path) -> None:
        data = write_classes(tmp_path / "data", per_class=10, seed=0)
        (data / "zebra").mkdir()
        (data / "zebra" / "notes.txt").write_text("soon")
        line = command(*RUN, "--data", f"folder:{data}").complaint
        assert str(data / "zebra") in line
        assert ".jpg" in line

    @pytest.mark.parametrize("content", [b"", b"<html>404</html>", "half"], ids=["empty", "html", "cut"])
    def test_a_broken_image_is_named(self, command: Command, tmp_path: Path, content: bytes | str) -> None:
        data = write_classes(tmp_path / "data", per_class=10, seed=0)
        broken = sorted((data / "square").iterdir())[4]
        whole = broken.read_bytes()
        broken.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
        line = command(*RUN, "--data", f"folder:{data}").complaint
        assert f"{broken} is not a readable image" in line
        assert "remove or replace it" in line

    def test_splits_with_different_classes(self, command: Command, tmp_path: Path) -> None:
        for split in ("train", "val"):
            write_classes(tmp_path / "data" / split, per_class=4, seed=0)
        (tmp_path / "data" / "val" / "circle").rename(tmp_path / "data" / "val" / "oval")
        line = command(*RUN, "--data", f"folder:{tmp_path / 'data'}").complaint
        assert "has class 'oval', without training images" in line

    def test_a_training_folder_without_validation(self, command: Command, tmp_path: Path) -> None:
        write_classes(tmp_path / "data" / "train", per_class=4, seed=0)
        assert "none for validation or test" in command(*RUN, "--data", f"folder:{tmp_path / 'data'}").complaint

    def test_too_few_images(self, command: Command, tmp_path: Path) -> None:
        data = write_classes(tmp_path / "data", per_class=1, seed=0)
        assert "too few" in command(*RUN, "--data", f"folder:{data}").complaint

    @pytest.mark.parametrize("source", ["cifar10", "folder", "folder:", "torch/cifar10", "hfds", "wds", "digits:x", ""])
    def test_an_unknown_name_lists_the_forms(self, command: Command, source: str) -> None:
        line = command(*RUN, f"--data={source}").complaint
        assert f"{source!r}; use digits, digits:hard, digits:four, folder:PATH" in line

    def test_a_path_without_its_kind(self, command: Command, tmp_path: Path) -> None:
        assert f"did you mean folder:{tmp_path}?" in command(*RUN, "--data", tmp_path).complaint

    def test_names_that_nobody_knows(self, command: Command, tmp_path: Path) -> None:
        assert "choose one of cifar10" in command(*RUN, "--data", f"torch/cats:{tmp_path}").complaint
        assert "cannot open hfds/nobody/nothing" in command(*RUN, "--data", "hfds/nobody/nothing").complaint
        assert "no such data: /no/where" in command(*RUN, "--data", "hfds:/no/where").complaint
        assert "no such data folder: /no/where" in command(*RUN, "--data", "wds:/no/where").complaint
        assert "no train shards" in command(*RUN, "--data", f"wds:{tmp_path}").complaint

    def test_what_the_environment_says_is_checked_too(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPARSESEARCH_DATA", "folder:/no/where")
        assert "no such data folder: /no/where" in command(*RUN).complaint


class TestDocuments:
    def write(self, text: str) -> Path:
        path = Path("study.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    def test_no_such_file(self, command: Command) -> None:
        assert command("run", "study.yaml").complaint == "no such file: study.yaml"

    @pytest.mark.parametrize("text", ["a: [1, 2", "\tx: 1", "{", "!!python/object/apply:os.system ['true']"])
    def test_unreadable_yaml(self, command: Command, text: str) -> None:
        assert "study.yaml is not readable YAML" in command("run", self.write(text)).complaint

    def test_bytes_that_are_no_text(self, command: Command) -> None:
        Path("study.yaml").write_bytes(b"\xff\xfe\x00\x81")
        assert "study.yaml is not readable YAML" in command("run", "study.yaml").complaint

    @pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "3"])
    def test_yaml_that_is_no_mapping(self, command: Command, text: str) -> None:
        assert "is not a study document" in command("run", self.write(text)).complaint

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("sampller: tpe", "sampller: unknown key; did you mean sampler?"),
            ("fidelity: {dense: {epoch: 3}}", "fidelity.dense.epoch: unknown key; did you mean epochs?"),
            ("data: {sorce: digits}", "data.sorce: unknown key; did you mean source?"),
            ("space: {blocks: [3], min_predictor: 1}", "space.min_predictor: unknown key"),
            ("colour: red", "colour: unknown key"),
        ],
    )
    def test_an_unknown_key_is_named(self, command: Command, lines: str, said: str) -> None:
        assert said in command("run", self.write(lines), *RUN[1:]).complaint

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("fidelity: {dense: {epochs: 0}}", "fidelity.dense.epochs: Input should be greater than or equal to 1"),
            ("fidelity: {evaluations: many}", "fidelity.evaluations: Input should be a valid integer"),
            ("fidelity: [1]", "fidelity must be a mapping"),
            ("data: {val_fraction: 1.5}", "data.val_fraction: Input should be less than 1, got 1.5"),
            ("data: {image_size: None}", "data.image_size: invalid image size 'None'; give one number of pixels"),
            ("seed: -1", "seed: Input should be greater than or equal to 0"),
            (
                "sampler: best",
                "sampler: Input should be 'evolution', 'gradients', 'tpe', 'nsga2', 'gp' or 'random', got 'best'",
            ),
            ("device: tpu", "device: invalid value 'tpu'; choose auto, cpu, cuda or cuda:0"),
            ("name: a b", "name: invalid value 'a b'; use at most 80 letters"),
            ("name: [a]", "name: invalid value ['a']"),
            ("budget: 0.35", "budget: invalid value 0.35; use 35%"),
            ("budget: {high: 0.2, low: 0.4}", "0 < LOW < HIGH"),
            ("data: 3", "data: Input should be"),
            ("time_budget_s: -5", "time_budget_s: Input should be greater than 0"),
            ("schema_version: 2", "schema_version: Input should be 1, got 2"),
        ],
    )
    def test_a_bad_value_is_named(self, command: Command, lines: str, said: str) -> None:
        flags = ("--backbone", PICO) if lines.startswith("budget") else RUN[1:]
        assert said in command("run", self.write(lines), *flags).complaint

    def test_an_image_size_that_the_backbone_cannot_take(self, command: Command) -> None:
        assert "multiples of 4" in command(*RUN, "--image-size", "30").complaint

    def test_several_faults_are_one_line(self, command: Command) -> None:
        line = command("run", self.write("seed: -1\ncolour: red"), *RUN[1:]).complaint
        assert "seed: " in line
        assert "colour: " in line

    @pytest.mark.parametrize("text", ["abc", "10", "-5m", "0s", "5 minutes", ""])
    def test_a_bad_duration(self, command: Command, text: str) -> None:
        answer = command("run", "--backbone", "nonsense", "--budget", "35%", f"--time-budget={text}")
        if text == "10":  # a plain number is seconds
            assert "nonsense" in answer.complaint
        else:
            assert f"duration {text!r}" in answer.complaint

    def test_an_unknown_space(self, command: Command) -> None:
        line = command(*RUN, "--space", "deit_huge").complaint
        assert "no search space 'deit_huge'" in line
        assert "deit_pico" in line

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("blocks: [1]\nkeep: 0.5", "keep"),
            ("min_predictors: 4\nmax_predictors: 2", "min_predictors 4 is above max_predictors 2"),
            ("blocks: [1", "not readable YAML"),
            ("blocks: [99]", "block 99"),
        ],
    )
    def test_a_bad_space(self, command: Command, text: str, said: str) -> None:
        Path("mine.yaml").write_text(text, encoding="utf-8")
        assert said in command(*RUN, "--space", "mine.yaml").complaint


class TestWeights:
    def test_no_such_file(self, command: Command, tmp_path: Path) -> None:
        assert "weights file" in command(*RUN, "--weights", "lost.pth").complaint
        assert "lost.safetensors" in command(*RUN, "--weights", "lost.safetensors").complaint
        assert command("studies", "--json").document == []

    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"garbage" * 400], ids=["empty", "garbage"])
    def test_a_corrupt_file(self, command: Command, name: str, content: bytes) -> None:
        Path(name).write_bytes(content)
        assert name in command(*RUN, "--weights", name).complaint

    def test_a_file_cut_short(self, command: Command) -> None:
        torch.save(create_model(PICO).state_dict(), "w.pth")
        whole = Path("w.pth").read_bytes()
        Path("w.pth").write_bytes(whole[: len(whole) // 2])
        assert "w.pth is not a readable checkpoint" in command(*RUN, "--weights", "w.pth").complaint

    def test_a_pickle_is_not_run(self, command: Command) -> None:
        marker = Path("ran").absolute()

        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(marker),)

        torch.save({"model": Trap()}, "w.pth")
        assert "w.pth is not a readable checkpoint" in command(*RUN, "--weights", "w.pth").complaint
        assert not marker.exists()

    def test_weights_of_another_backbone_list_the_keys(self, command: Command) -> None:
        torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7), "layer1.0.bn1.weight": torch.zeros(8)}, "w.pth")
        line = command(*RUN, "--weights", "w.pth").complaint
        assert "does not fit the model" in line
        assert "missing (cls_token" in line
        assert "2 unknown (conv1.weight, layer1.0.bn1.weight)" in line
        assert command("studies", "--json").document == []

    def test_a_corrupt_model_cannot_be_loaded(self, home: Path) -> None:
        Path("model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00garbage")
        with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable safetensors file") as caught:
            sparsesearch.load("model.safetensors")
        assert "\n" not in str(caught.value)
        with pytest.raises(CheckpointError, match=r"lost\.safetensors"):
            sparsesearch.load("lost.safetensors")

    def test_a_model_given_as_a_recipe(self, command: Command) -> None:
        Path("model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00\xff\xfe")
        assert "model.safetensors is not readable YAML" in command("retrain", "model.safetensors").complaint


class TestDatabase:
    def test_of_a_newer_version(self, command: Command, home: Path) -> None:
        home.mkdir()
        with sqlite3.connect(home / "studies.db") as connection:
            connection.execute(f"CREATE TABLE {VERSION_TABLE} (version_num TEXT)")
            connection.execute(f"INSERT INTO {VERSION_TABLE} VALUES ('9999')")
        connection.close()
        for line in (command("studies").complaint, command(*RUN).complaint, command("db", "upgrade").complaint):
            assert "newer version of sparsesearch (revision 9999" in line

    @pytest.mark.parametrize("verb", [("studies",), ("db", "current"), ("db", "upgrade"), ("show", "x")])
    def test_garbage(self, command: Command, home: Path, verb: tuple[str, ...]) -> None:
        home.mkdir()
        (home / "studies.db").write_bytes(b"no database at all" * 100)
        assert "is not a readable SQLite database" in command(*verb).complaint

    @pytest.mark.parametrize("url", ["studies.db", "mysql://host/x", "sqlite://", "nonsense", "sqlite:////proc/x/y.db"])
    def test_an_unusable_url(self, command: Command, url: str) -> None:
        assert command("studies", "--database", url).complaint

    def test_nobody_answers(self, command: Command) -> None:
        line = command("studies", "--database", "postgresql://me:secret@127.0.0.1:1/x").complaint
        assert "127.0.0.1" in line
        assert "secret" not in line

    def test_a_name_that_is_taken(self, command: Command, home: Path) -> None:
        stored_study(home)
        line = command(*RUN, "--study", "taken").complaint
        assert "sparsesearch resume taken" in line
        assert "--study" in line

    @pytest.mark.parametrize("verb", ["show", "trials", "front", "resume", "export", "delete"])
    def test_an_unknown_study(self, command: Command, home: Path, verb: str) -> None:
        stored_study(home)
        line = command(verb, "talen").complaint
        assert "no study 'talen'" in line
        assert "taken" in line

    def test_a_study_to_start_from(self, command: Command, home: Path) -> None:
        stored_study(home)
        assert "no study 'talen'" in command(*RUN, "--warm-start", "talen").complaint
        line = command(*RUN, "--warm-start", "taken").complaint
        assert "'taken' has no evaluated schedule to start from" in line
        assert "sparsesearch resume taken" in line
        assert "requires sampler: evolution" in command(*RUN, "--warm-start", "taken", "--sampler", "tpe").complaint

    def test_deleting_asks_somebody(self, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stored_study(home)
        assert "--yes" in command("delete", "taken").complaint
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("typer.confirm", lambda text: False)
        answer = command("delete", "taken")
        assert (answer.code, answer.out) == (0, "nothing was deleted\n")
        assert [row["study"] for row in command("studies", "--json").document] == ["taken"]

    def test_nothing_to_export_yet(self, command: Command, home: Path) -> None:
        stored_study(home)
        answer = command("export", "taken")
        assert answer.code == 1
        assert answer.err.count("\n") == 1
        assert "sparsesearch resume taken" in answer.err


class TestRecipes:
    def write(self, **changes: object) -> Path:
        recipe = sample_recipe(training=TrainSpec(epochs=1, images_per_epoch=64))
        path = Path("best.yaml")
        write_recipe(recipe, path)
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
        return path

    def test_one_that_was_edited(self, command: Command) -> None:
        edited = Schedule.at([3, 5], [0.6, 0.25]).model_dump(mode="json")
        line = command("retrain", self.write(schedule=edited)).complaint
        assert "multiply-adds" in line
        assert "export it again" in line

    def test_one_with_an_unknown_key(self, command: Command) -> None:
        line = command("retrain", self.write(colour="red")).complaint
        assert "best.yaml is not a sparsesearch recipe" in line
        assert "colour" in line

    def test_a_study_document_is_no_recipe(self, command: Command) -> None:
        assert command("init").code == 0
        assert "study.yaml is not a sparsesearch recipe" in command("retrain", "study.yaml").complaint

    def test_one_that_does_not_exist(self, command: Command) -> None:
        assert "no such file: best.yaml" in command("retrain", "best.yaml").complaint

    def test_devices(self, command: Command) -> None:
        for device, said in (("tpu", "choose auto, cpu, cuda"), ("cuda:9", "no device cuda:9")):
            assert said in command("retrain", self.write(precision="auto"), "--device", device).complaint
            assert said in command(*RUN, "--device", device).complaint

    def test_a_place_that_cannot_be_written_is_refused_before_the_work(self, command: Command) -> None:
        recipe = self.write()
        Path("file").write_text("")
        Path("folder").mkdir()
        assert "folder is a folder" in command("retrain", recipe, "-o", "folder").complaint
        assert "is a file" in command("retrain", recipe, "-o", "file/model.safetensors").complaint
        assert "is a file" in command(*RUN, "--output", "file").complaint
        assert "is a file" in command("init", "-o", "file/study.yaml").complaint
        assert "already" in command("init", "-o", recipe).complaint
        assert "overwrite it with --force" in command("export", "done", "-o", recipe).complaint
        assert "overwrite it with --force" in command("retrain", recipe, "-o", recipe).complaint

    def test_the_cost_of_one_needs_no_backbone(self, command: Command) -> None:
        macs = command("cost", "--schedule", self.write(), "--json").document["macs"]
        typed = command("cost", "--backbone", PICO, "--at", "3,5", "--keep", "0.5,0.25", "--json").document["macs"]
        assert macs == typed
        assert "--backbone deit_s" in command("cost").complaint


class TestSchedulesOnTheCommandLine:
    @pytest.mark.parametrize(
        ("at", "keep", "said"),
        [
            ("x", "", "invalid --at 'x'"),
            ("3", "half", "invalid --keep 'half'"),
            ("3,6", "0.5", "2 locations but 1 keep ratios"),
            ("3.5", "0.5", "use comma-separated integers of at least 0"),
            ("-1", "0.5", "use comma-separated integers of at least 0"),
            ("99", "0.5", "block 99 does not exist"),
            ("3", "1.5", "keep_ratio"),
            ("3", "0", "keep"),
            ("3,6", "0.5,0.7", "0.7"),
            ("3", "nan", "keep"),
        ],
    )
    def test_a_schedule_that_cannot_be(self, command: Command, at: str, keep: str, said: str) -> None:
        assert said in command("cost", "--backbone", PICO, f"--at={at}", f"--keep={keep}").complaint


class TestSpaces:
    def test_an_alias_has_the_space_of_its_backbone(self, command: Command) -> None:
        by_alias, by_name = (command("spaces", "--backbone", name) for name in ("deit_s", "deit_small_patch16_224"))
        assert by_alias.out == by_name.out
        assert command("spaces", "deit_small", "--backbone", "deit_s").out == by_alias.out
        assert "to 100.0% of dense" in by_alias.out, "what is above dense is no budget"

    def test_one_that_is_not_there(self, command: Command) -> None:
        assert "deit_base, deit_pico" in command("spaces", "huge").complaint
        assert "deit_base, deit_pico" in command("spaces", "size", "huge", "--backbone", PICO).complaint

    def test_one_that_does_not_fit(self, command: Command) -> None:
        Path("mine.yaml").write_text("blocks: [1, 1]\nmin_predictors: x\nkeep: 1", encoding="utf-8")
        answer = command("spaces", "validate", "mine.yaml")
        assert answer.code == 2
        assert len(answer.out.splitlines()) == 2, "one line for each key; contradictions between keys come after"
        Path("mine.yaml").write_text("reducers: [{kind: fast_slow}]", encoding="utf-8")
        assert command("spaces", "validate", "mine.yaml").code == 0
        answer = command("spaces", "validate", "mine.yaml", "--backbone", PICO)
        assert answer.code == 2
        assert "use prune, fuse or merge" in answer.out
        assert "use prune, fuse or merge" in command("spaces", "mine.yaml", "--backbone", PICO).complaint

    def test_without_a_backbone(self, command: Command) -> None:
        assert "--backbone" in command("spaces", "size", "deit_pico").complaint
        assert "--backbone" in command("spaces", "show").complaint


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("nope",), "no such command 'nope'"),
            (("run", "--budge", "3%"), "no such option: --budge"),
            (("run", "--backbone"), "'--backbone' requires an argument"),
            (
                ("run", "--sampler", "best"),
                "'best' is not one of 'evolution', 'gradients', 'tpe', 'nsga2', 'gp', 'random'",
            ),
            (("run", "--seed", "x"), "'--seed'"),
            (("run", "--seed", "-1"), "'--seed': input should be greater than or equal to 0"),
            (("run", "--evaluations", "0"), "'--evaluations'"),
            (("run", "a.yaml", "b.yaml"), "unexpected extra argument"),
            (("show",), "missing argument 'study'"),
            (("trials", "x", "--state", "DONE"), "'--state'"),
            (("retrain", "best.yaml", "--epochs", "0"), "'--epochs'"),
        ],
    )
    def test_is_one_line_that_leads_to_the_help(self, command: Command, arguments: tuple[str, ...], said: str) -> None:
        line = command(*arguments).complaint
        assert said in line.lower().replace("{", "").replace("}", "")
        assert line.endswith("--help")

    def test_no_command_shows_the_help(self, command: Command) -> None:
        answer = command()
        assert answer.code == 2
        assert "--budget 35%" in answer.out + answer.err

    @pytest.mark.parametrize(
        ("verb", "shown"),
        [
            ((), "sparsesearch run --backbone deit_pico --budget 35%"),
            (("run",), "sparsesearch run --backbone deit_pico --budget 20%:45%"),
            (("resume",), "sparsesearch resume deit_pico-35p"),
            (("init",), "sparsesearch init --backbone deit_s"),
            (("studies",), "--json"),
            (("show",), "--json"),
            (("trials",), "sparsesearch trials deit_pico-35p"),
            (("front",), "sparsesearch front deit_pico-35p --png front.png"),
            (("delete",), "sparsesearch delete deit_pico-35p --yes"),
            (("export",), "sparsesearch export my-study --budget-gflops 2.5"),
            (("retrain",), "sparsesearch retrain best.yaml"),
            (("cost",), "sparsesearch cost --backbone deit_s --at 3,6,9"),
            (("spaces",), "sparsesearch spaces deit_small"),
            (("spaces", "show"), "sparsesearch spaces show deit_small"),
            (("spaces", "validate"), "sparsesearch spaces validate my_space.yaml"),
            (("spaces", "size"), "sparsesearch spaces size isotropic_full"),
            (("db",), "upgrade"),
            (("db", "upgrade"), "--database"),
            (("db", "current"), "--database"),
        ],
    )
    def test_every_command_explains_itself(self, command: Command, verb: tuple[str, ...], shown: str) -> None:
        answer = command(*verb, "--help")
        assert answer.code == 0
        assert shown in " ".join(answer.out.replace("│", " ").split())

    def test_defaults_are_shown(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = " ".join(command("run", "--help").out.replace("│", " ").split())
        for default in (
            "[default: evolution]",
            "[default: auto]",
            "[default: 60, for a front 200]",
            "[default: ./STUDY]",
        ):
            assert default in shown


class TestExitCodes:
    def test_success(self, command: Command) -> None:
        assert command("--version").out == f"sparsesearch {sparsesearch.__version__}\n"
        assert command("--version").code == 0
        assert command("studies").code == 0

    def test_interrupted(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(workspace: object, writer: StudyWriter, **options: object) -> None:
            writer.close()
            raise StoppedError(StopCause.INTERRUPT)

        monkeypatch.setattr("sparsesearch.cli.work.run_study", interrupted)
        database = f"sqlite:///{Path('mine.db').absolute()}"
        for flags, tail in (((), ""), (("--database", database), f" --database {database}")):
            answer = command(*RUN, "--study", "stopped", *flags)
            assert answer.code == 130
            assert answer.out == ""
            assert f"resume with: sparsesearch resume stopped{tail}\n" in answer.err
            assert answer.err.endswith("sparsesearch: interrupted; nothing recorded is lost\n")
            assert "Traceback" not in answer.err

    def test_a_fault_of_the_program(self, command: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*arguments: object) -> None:
            raise RuntimeError("the works are jammed\nand more")

        monkeypatch.setattr("sparsesearch.cli.studies.open_studies", broken)
        answer = command("studies")
        assert answer.code == 1
        log = home / "crash.log"
        assert answer.err == f"sparsesearch: internal error: RuntimeError: the works are jammed (see {log})\n"
        assert "in broken" in log.read_text(encoding="utf-8")
        monkeypatch.setenv("SPARSESEARCH_HOME", "/proc/nowhere")
        answer = command("studies")
        assert answer.code == 1
        log = Path(answer.err.partition("(see ")[2].rstrip(")\n"))
        assert "in broken" in log.read_text(encoding="utf-8")
        log.unlink()
        monkeypatch.setenv("SPARSESEARCH_DEBUG", "1")

        with pytest.raises(RuntimeError, match="jammed"):
            main()

    def test_a_study_that_could_not_start_does_not_keep_its_name(
        self, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(workspace: object, writer: StudyWriter, **options: object) -> None:
            writer.close()
            raise CheckpointError("the weights score no better than chance")

        monkeypatch.setattr("sparsesearch.cli.work.run_study", refused)
        assert "no better than chance" in command(*RUN, "--study", "mine").err.splitlines()[-1]
        assert command("studies", "--json").document == []


@pytest.mark.slow
class TestRealProcess:
    def test_bad_input(self, program: Command) -> None:
        assert "did you mean deit_s" in program("run", "--backbone", "deit_sx", "--budget", "35%").complaint
        assert "no such command" in program("nope").complaint
        assert "invalid budget" in program("run", "--backbone", PICO, "--budget", "35").complaint
        assert "no study 'x'" in program("show", "x").complaint

    def test_a_closed_pipe_is_no_drama(self, home: Path) -> None:
        shell = subprocess.run(
            f"{PROGRAM} cost --backbone deit_pico --at '' | true", shell=True, capture_output=True, text=True
        )
        assert shell.stderr == ""

    def test_ctrl_c_and_resume(self, program: Command, home: Path) -> None:
        flags = ["--evaluations", "2", "--finalists", "1", "--study", "stopped", "--no-baselines"]
        # A job that a script puts into the background ignores Ctrl-C, and its children inherit that.
        running = subprocess.Popen(
            [str(PROGRAM), *RUN, *flags],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("plan:"):
                break
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        running.stderr.close()
        assert running.wait(60) == 130
        assert "resume stopped\n" in rest
        assert "Traceback" not in rest
        assert [row["study"] for row in program("studies", "--json").document] == ["stopped"]
        assert program("delete", "stopped", "--yes").code == 0


@pytest.mark.parametrize(
    ("flags", "new"),
    [
        (("run", "--batch-size", "8"), "--batch-size is now called --latency-batch-size"),
        (("run", "--threads", "1"), "--threads is now called --latency-threads"),
        (("run", "--elastic", "off"), "--elastic is now called --strategy"),
        (("resume", "x", "--out", "here"), "--out is now called --output"),
        (("report", "x", "--out", "here"), "--out is now called --output"),
        (("bench", "--out", "b.json"), "--out is now called --output"),
    ],
)
def test_a_renamed_flag_is_told_in_one_line(command: Command, flags: tuple[str, ...], new: str) -> None:
    answer = command(*flags)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert new in answer.err
