import pytest
from geometries import CONVNEXT_TINY, DEIT_PICO, DEIT_SMALL, SWIN_TINY

from sparsesearch.budget.feasible import attainable
from sparsesearch.errors import SpaceError
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    Merge,
    Prune,
    SpotScorer,
)
from sparsesearch.space.definition import (
    SearchSpace,
    bundled_spaces,
    describe_space,
    load_space,
    space_name_for,
    space_path,
)
from sparsesearch.space.fitting import dropped_methods
from sparsesearch.space.schema import schema_text
from sparsesearch.space.shape import Method


def with_stage(geometry, **changes):
    stages = (geometry.stages[0].model_copy(update=changes), *geometry.stages[1:])
    return geometry.model_copy(update={"stages": stages})


class TestDefaults:
    def test_a_vit_is_pruned_before_any_block_but_the_first(self):
        space = SearchSpace().resolve(DEIT_SMALL)
        assert space.locations == tuple((0, block) for block in range(1, 12))
        assert space.methods == (Method(),)

    @pytest.mark.parametrize(("geometry", "depth"), [(CONVNEXT_TINY, 9), (SWIN_TINY, 6)])
    def test_a_hierarchical_backbone_has_fast_and_slow_paths_in_its_deepest_stage(self, geometry, depth):
        space = SearchSpace().resolve(geometry)
        assert space.locations == tuple((2, block) for block in range(depth))
        assert space.methods == (Method(reducer=FastSlow()),)

    def test_the_dense_model_is_no_proposal(self):
        assert SearchSpace(min_predictors=0).resolve(DEIT_SMALL).min_predictors == 1


class TestMethods:
    def test_products_leave_out_what_contradicts_itself(self):
        space = SearchSpace(
            reducers=(Prune(), Merge()), scorers=(DynamicVitScorer(), ClassAttentionScorer()), phases=("before_ffn",)
        ).resolve(DEIT_SMALL)
        assert [method.describe() for method in space.methods] == [
            "prune/dynamicvit before_ffn",
            "prune/class_attention before_ffn",
            "merge before_ffn",
        ]

    def test_what_the_backbone_cannot_do_is_left_out_and_told(self):
        geometry = with_stage(DEIT_SMALL, has_class_token=False)
        space = SearchSpace(scorers=(DynamicVitScorer(), ClassAttentionScorer()))
        assert space.resolve(geometry).methods == (Method(),)
        [(method, why)] = dropped_methods(space, geometry)
        assert method.scorer == ClassAttentionScorer()
        assert "class token" in why

    def test_block_0_has_no_attention_before_it(self):
        readers = SearchSpace(blocks=(0, 3), scorers=(ClassAttentionScorer(),))
        assert readers.resolve(DEIT_SMALL).locations == ((0, 3),)
        both = readers.model_copy(update={"phases": ("before_block", "before_ffn"), "methods_per": "location"})
        assert both.resolve(DEIT_SMALL).locations == ((0, 0), (0, 3))

    def test_a_fast_path_that_saves_nothing_is_left_out(self):
        geometry = CONVNEXT_TINY.model_copy(
            update={"stages": tuple(s.model_copy(update={"mlp_dim": s.dim // 2}) for s in CONVNEXT_TINY.stages)}
        )
        with pytest.raises(
            SpaceError, match="costs as much as the feed-forward network that it replaces; use fast_path identity"
        ):
            SearchSpace().resolve(geometry)

    @pytest.mark.parametrize(
        ("space", "geometry", "said"),
        [
            (
                SearchSpace(reducers=(Fuse(),)),
                CONVNEXT_TINY,
                "leaves nothing to search on convnext_tiny: fuse .* use fast",
            ),
            (SearchSpace(reducers=(FastSlow(),)), DEIT_SMALL, "use prune, fuse or merge on deit_small_patch16_224"),
            (SearchSpace(scorers=(SpotScorer(),)), SWIN_TINY, "reads global attention"),
            (SearchSpace(phases=("before_ffn",)), SWIN_TINY, "add before_block to phases"),
            (SearchSpace(blocks=(0,), scorers=(ClassAttentionScorer(),)), DEIT_SMALL, "start at block 1, or use phase"),
            (SearchSpace(stages=({"stage": 4},)), SWIN_TINY, "stage 4, but swin_tiny has stages 0 to 3"),
            (SearchSpace(stages=({"stage": 3, "blocks": [2]},)), SWIN_TINY, "block 2, .* blocks 0 to 1 in stage 3"),
            (SearchSpace(stages=({"stage": 3, "earliest": 2},)), SWIN_TINY, "no block of stage 3 .*; lower earliest"),
            (
                SearchSpace(blocks=(5, 6), latest=4),
                DEIT_SMALL,
                "at block 4 or before.*first possible block is 5; raise",
            ),
            (SearchSpace(blocks=(0, 3), latest=0, scorers=(ClassAttentionScorer(),)), DEIT_SMALL, "start at block 1"),
            (SearchSpace(earliest=11, min_predictors=2), DEIT_SMALL, "at least 2 predictors, but has 1 blocks"),
        ],
    )
    def test_a_space_without_a_schedule_says_how_to_mend_it(self, space, geometry, said):
        with pytest.raises(SpaceError, match=said):
            space.resolve(geometry)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"min_keep_ratio": 0.5, "max_keep_ratio": 0.4}, "min_keep_ratio 0.5 is above max_keep_ratio 0.4"),
        ({"earliest": 5, "latest": 4}, "earliest 5 is after latest 4"),
        ({"stages": [{"stage": 1}], "blocks": [2]}, "inside the entries of stages"),
        ({"stages": [{"stage": 1}, {"stage": 1}]}, "stages contains a duplicate"),
        ({"stages": [{"stage": 1, "blocks": [2, 2]}]}, "blocks contains a duplicate"),
        ({"stages": [{"stage": 1, "max_keep_ratio": 0.01}]}, "of stage 1 is above"),
    ],
)
def test_contradictions_are_refused(document, said):
    with pytest.raises(ValueError, match=said):
        SearchSpace.model_validate(document)


class TestBundled:
    @pytest.mark.parametrize(
        ("backbone", "name"),
        [
            ("deit_small_patch16_224", "deit_small"),
            ("deit_pico", "deit_pico"),
            ("vit_base_patch16_dinov3", "isotropic"),
            ("lvvit_s", "lvvit"),
            ("convnext_small", "convnext"),
            ("convnext_pico", "convnext_pico"),
            ("swin_tiny_patch4_window7_224", "swin"),
        ],
    )
    def test_every_backbone_has_one(self, backbone, name):
        assert space_name_for(backbone) == name

    @pytest.mark.parametrize("name", bundled_spaces())
    def test_each_is_described_names_its_schema_and_has_schedules(self, name):
        assert describe_space(name).endswith(".")
        assert space_path(name).read_text().startswith("# yaml-language-server: $schema=space.schema.json\n")
        geometry = {"convnext": CONVNEXT_TINY, "swin": SWIN_TINY}.get(name.split("_")[0], DEIT_PICO)
        low, high = attainable(geometry, load_space(name).resolve(geometry))
        assert low < 0.9 * high

    def test_the_schema_for_editors_is_current(self):
        """If not: python -m sparsesearch.space.schema > spaces/space.schema.json."""
        assert space_path("isotropic").with_name("space.schema.json").read_text() == schema_text()
