"""The papers' recipes, number by number, and what is made of them."""

import pytest
from pydantic import ValidationError

from sparsesearch.errors import SpecError
from sparsesearch.papers.recipes import PAPER_RECIPES, UNKNOWN_RECIPE, of_schedule, with_epochs
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, FastSlow, Fuse, SpotScorer
from sparsesearch.study.spec import Augmentation, FidelitySpec, TrainSpec
from sparsesearch.training.recipes import DEMO, NUM_LARGE, SHORT, chosen_retraining, default_fidelity, preset

# epochs, batch, learning rate, its scale for the backbone, warm-up epochs, drop path, weight of the ratio loss: the
# training commands of github.com/raoyongming/DynamicViT (commit 1322e62).
PUBLISHED = {
    "deit_s": (30, 8 * 128, 1e-3, 0.01, 5, 0.0, 2.0),
    "lvvit_s": (30, 8 * 128, 1e-3, 0.01, 5, 0.0, 2.0),
    "lvvit_m": (30, 8 * 128, 1e-3, 0.01, 5, 0.0, 2.0),
    "deit_b": (30, 8 * 128, 1e-3, 0.01, 5, 0.2, 5.0),
    "convnext_t": (120, 4096, 4e-3, 0.2, 20, 0.2, 10.0),
    "convnext_s": (120, 4096, 4e-3, 0.2, 20, 0.2, 10.0),
    "swin_t": (120, 4096, 4e-3, 0.2, 20, 0.2, 10.0),
    "swin_s": (120, 4096, 4e-3, 0.2, 20, 0.2, 10.0),
    "convnext_b": (120, 4096, 4e-3, 0.2, 20, 0.5, 10.0),
    "swin_b": (120, 4096, 4e-3, 0.2, 20, 0.5, 10.0),
}
DEIT_S, IMAGENET = "deit_small_patch16_224", 1_281_167


def test_every_published_model_has_a_recipe():
    assert set(PAPER_RECIPES) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers(name):
    epochs, batch, lr, scale, warmup, drop_path, ratio_weight = PUBLISHED[name]
    found = PAPER_RECIPES[name]
    assert found.preset == name
    assert (found.epochs, found.batch_size, found.micro_batch) == (epochs, batch, 128)
    assert (found.predictor_lr, found.lr) == (lr, pytest.approx(lr * scale))
    assert found.final_lr * found.predictor_lr == pytest.approx(1e-6)
    assert found.final_lr * found.lr == pytest.approx(1e-6 * scale)
    assert found.warmup * epochs == pytest.approx(warmup)
    assert (found.frozen_epochs, found.train_embeddings) == (5, False)
    assert (found.weight_decay, found.clip_grad, found.ema_decay) == (0.05, None, 0.9999)
    assert (found.drop_path, found.ratio_weight, found.method) == (drop_path, ratio_weight, "masked")
    assert found.images_per_epoch is None
    changes = found.augmentation
    assert (changes.mixup, changes.cutmix, changes.label_smoothing, changes.random_erasing) == (0.8, 1.0, 0.1, 0.25)
    assert changes.rand_augment.replace("mmax9-", "") == "rand-m9-mstd0.5-inc1"


def chosen(written=None, backbone=DEIT_S, *, weights="pretrained", num_train=IMAGENET, is_demo=False):
    default = default_fidelity(backbone, weights=weights, is_demo=is_demo).retrain
    return chosen_retraining(
        default.model_copy(update=written or {}), backbone, weights=weights, num_train=num_train, is_demo=is_demo
    )


def test_large_data_and_given_weights_get_the_recipe_of_the_model():
    assert chosen() == PAPER_RECIPES["deit_s"]
    assert chosen(backbone=f"{DEIT_S}.fb_in1k", weights="/deit.pth") == PAPER_RECIPES["deit_s"]
    assert chosen(backbone="convnext_base.fb_in22k") == PAPER_RECIPES["convnext_b"]


@pytest.mark.parametrize(
    "case",
    [{"num_train": NUM_LARGE - 1}, {"weights": "scratch"}, {"backbone": "vit_small_patch16_224"}],
    ids=["small data", "no weights", "another model"],
)
def test_otherwise_it_is_short_and_of_all_images(case):
    found = chosen(**case)
    assert (found.preset, found.images_per_epoch, found.augmentation) == (SHORT, None, Augmentation())


def test_the_demo_has_its_own():
    found = chosen(backbone="deit_pico", weights="scratch", num_train=7000, is_demo=True)
    assert found.preset == DEMO
    assert found == FidelitySpec().retrain.model_copy(update={"preset": DEMO})
    assert chosen(backbone="deit_pico", weights="scratch", num_train=7000).images_per_epoch is None


def test_what_was_written_goes_before():
    assert chosen({"epochs": 15}) == PAPER_RECIPES["deit_s"].model_copy(update={"epochs": 15})
    assert (
        chosen({"preset": None, "epochs": 3}).lr
        == default_fidelity(DEIT_S, weights="pretrained", is_demo=False).retrain.lr
    )


def test_fewer_epochs_freeze_the_backbone_in_a_third_of_them():
    assert [with_epochs(PAPER_RECIPES["swin_t"], n).frozen_epochs for n in (120, 15, 6, 1)] == [5, 5, 2, 0]


def test_presets_by_name():
    assert preset("swin_b", DEIT_S, weights="pretrained") == PAPER_RECIPES["swin_b"]
    assert preset(SHORT, DEIT_S, weights="pretrained").epochs == 30
    with pytest.raises(SpecError, match="unknown preset 'deit_l' of retrain; choose from short, demo, deit_s, "):
        preset("deit_l", DEIT_S, weights="pretrained")


@pytest.mark.parametrize(
    ("step", "method", "note"),
    [
        (Step(block=3, keep_ratio=0.7), "masked", None),
        (Step(block=3, keep_ratio=0.7, reducer=FastSlow()), "masked", None),
        (Step(block=3, keep_ratio=0.7, scorer=SpotScorer()), "masked", UNKNOWN_RECIPE),
        (Step(block=3, keep_ratio=0.7, scorer=ClassAttentionScorer(), reducer=Fuse()), "gathered", UNKNOWN_RECIPE),
    ],
    ids=["dynamicvit", "dss", "spot", "evit"],
)
def test_schedules_of_other_papers(step, method, note):
    recipe, found = of_schedule(PAPER_RECIPES["deit_b"], Schedule(steps=(step,)))
    assert (recipe.method, found) == (method, note)
    assert recipe.ratio_weight == (5.0 if method == "masked" else None)


def test_pairs_need_an_even_batch():
    with pytest.raises(ValidationError, match="mixup and cutmix need an even batch_size, got 31"):
        TrainSpec(epochs=1, batch_size=31, augmentation=Augmentation(cutmix=1.0))
