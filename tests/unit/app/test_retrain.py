"""What a retraining reports, and which weights it keeps."""

from __future__ import annotations

import torch

from sparsesearch.app.change_recipe import changed, settled
from sparsesearch.app.retraining_evaluation import RetrainingEvaluation
from sparsesearch.app.retraining_log import EpochRow, RetrainingLog
from sparsesearch.app.track_retraining import MlflowRetraining
from sparsesearch.app.training_text import training_lines
from sparsesearch.papers.recipes import PAPER_RECIPES, UNKNOWN_RECIPE
from sparsesearch.schedule.methods import SpotScorer
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.loop import TrainingRun
from tests.sample_recipe import sample_recipe

RECIPE = sample_recipe(training=TrainSpec(preset="demo", epochs=2, images_per_epoch=64))


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def change(recipe=RECIPE, **changes):
    asked = {"data": None, "weights": None, "epochs": None, "preset_name": None}
    return changed(recipe, progress=Silent(), **(asked | changes))


def test_a_preset_that_was_asked_for():
    found = change(preset_name="deit_s", epochs=15)
    assert found.training == PAPER_RECIPES["deit_s"].model_copy(update={"epochs": 15})
    assert found.training_note is None
    assert settled(found, weights=found.weights, num_train=100) == found


def test_other_data_never_get_the_recipe_of_the_demo():
    found = settled(change(data="folder:/data/flowers"), weights="scratch", num_train=7000)
    assert (found.training.preset, found.training.images_per_epoch) == ("short", None)
    own = RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update={"preset": None})})
    assert change(own, data="folder:/data/flowers").training == own.training, "written by a person"


def test_weights_that_are_not_there_get_the_recipe_of_a_training_from_scratch():
    asked = change(
        RECIPE.model_copy(update={"backbone": "deit_s", "weights": "pretrained"}), preset_name="auto", epochs=9
    )
    imagenet = {"num_train": 1_281_167}
    demo = asked.model_copy(update={"data": asked.data.model_copy(update={"source": "folder:/data/imagenet"})})
    found = settled(demo, weights="scratch", **imagenet)
    assert found.weights == "scratch"
    assert (
        found.training
        == change(asked.model_copy(update={"weights": "scratch"}), preset_name="short", epochs=9).training
    )
    assert (
        settled(demo, weights="pretrained", **imagenet).training
        == change(asked, preset_name="deit_s", epochs=9).training
    )


def test_the_file_says_that_the_recipe_of_spot_is_not_known():
    steps = [step.model_copy(update={"scorer": SpotScorer()}) for step in RECIPE.schedule.steps]
    spot = RECIPE.model_copy(update={"schedule": RECIPE.schedule.model_copy(update={"steps": tuple(steps)})})
    found = change(spot, preset_name="deit_b")
    assert found.training_note == UNKNOWN_RECIPE
    lines = list(training_lines(found, num_images=1_281_167))
    assert lines[0].startswith(
        "training: preset deit_b, 30 epochs of 1,281,167 images, batch 1024, masked, learning rate 1"
    )
    assert "mixup 0.8, cutmix 1, label smoothing 0.1, random erasing 0.25, drop path 0.2" in lines[0]
    assert lines[1] == f"note: {UNKNOWN_RECIPE}"
    assert change(spot, preset_name="short").training_note is None


def finished(context, epoch, epochs=3):
    run = TrainingRun(context.fresh_model(), TrainSpec(epochs=epochs), steps_per_epoch=1, arithmetic=context.arithmetic)
    run.epochs_done = epoch
    return run


def test_an_epoch_that_is_trained_again_replaces_its_row(context, tmp_path):
    progress, seen = Lines(), []
    log = RetrainingLog(tmp_path / "m.log.jsonl", progress=progress, follow=seen.append)
    log.add("dense training", finished(context, 1), 2.0, 1.0)
    for epoch, loss in ((1, 1.5), (2, 1.25), (2, 1.125)):
        log.add("retraining", finished(context, epoch), loss, 1.0, {"val_top1": 0.5, "average_val_top1": 0.25})
        with (tmp_path / "m.log.jsonl").open("a") as file:
            file.write('{"training": "retr')  # a disk that was full
    rows = [EpochRow.model_validate(row) for row in seen[-1]]
    assert [(row.training, row.epoch, row.metrics["train_loss"]) for row in rows] == [
        ("dense training", 1, 2.0),
        ("retraining", 1, 1.5),
        ("retraining", 2, 1.125),
    ]
    assert progress.lines[-1] == (
        "retraining, epoch 2 of 3: loss 1.1250, validation accuracy 50.00%, validation accuracy of the average 25.00%"
    )


def test_the_better_weights_are_kept_where_validation_images_are_new(context):
    blind, other = context.fresh_model(), context.fresh_model()
    for model, digit in ((blind, 0), (other, 1)):
        torch.nn.init.zeros_(model.head.weight)
        with torch.no_grad():
            model.head.bias.copy_(torch.eye(10)[digit])
    options = {"geometry": context.geometry, "arithmetic": context.arithmetic}
    new = RetrainingEvaluation(context.task, is_validation_new=True, **options)
    accuracies = new.after_epoch({"trained": blind, "average": other}, num_images=96)
    expected = "average" if accuracies["average_val_top1"] > accuracies["val_top1"] else "trained"
    assert accuracies["average_val_top1"] != accuracies["val_top1"], "images of both digits are not equally many"
    assert new.better({"trained": blind, "average": other}) == expected
    assert new.better({"trained": other, "average": blind}) != expected
    assert new.better({"trained": blind, "average": blind}) == "trained"
    seen = RetrainingEvaluation(context.task, is_validation_new=False, **options)
    assert set(seen.after_epoch({"trained": blind}, num_images=96)) == {"train_top1"}
    assert {seen.better({"trained": one, "average": two}) for one, two in ((blind, other), (other, blind))} == {
        "trained"
    }


def test_an_mlflow_that_does_not_respond_is_told_once(context, tmp_path, settings):
    lines = []
    elsewhere = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    mlflow = MlflowRetraining(tmp_path / "m.safetensors", settings=elsewhere, report=lines.append)
    row = EpochRow(training="retraining", epoch=1, epochs=2, metrics={"train_loss": 1.0}, seconds=1.0, ended_at=1.0)
    for _ in range(2):
        mlflow.epochs(RECIPE, context.geometry, [row])
    assert len(lines) == 1
    assert lines[0].endswith("the training goes on, its epochs are not logged to MLflow")
