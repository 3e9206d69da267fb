"""One training phase."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.value import Value

RAND_AUGMENT = "rand-m9-mmax9-mstd0.5-inc1"
"""timm's RandAugment `rand-m9-mstd0.5-inc1`, but with no magnitude above 9, at which recent versions of Pillow fail."""


class Augmentation(Value):
    """Random changes of training images and of their labels.

    Attributes:
        mixup: Parameter alpha of the beta distribution of mixup, which blends pairs of images; 0 for no mixup.
        cutmix: The same of cutmix, which exchanges a rectangle; with both, each pair has one of them at random.
        label_smoothing: Probability that a label gives to all classes alike.
        random_erasing: Probability that a rectangle of an image is replaced by noise.
        rand_augment: timm's RandAugment of image files; null for colour jitter alone.
    """

    mixup: float = Field(default=0.0, ge=0.0)
    cutmix: float = Field(default=0.0, ge=0.0)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    random_erasing: float = Field(default=0.0, ge=0.0, le=1.0)
    rand_augment: str | None = Field(default=RAND_AUGMENT, pattern=r"^rand(-[a-z]+[0-9.]+)*$")

    @property
    def changes_batches(self) -> bool:
        """Whether images or labels are changed after they were loaded."""
        return self.mixes or self.label_smoothing > 0.0 or self.random_erasing > 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs."""
        return self.mixup > 0.0 or self.cutmix > 0.0


class TrainSpec(Value):
    """One training phase.

    Attributes:
        preset: Name of the preset that the other keys are from (docs/training.md); `auto`, for `retrain`, is the one
            that suits weights and data; null for none.
        epochs: Number of epochs; a trial reports and writes a checkpoint after each.
        images_per_epoch: Images per epoch; None for the whole training split.
        batch_size: Images per optimiser step, over all processes that train together.
        micro_batch: Images that one process computes at once, less than its share of a batch to save memory; null for
            the whole share. It is halved if the device runs out of memory.
        lr: Peak learning rate of the backbone.
        predictor_lr: Peak learning rate of predictors and fast paths.
        final_lr: Learning rate at the end, as a fraction of the peak.
        frozen_epochs: Epochs at the beginning in which the backbone is not changed, but only what is new.
        train_embeddings: Whether class token and position embedding are trained.
        weight_decay: AdamW weight decay; biases and one-dimensional parameters are exempt.
        warmup: Fraction of the steps over which the learning rate rises linearly from 0.
        clip_grad: Maximum gradient norm; null for no limit.
        augmentation: Random changes of images and labels.
        drop_path: Stochastic depth: probability that an image skips the last block, linearly less for those before.
        ema_decay: Decay of a moving average of the weights, kept next to them; null for none.
        method: Training method: `gathered` drops tokens in training too, and predictors learn from the attention of the
            teacher; `masked` keeps and masks them, as in the papers. See docs/training.md.
        ratio_weight: Weight of the loss on the keep ratio in masked training; null for 2, and 10 for ConvNeXt and Swin.
        grad_checkpointing: Recompute activations in the backward pass: slower, but with much less memory.
    """

    preset: str | None = None
    epochs: int = Field(ge=1)
    images_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    lr: float = Field(default=5e-4, gt=0.0)
    predictor_lr: float = Field(default=2e-3, gt=0.0)
    final_lr: float = Field(default=0.0, ge=0.0, le=1.0)
    frozen_epochs: int = Field(default=0, ge=0)
    train_embeddings: bool = True
    weight_decay: float = Field(default=0.05, ge=0.0)
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    clip_grad: float | None = Field(default=1.0, gt=0.0)
    augmentation: Augmentation = Augmentation()
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    method: Literal["gathered", "masked"] = "gathered"
    ratio_weight: float | None = Field(default=None, ge=0.0)
    grad_checkpointing: bool = False

    @model_validator(mode="after")
    def _mixes_pairs(self) -> TrainSpec:
        if self.augmentation.mixes and self.batch_size % 2:
            raise ValueError(f"mixup and cutmix need an even batch_size, got {self.batch_size}")
        return self
