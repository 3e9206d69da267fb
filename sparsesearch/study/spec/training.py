"""One training phase."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.value import Value


class TrainSpec(Value):
    """One training phase.

    Attributes:
        epochs: Number of epochs; a trial reports and writes a checkpoint after each.
        images_per_epoch: Images per epoch; None for the whole training split.
        batch_size: Images per optimiser step, over all processes that train together.
        micro_batch: Images that one process computes at once, less than its share of a batch to save memory; null for
            the whole share. It is halved if the device runs out of memory.
        lr: Peak learning rate of the backbone.
        predictor_lr: Peak learning rate of predictors.
        weight_decay: AdamW weight decay; biases and one-dimensional parameters are exempt.
        warmup: Fraction of the steps over which the learning rate rises linearly from 0.
        clip_grad: Maximum gradient norm.
        method: Training method: `gathered` drops tokens in training too, and predictors learn from the attention of the
            teacher; `masked` keeps and masks them, as in the papers. See docs/training.md.
        grad_checkpointing: Recompute activations in the backward pass: slower, but with much less memory.
    """

    epochs: int = Field(ge=1)
    images_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    lr: float = Field(default=5e-4, gt=0.0)
    predictor_lr: float = Field(default=2e-3, gt=0.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    clip_grad: float = Field(default=1.0, gt=0.0)
    method: Literal["gathered", "masked"] = "gathered"
    grad_checkpointing: bool = False
