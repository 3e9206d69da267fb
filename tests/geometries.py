"""Backbones of every family as plain data, without building a model."""

from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry

DEIT_SMALL = BackboneGeometry(
    name="deit_small_patch16_224",
    image_size=(224, 224),
    stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
    stem_macs=196 * 768 * 384,
    head_macs=384 * 1000,
    params=22_050_664,
)
DEIT_PICO = BackboneGeometry(
    name="deit_pico",
    image_size=(64, 64),
    stages=(StageGeometry(depth=8, dim=48, attn_dim=48, num_heads=3, mlp_dim=192, grid=(8, 8)),),
    stem_macs=64 * 64 * 48,
    head_macs=480,
    params=230_000,
)


def _hierarchy(name: str, *, depths: tuple[int, ...], grids: tuple[int, ...], dims: tuple[int, ...], mixer: str):
    stages = tuple(
        StageGeometry(
            depth=depth,
            dim=dim,
            attn_dim=0,
            num_heads=0,
            mlp_dim=4 * dim,
            grid=(grid, grid),
            num_prefix_tokens=0,
            has_class_token=False,
            mixer=mixer,
            mixer_macs=grid * grid * 49 * dim,
            entry_macs=grid * grid * 2 * dim * dim if number else 0,
        )
        for number, (depth, grid, dim) in enumerate(zip(depths, grids, dims, strict=True))
    )
    return BackboneGeometry(
        name=name, image_size=(224, 224), stages=stages, stem_macs=10**7, head_macs=768_000, params=28_000_000
    )


CONVNEXT_TINY = _hierarchy(
    "convnext_tiny", depths=(3, 3, 9, 3), grids=(56, 28, 14, 7), dims=(96, 192, 384, 768), mixer="convolution"
)
SWIN_TINY = _hierarchy(
    "swin_tiny", depths=(2, 2, 6, 2), grids=(56, 28, 14, 7), dims=(96, 192, 384, 768), mixer="window"
)
EVERY_FAMILY = (DEIT_SMALL, DEIT_PICO, CONVNEXT_TINY, SWIN_TINY)
