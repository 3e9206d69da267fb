"""The page of a model's folder, which is its front page on the Hugging Face hub."""

from __future__ import annotations

from sparsesearch.artifacts.checkpoint import ModelCard
from sparsesearch.backbones.lookup import backbone_geometry
from sparsesearch.text import macs_text

_PAGE = """\
---
tags:
- image-classification
- timm
- sparsesearch
- token-pruning
pipeline_tag: image-classification
library_name: timm
---
# {architecture}

`{backbone}` with a searched sparsification schedule: {cost}.

```python
import sparsesearch.timm  # registers the name: pip install sparsesearch
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or "hf-hub:OWNER/NAME"
```

| | |
|---|---|
{rows}

The schedule, over the blocks of the backbone:

```
{schedule}
```
{picture}"""


def folder_page(card: ModelCard, *, architecture: str, picture: str | None) -> str:
    """The page, in Markdown with the header that the hub reads.

    Args:
        card: The metadata of the model.
        architecture: Its name in timm.
        picture: File of a picture of the tokens that it keeps; None without one.
    """
    geometry = backbone_geometry(
        card.backbone, num_classes=card.num_classes, in_chans=card.in_chans, image_size=card.image_size
    )
    cost = f"{macs_text(card.macs)} an image"
    if card.dense_macs:
        cost += f", {card.macs / card.dense_macs:.0%} of the dense model's"
    rows = {
        "input": f"{card.in_chans} x {' x '.join(map(str, geometry.image_size))}",
        "classes": str(card.num_classes),
        **{name.replace("_", " "): f"{value:.4g}" for name, value in sorted(card.metrics.items())},
        "weights, SHA-256": f"`{card.weights_sha256}`",
        "written by": ", ".join(f"{name} {number}" for name, number in card.versions.items()),
    }
    return _PAGE.format(
        architecture=architecture,
        backbone=card.backbone,
        cost=cost,
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items() if value),
        picture=f"\n![the tokens that each step keeps]({picture})\n" if picture else "",
        schedule=card.schedule.describe(geometry) or "all tokens in all blocks",
    )
