"""The recorded models are those of timm and of this package, and their geometries are those of built models."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import timm

from sparsesearch.backbones import lookup, registry
from sparsesearch.backbones.recorder import header, models_of_timm
from sparsesearch.backbones.transforms import SUPPORTED
from sparsesearch.catalog.closed_form import positions, window_macs
from sparsesearch.catalog.names import recorded_name, which_is_meant
from sparsesearch.catalog.records import PATH, Catalog, catalog
from sparsesearch.errors import BackboneError

REFRESH = (
    "the recorded models are not those of this version; write them anew: python -m sparsesearch.backbones.recorder"
)
SAMPLE = [
    "deit_pico", "convnext_pico", "swin_pico", "lvvit_pico", "lvvit_s", "deit_small_patch16_224",
    "deit_tiny_distilled_patch16_224", "vit_base_patch32_224", "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_siglip_224", "vit_tiny_r_s16_p8_224", "vit_base_mci_224", "eva02_tiny_patch14_224",
    "vit_small_patch16_dinov3", "convnext_tiny", "convnext_atto_ols", "convnext_tiny_hnf", "test_convnext",
    "swin_tiny_patch4_window7_224", "swin_s3_tiny_224", "convnext_pico.d1_in1k",
    "deit3_small_patch16_224.fb_in22k_ft_in1k", "convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384",
]  # fmt: skip
OTHER_SIZES = ((320, 224), (176, 208), (224, 336))


def exists(name: str) -> bool:
    """Whether the installed timm, which may be older or newer than the recorded one, has a model."""
    return name in registry.BUNDLED or timm.models.is_model(name.partition(".")[0])


def everything() -> list[str]:
    """All recorded names: models, and models with a pretrained tag."""
    found = catalog()
    names = [name for name in found.names if found.find(name) is not None]
    return [*names, *(f"{name}.{tag}" for name in names for tag in found.tags(name))]


def built(name: str, **options: object) -> object:
    try:
        return registry.built_geometry(name, **options)
    except BackboneError as error:
        return str(error)


def recorded(name: str, **options: object) -> object:
    model = catalog().find(name)
    assert model is not None
    try:
        return model.geometry(**options)
    except BackboneError as error:
        return str(error)


def test_names_are_those_of_timm() -> None:
    if lookup.is_recorded_timm():
        found, now = catalog(), header()
        assert (found.modules, found.aliases, found.others) == (now["modules"], now["aliases"], now["others"]), REFRESH
        assert found.sparsifiable_models == registry.models_with_timm(), REFRESH
        assert sorted({*found.models_of_timm}) == sorted(models_of_timm()), REFRESH
    assert catalog().supported == SUPPORTED, REFRESH
    assert catalog().aliases == registry.ALIASES, REFRESH


@pytest.mark.parametrize("name", SAMPLE)
def test_geometries_are_those_of_built_models(name: str) -> None:
    assert exists(name)
    assert recorded(name) == built(name), REFRESH
    for size in OTHER_SIZES[:2]:
        options = {"image_size": size, "num_classes": 37, "in_chans": 4}
        found = recorded(name, **options)
        assert found is None or found == built(name, **options), REFRESH


def test_the_sample_has_a_form_at_other_sizes() -> None:
    without = [name for name in SAMPLE if recorded(name, image_size=(224, 320), num_classes=7, in_chans=1) is None]
    assert without == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_geometries_are_those_of_built_models(capsys: pytest.CaptureFixture[str]) -> None:
    names = everything()
    absent = [name for name in names if not exists(name)]
    different = [name for name in names if name not in absent and recorded(name) != built(name)]
    assert different == [], REFRESH
    with capsys.disabled():
        sys.stdout.write(f"\n{len(absent)} of {len(names)} names are not in the installed timm\n")
    if lookup.is_recorded_timm():
        assert absent == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_geometries_at_other_sizes_and_classes() -> None:
    names = [name for name in catalog().names if exists(name)]
    different = []
    for number, name in enumerate(names):
        options = {"image_size": OTHER_SIZES[number % 3], "num_classes": 21 + number, "in_chans": 1 + number % 4}
        found = recorded(name, **options)
        if found is not None and found != built(name, **options):
            different.append((name, options))
    assert different == [], REFRESH


@pytest.mark.slow
def test_weights_and_input_are_those_of_timm() -> None:
    different = []
    for name in everything():
        config = None if name in registry.BUNDLED or not exists(name) else timm.get_pretrained_cfg(name)
        model = catalog().find(name)
        assert model is not None
        if config is not None and model.refused is None:
            ours = (model.has_weights, model.in_chans, model.image_size[1])
            if ours != (bool(config.has_weights), config.input_size[0], config.input_size[2]):
                different.append((name, ours))
    assert different == [], REFRESH


def test_the_file_is_small() -> None:
    assert PATH.stat().st_size < 300_000


def test_sizes_that_are_not_recorded_are_built() -> None:
    assert recorded("deit_small_patch16_224", image_size=(8, 8)) is None
    assert recorded("lvvit_s", image_size=(225, 224)) is None
    with pytest.raises(BackboneError, match="at least one patch"):
        lookup.backbone_geometry("deit_s", image_size=8)
    with pytest.raises(BackboneError, match="multiples of 4"):
        lookup.backbone_geometry("deit_pico", image_size=33)


def test_what_cannot_be_priced_says_why() -> None:
    for name in ("vit_base_patch16_xp_224", "convnextv2_tiny"):
        assert recorded(name) == built(name)


class TestAnotherVersionOfTimm:
    """A catalog without a model that the installed timm has: timm is asked."""

    @pytest.fixture
    def older(self, monkeypatch: pytest.MonkeyPatch) -> Catalog:
        full = catalog()
        older = Catalog(
            {**header(), "timm": "1.0.0", "others": [name for name in full.others if name != "resnet50"]},
            {name: full.line(name) for name in full.names if not name.startswith("deit_tiny")},
        )
        monkeypatch.setattr("sparsesearch.backbones.lookup.catalog", lambda: older)
        monkeypatch.setattr("sparsesearch.catalog.names.catalog", lambda: older)
        lookup.backbone_geometry.cache_clear()
        lookup.all_is_recorded.cache_clear()
        yield older
        lookup.backbone_geometry.cache_clear()
        lookup.all_is_recorded.cache_clear()

    def test_models_that_are_not_recorded(self, older: Catalog) -> None:
        name = "deit_tiny_patch16_224"
        assert recorded_name(name) is None
        assert lookup.resolve_name(name) == name
        assert lookup.backbone_geometry(name) == registry.built_geometry(name)
        assert lookup.has_published_weights(name)
        assert (lookup.own_input(name), lookup.own_classes(name), lookup.is_small(name)) == ((224, 3), 1000, False)
        assert name in lookup.supported_models()

    def test_errors_are_the_same(self, older: Catalog) -> None:
        with pytest.raises(BackboneError, match="did you mean deit_small_patch16_224"):
            lookup.resolve_name("deit_smal_patch16_224")
        with pytest.raises(BackboneError, match="resnet50 belongs to a family that cannot"):
            lookup.resolve_name("resnet50")


@pytest.mark.parametrize(
    "name",
    [
        "deits",
        "deit_smal_patch16_224",
        "zzz",
        "hf-hub:x/deit_small_patch16_224",
        "resnet50",
        "timm/resnet50",
        "timm/lvvit_s",
        "deit_small_patch16_224.foo",
        "deit_s.foo",
        "deit_pico.foo",
        "convnext_pico.foo",
    ],
)
def test_errors_are_those_with_timm(name: str) -> None:
    with pytest.raises(BackboneError) as ours:
        lookup.resolve_name(name)
    with pytest.raises(BackboneError) as theirs:
        registry.resolve_with_timm(name)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("timm/deit_small_patch16_224", "deit_small_patch16_224"),
        ("hf-hub:timm/deit_small_patch16_224.fb_in1k", "deit_small_patch16_224.fb_in1k"),
        ("deit_s.fb_in1k", "deit_small_patch16_224.fb_in1k"),
        ("convnext_pico", "convnext_pico"),
        ("timm/convnext_pico", "convnext_pico.d1_in1k"),
        ("hf-hub:timm/convnext_pico.d1_in1k", "convnext_pico.d1_in1k"),
    ],
)
def test_names_of_timm(name: str, full: str) -> None:
    assert lookup.resolve_name(name) == registry.resolve_with_timm(name) == full
    assert lookup.resolve_name(full) == full


def test_every_model_of_timm_has_its_own_name() -> None:
    """`timm/NAME` is timm's, with or without a bundled backbone of the same name."""
    for name in catalog().sparsifiable_models:
        if name in catalog().models_of_timm:
            full = lookup.resolve_name(f"timm/{name}")
            assert lookup.resolve_name(f"hf-hub:timm/{name}") == full
            assert full not in registry.BUNDLED
            assert full.partition(".")[0] == name


def test_a_tag_that_does_not_exist() -> None:
    with pytest.raises(BackboneError, match="deit_small_patch16_224 has no pretrained tag 'foo'; choose from fb_in1k"):
        lookup.resolve_name("deit_small_patch16_224.foo")
    with pytest.raises(BackboneError, match="deit_pico has no pretrained tag 'foo'; it has none, give deit_pico"):
        lookup.resolve_name("deit_pico.foo")


def test_a_name_that_two_backbones_have() -> None:
    assert which_is_meant("convnext_pico") == (
        "convnext_pico is the bundled backbone of this name; timm's own is timm/convnext_pico"
    )
    assert which_is_meant("deit_pico") is which_is_meant("timm/convnext_pico") is which_is_meant("deit_s") is None


def test_all_supported_models_have_a_geometry() -> None:
    """Every name that is listed can be priced; those without a recorded form are built."""
    found = catalog()
    names = found.supported_models
    assert len(names) > 250
    assert {name for name in found.sparsifiable_models if found.is_refused(name)} == {*found.sparsifiable_models} - {
        *names
    }
    for name in names:
        assert lookup.resolve_name(name) == name
        assert recorded(name) is not None or built(name) == lookup.backbone_geometry(name)
        assert lookup.backbone_geometry(name).params > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 10**9}, "invalid image size 1000000000x1000000000 for deit_pico; choose from 1 to 8,192"),
        ({"image_size": (32, 0)}, "invalid image size 32x0"),
        ({"num_classes": 10**12}, "invalid number of classes 1000000000000"),
        ({"num_classes": -1}, "invalid number of classes -1"),
        ({"in_chans": 0}, "invalid number of channels 0"),
    ],
)
def test_gigantic_options(options: dict[str, object], words: str) -> None:
    for build in (lookup.backbone_geometry, registry.create_model):
        with pytest.raises(BackboneError, match=words):
            build("deit_pico", **options)


def test_positions() -> None:
    assert positions((225, 224), [-16]) == (14, 14)
    assert positions((225, 224), [16]) == (15, 14)
    assert positions((250, 203), [-4, 2]) == (31, 25)


def test_window_macs_of_a_padded_grid() -> None:
    one_window = 4 * 4 * 3 * 5 + 4 * 4 * 2 * 5
    assert window_macs((3, 2), (2, 2), dim=3, attn_dim=5) == 2 * one_window


def test_models_are_values() -> None:
    model = catalog().find("deit_pico")
    assert model is not None
    assert model.is_small
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "other"
