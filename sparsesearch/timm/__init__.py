"""Sparse models in timm's registry: importing this package registers `sparse_<name>` models.

    import timm
    import sparsesearch.timm

    model = timm.create_model("sparse_deit_small_patch16_224", schedule="best.yaml", pretrained=True)

`python -m sparsesearch.timm SCRIPT ...` does the same for a script that only imports timm.
"""

from sparsesearch.timm import sparse_models

__all__ = ["sparse_models"]
