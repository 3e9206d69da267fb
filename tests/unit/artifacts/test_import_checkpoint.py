import argparse
import json

import pytest
import torch

import sparsesearch
from sparsesearch.artifacts.checkpoint import read_card
from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cli.app import app
from sparsesearch.errors import CheckpointError, ScheduleError, SparseSearchError, SpecError
from sparsesearch.schedule import Schedule
from sparsesearch.training.foreign_weights import read_foreign_weights

SCHEDULE = Schedule.at([2, 4, 6], [0.7, 0.49, 0.343])


class Trainer:
    """Something that a checkpoint had better not hold."""


def published(model):
    """The state dict of a sparse model under its published names."""
    names = {f"sparsity.predictors.0_{block}.": f"score_predictor.{p}." for p, block in enumerate((2, 4, 6))}
    weights = {}
    for key, value in model.state_dict().items():
        prefix = next((new for new in names if key.startswith(new)), None)
        weights[key if prefix is None else key.replace(prefix, names[prefix])] = value
    return weights


@pytest.fixture
def sparse():
    model = create_model("deit_pico", num_classes=4, in_chans=1)
    sparsify_(model, SCHEDULE)
    return model.eval()


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(weights, *arguments, backbone="deit_pico"):
        torch.save(weights, "in.pth")
        app(["import-checkpoint", "in.pth", "--backbone", backbone, *arguments], standalone_mode=False)

    return run


def test_classes_are_those_of_the_file(command, sparse, capsys):
    command(published(sparse), "--rho", "0.7", "--json")
    document = json.loads(capsys.readouterr().out)
    card = read_card("model.safetensors")
    assert (document["num_classes"], card.num_classes, card.in_chans, card.image_size) == (4, 4, 1, 32)
    assert document["macs"] == card.macs < document["dense_macs"]
    assert document["params"] == sum(parameter.numel() for parameter in sparse.parameters())
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(sparsesearch.load("model.safetensors")(images), sparse(images))


def test_our_own_names_are_taken_too(command, sparse):
    command({"state_dict": sparse.state_dict()}, "--rho", "0.7")
    loaded = sparsesearch.load("model.safetensors").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in sparse.state_dict().items())


def test_an_existing_file_is_kept_unless_forced(command, sparse):
    command(published(sparse), "--rho", "0.7")
    with pytest.raises(SpecError, match=r"model.safetensors already exists; choose another file, or .* --force"):
        command(published(sparse), "--rho", "0.7")
    command(published(sparse), "--rho", "0.7", "--force")


def without(weights, *words):
    return {key: value for key, value in weights.items() if not key.startswith(words)}


ERRORS = {
    "sparse taken as dense": (lambda w: w, [], "has 3 predictors, so it is a sparse deit_pico; give its schedule"),
    "dense taken as sparse": (
        lambda w: without(w, "score"), ["--rho", "0.7"], "has no predictors, but the schedule has 3; leave out --rho"),
    "two predictors": (
        lambda w: without(w, "score_predictor.2"), ["--rho", "0.7"],
        r"has 2 predictors, but the schedule drops tokens at 3 locations \(blocks 2, 4, 6\); give the schedule"),
    "a rate that drops nothing": (
        lambda w: w, ["--rho", "1"], "has 3 predictors, but the schedule drops tokens at 0 locations; give"),
    "unknown": (lambda w: w | {"extra.weight": torch.zeros(2)}, ["--rho", "0.7"], r"weights: 1 unknown \(extra"),
    "missing": (
        lambda w: without(w, "norm."), ["--rho", "0.7"],
        r"does not fit the model; weights: 2 missing \(norm.weight, norm.bias\)"),
    "misshapen": (
        lambda w: w | {"pos_embed": torch.zeros(1, 6, 48)}, ["--rho", "0.7"],
        r"weights: 1 of another shape \(pos_embed is 1x6x48 instead of 1x65x48\); give the backbone"),
    "all of them": (
        lambda w: without(w, "blocks.", "norm.") | {"a.b": w["cls_token"], "cls_token": torch.zeros(())},
        ["--rho", "0.7"],
        r"98 missing \(.*, and 95 more\), 1 unknown \(a.b\), 1 of another shape \(cls_token is scalar "
        r"instead of 1x1x48\)"),
    "no averaged weights": (lambda w: {"model": w}, ["--ema"], "has no averaged weights .*; omit --ema"),
    "no tensors": (lambda w: {"model": {"a": 1}}, [], "contains no state dict; expected a mapping of tensors"),
    "a list": (lambda w: [1, 2], [], "contains no state dict"),
    "objects": (lambda w: {"model": w, "args": Trainer()}, [], r"could run code \(.*Trainer\); save only the state"),
    "rate out of range": (lambda w: w, ["--rho", "1.2"], "invalid rate 1.2; give a value above 0"),
    "both": (lambda w: w, ["--rho", "0.7", "--schedule", "x.yaml"], "either --rho or --schedule, not both"),
    "no such schedule": (lambda w: w, ["--schedule", "x.yaml"], "no such file: x.yaml"),
    "a folder": (lambda w: w, ["-o", "."], "is a folder; give the name of a file in it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(command, sparse, kind):
    change, arguments, words = ERRORS[kind]
    with pytest.raises(SparseSearchError, match=words) as raised:
        command(change(published(sparse)), *arguments)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("deit_t", r"does not fit the model; weights: 50 missing .* 12 unknown .* 101 of another shape"),
        ("nothing", "unknown backbone 'nothing'"),
    ],
)
def test_another_backbone(command, sparse, backbone, words):
    with pytest.raises(SparseSearchError, match=words):
        command(without(published(sparse), "score"), backbone=backbone)


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_foreign_weights(tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("hello", encoding="utf-8")
        with pytest.raises(CheckpointError, match="is not a readable") as raised:
            read_foreign_weights(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_options_of_a_training_run_are_all_that_is_allowed_beside_plain_values(tmp_path):
    allowed = torch.serialization.get_safe_globals()
    weights = {"a": torch.ones(2)}
    torch.save({"model": weights, "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    assert torch.equal(read_foreign_weights(tmp_path / "a.pth").tensors["a"], weights["a"])
    torch.save({"model": weights, "args": argparse.Namespace(lr=Trainer())}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read_foreign_weights(tmp_path / "b.pth")
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


def test_which_weights_are_taken(tmp_path):
    entries = {"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}
    torch.save(entries, tmp_path / "a.pth")
    taken = {ema: read_foreign_weights(tmp_path / "a.pth", ema=ema).tensors["a"].item() for ema in (None, True, False)}
    assert taken == {None: 1.0, True: 1.0, False: 0.0}


def test_schedules_from_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("steps:\n- {block: 3, keep_ratio: 0.5}\n", encoding="utf-8")
    assert read_schedule(path) == Schedule.at([3], [0.5])
    path.write_text("backbone: x\nschedule: {steps: [{block: 3, keep_ratio: 0.5}]}\n", encoding="utf-8")
    assert read_schedule(path) == Schedule.at([3], [0.5])
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(SpecError, match="contains no schedule; give a recipe"):
        read_schedule(path)
    path.write_text("steps: [{block: 3, keep_ratio: 2}]", encoding="utf-8")
    with pytest.raises(ScheduleError, match=r"invalid schedule in .*: keep_ratio: Input should be less"):
        read_schedule(path)
