"""The data of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.spec.renamed import renamed
from sparsesearch.value import Value


class DataSpec(Value):
    """The data to train and evaluate on.

    Attributes:
        source: `digits`, `digits:hard` or `digits:four` (bundled demo tasks); `folder:PATH` (PATH/train and PATH/val or
            PATH/test or both, each with one folder per class, or the class folders themselves); `torch/NAME:PATH`
            (torchvision, such as `torch/cifar10:PATH`); `hfds/OWNER/NAME` or `hfds:PATH` (Hugging Face datasets);
            `wds:PATH` (WebDataset shards). See docs/data.md.
        image_size: Pixels: 224, or height and width as `256x192` or `[256, 192]`; None for the default of the backbone.
        val: Where the images that rank schedules come from if the data has train and one other split: `train` holds
            some of its training images out, and tests on the other split; `half` takes half of the other split, and
            tests on the other half, for weights that were trained on all training images.
        val_fraction: Fraction of the training images of each class held out for validation if the data has no separate
            test split.
        num_val_images: Maximum number of validation images per evaluation; None for a standard error of 0.3 points at
            80 % accuracy (17,778 images), and for all of the demo task.
        workers: Number of processes that decode images, for each training or evaluation; None for one less than its
            cores, and at least one. No image depends on it.
        class_order: Order of class folders: `natural` (class2 before class10, as in timm) or `alphabetical` (class10
            before class2, as in torchvision), which must be that of given weights with a head.
        on_broken: What an image that cannot be read does: `stop` ends the study, `skip` decodes all images before it
            begins, and leaves out the broken ones.
    """

    source: str = "digits"
    image_size: ImageSize | None = None
    val: Literal["train", "half"] = "train"
    val_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    num_val_images: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=0)
    class_order: Literal["natural", "alphabetical"] = "natural"
    on_broken: Literal["stop", "skip"] = "stop"

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, data: object) -> object:
        return renamed("data", data)

    @property
    def is_demo(self) -> bool:
        """Whether this is the bundled demo task, whose schedules do not transfer to real data."""
        return self.source.partition(":")[0] == "digits"
