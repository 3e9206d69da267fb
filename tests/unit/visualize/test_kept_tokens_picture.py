"""Pictures of kept tokens: what fades, what is outlined, and what is said of untrained models."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from sample_study import sample_spec

from sparsesearch.analysis.view import StudyView
from sparsesearch.artifacts.checkpoint import ModelCard, save
from sparsesearch.artifacts.model_reference import ModelReference, find_model
from sparsesearch.backbones.model_options import ModelOptions
from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.data.inputs import preprocessing_for
from sparsesearch.errors import CheckpointError, DataError, SpecError
from sparsesearch.schedule import ResolvedStep, Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, FastSlow, Fuse, Merge, NormScorer, Prune
from sparsesearch.study.spec import DataSpec
from sparsesearch.study.trial import StudyTimes
from sparsesearch.visualize.best import KEPT_TOKENS, write_best_picture
from sparsesearch.visualize.inspect import inspect_images, read_images, validation_images
from sparsesearch.visualize.kept_tokens import NO_TOKEN, StepView, enlarged, panel, save_kept_tokens, tokens_text
from sparsesearch.visualize.model import UNTRAINED, UNTRAINED_PREDICTORS, open_inspection

SCHEDULES = {
    "prune": (Step(block=2, keep_ratio=0.5), Step(block=5, keep_ratio=0.25)),
    "fuse": (Step(block=2, phase="before_ffn", keep_ratio=0.5, reducer=Fuse(), scorer=ClassAttentionScorer()),),
    "merge": tuple(Step(block=b, phase="before_ffn", keep_ratio=1 - 0.2 * b, reducer=Merge()) for b in (1, 2, 3)),
}
BLACK = np.zeros((8, 8, 3))


def view(reducer, tokens, *, num=2, fused=()):
    scorer = None if isinstance(reducer, Merge) else NormScorer()
    step = ResolvedStep(
        stage=0, block=3, phase="before_block", num_tokens=num, reducer=reducer, scorer=scorer, num_before=4
    )
    return StepView(step, (2, 2), np.array(tokens), frozenset(fused))


def middles(picture):
    """The colour in the middle of each of the four positions."""
    half, quarter = picture.shape[0] // 2, picture.shape[0] // 4
    return [picture[quarter + row * half, quarter + column * half] for row in (0, 1) for column in (0, 1)]


def test_what_is_dropped_fades_to_white():
    kept, dropped, also_kept, also_dropped = middles(panel(BLACK, view(Prune(), [0, NO_TOKEN, 1, NO_TOKEN])))
    assert kept.tolist() == also_kept.tolist() == [0, 0, 0]
    assert dropped.min() > 0.8
    assert np.array_equal(dropped, also_dropped)


def test_what_is_fused_is_violet_and_the_fast_path_is_pale():
    first, *others = middles(panel(BLACK, view(Fuse(), [0, 1, 1, 1], fused={1})))
    assert first.tolist() == [0, 0, 0]
    assert all(one[2] > one[0] > one[1] > 0.3 for one in others)
    fast = middles(panel(BLACK, view(FastSlow(), [0, NO_TOKEN, 1, 2])))[1]
    assert 0.5 < fast.min() < 0.8


def test_merged_patches_have_their_mean_colour_and_an_outline():
    image = BLACK.copy()
    image[:4, 4:] = 1.0
    drawn = panel(image, view(Merge(), [0, 0, 1, 2], num=3))
    one, two, three, four = middles(drawn)
    assert one == pytest.approx([0.5] * 3)
    assert np.array_equal(one, two)
    assert three.tolist() == four.tolist() == [0, 0, 0]
    assert drawn[drawn.shape[0] // 2 - 1, 5].max() < 0.2, "a line between the merged pair and the patch below"


def test_small_images_keep_their_squares():
    image = np.random.default_rng(0).random((8, 8, 3))
    large = enlarged(image, (2, 2))
    assert large.shape == (48, 48, 3)
    assert len(np.unique(large[..., 0])) <= 64
    assert enlarged(np.zeros((224, 200, 3)), (14, 14)).shape == (24 * 14, 24 * 14, 3)


def test_titles():
    assert tokens_text(view(Prune(), [0, NO_TOKEN, 1, NO_TOKEN])) == "2 of 4 tokens"
    assert tokens_text(view(Fuse(), [0, 1, 1, 1])) == "2 of 4 tokens, 1 fused"
    assert tokens_text(view(FastSlow(), [0, NO_TOKEN, 1, NO_TOKEN])) == "2 of 4 slow"


def test_documents():
    assert view(Merge(), [0, 0, 1, NO_TOKEN]).document()["merged"] == [[0, 1]]
    fused = view(Fuse(), [0, 1, 1, 1], fused={1}).document()
    assert (fused["kept"], fused["fused"], fused["merged"]) == ([0], [1, 2, 3], [])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_model_is_looked_at(name, tmp_path):
    model = create_pico().eval()
    schedule = Schedule(steps=SCHEDULES[name])
    sparsify_(model, schedule)
    images = validation_images(DataSpec(), backbone="deit_pico", count=3)
    wanted = preprocessing_for("deit_pico", DataSpec(), in_chans=1, image_size=32)
    views = inspect_images(model, images, names=["a" * 60, "b", "c"], preprocessing=wanted)
    assert [len(one.steps) for one in views] == [len(schedule.steps)] * 3
    for one in views:
        assert one.pixels_HW3.shape == (32, 32, 3)
        assert 0 <= one.pixels_HW3.min() <= one.pixels_HW3.max() <= 1
        for step in one.steps:
            assert len({*step.token_N.tolist()} - {NO_TOKEN}) == step.step.num_tokens
            assert (len(step.kept) == 64) == (name != "prune")
            assert len(step.fused) == (name == "fuse")
    save_kept_tokens(views, tmp_path / "deep" / "kept.png", title="title", note="note")
    with Image.open(tmp_path / "deep" / "kept.png") as picture:
        assert picture.width > 500
    save_kept_tokens(views, tmp_path / "kept.pdf", title="title")
    assert (tmp_path / "kept.pdf").read_bytes().startswith(b"%PDF")


def test_fast_and_slow_paths_are_looked_at():
    steps = (Step(stage=2, block=0, keep_ratio=0.5, reducer=FastSlow(), scorer=NormScorer()),)
    inspection = open_inspection(ModelReference("convnext_pico", Schedule(steps=steps)))
    (view,) = inspection.of_validation(1)
    (step,) = view.steps
    rows, columns = inspection.reference.geometry.stages[2].grid
    assert step.grid == (rows, columns)
    assert len(step.kept) == step.step.num_tokens == rows * columns // 2


def test_images_of_different_classes_first():
    images = validation_images(DataSpec(), backbone="deit_pico", count=4)
    assert images.shape == (4, 1, 32, 32)
    assert torch.equal(images, validation_images(DataSpec(), backbone="deit_pico", count=4))


def test_image_files(tmp_path):
    wanted = preprocessing_for("deit_pico", DataSpec(), in_chans=None, image_size=None)
    assert (wanted.in_chans, wanted.mean) == (1, (0.1,))
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(tmp_path / "grey.jpg")
    images = read_images([tmp_path / "grey.jpg"], wanted, min_pixels=4)
    assert images.shape == (1, 1, 32, 32)
    assert images.mean().item() == pytest.approx((128 / 255 - 0.1) / 0.3, abs=0.02)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "grey.jpg").read_bytes()[:300])
    Image.new("RGB", (40, 2)).save(tmp_path / "thin.png")
    for name, said in (
        ("nothing.jpg", "does not exist"),
        ("text.jpg", "is not a readable image"),
        ("cut.jpg", "is not a readable image"),
        ("thin.png", r"40x2 pixels, less than one patch \(4\)"),
    ):
        with pytest.raises(DataError, match=said):
            read_images([tmp_path / name], wanted, min_pixels=4)


def test_what_is_said_of_untrained_models():
    learned = find_model(backbone="deit_pico", rho=0.5)
    inspection = open_inspection(learned)
    assert inspection.caption == UNTRAINED_PREDICTORS
    assert inspection.note == f"this is {UNTRAINED_PREDICTORS}"
    norm = ModelReference("deit_pico", Schedule(steps=(Step(block=2, keep_ratio=0.5, scorer=NormScorer()),)))
    assert open_inspection(norm).caption == UNTRAINED
    gone = open_inspection(learned, trained=lambda: None)
    assert gone.note.startswith("the weights of the recipe's study are not on this machine; this is")
    with pytest.raises(SpecError, match="keeps all tokens"):
        open_inspection(ModelReference("deit_pico"))


def test_a_saved_model_is_trained(tmp_path):
    reference = find_model(backbone="deit_pico", rho=0.5)
    model = create_pico(ModelOptions(seed=3))
    sparsify_(model, reference.schedule)
    cost = AnalyticCost().estimate(reference.geometry, reference.schedule)
    card = ModelCard(
        backbone="deit_pico", schedule=reference.schedule, num_classes=10, in_chans=1, image_size=32, macs=cost.macs
    )
    path = tmp_path / "model.safetensors"
    save(model, path, card=card)
    found = find_model(schedule=path)
    assert found.schedule == reference.schedule
    inspection = open_inspection(found, model_file=path)
    assert (inspection.caption, inspection.note) == (None, None)
    assert len(inspection.of_validation(2)) == 2, "only the demo has such models"
    assert open_inspection(reference, weights=str(path)).caption is None
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("sparsity.")}
    torch.save(tensors, tmp_path / "dense.pth")
    assert open_inspection(reference, weights=str(tmp_path / "dense.pth")).caption == UNTRAINED_PREDICTORS
    torch.save({"head.weight": torch.zeros(10, 48)}, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        open_inspection(reference, weights=str(tmp_path / "head.pth"))


def test_a_study_without_weights_gets_no_picture(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        view = StudyView(spec=sample_spec(), trials=(), times=StudyTimes(created_at=0.0))
        write_best_picture(view, tmp_path, storage=tmp_path)
    assert not (tmp_path / KEPT_TOKENS).exists()
    assert "no schedule has been fine-tuned yet" in caplog.text
