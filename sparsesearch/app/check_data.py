"""Say what a study would use of data, what not, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.data.content import Contents
from sparsesearch.data.digits import NUM_CLASSES, num_sources
from sparsesearch.data.input_size import input_size
from sparsesearch.data.samples import Account
from sparsesearch.data.source import source_of
from sparsesearch.data.splits import open_splits
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import DataSpec


@dataclass(frozen=True)
class CheckedData:
    """What a study would use of data.

    Attributes:
        source: The data.
        classes: Number of classes.
        class_names: Their names in the order of their labels; empty if they have none.
        train: Number of training images.
        search: Number of validation images of a search.
        test: Number of test images.
        left_out: Number of files and images that are not used, by reason.
        broken: Names of images that cannot be decoded; all of them only if all were decoded.
        notes: What may be unexpected, in lines.
        image_size: Height and width in pixels of the backbone's input; null if no backbone was given.
    """

    source: str
    classes: int
    class_names: tuple[str, ...]
    train: int
    search: int
    test: int
    left_out: dict[str, int]
    broken: tuple[str, ...]
    notes: tuple[str, ...]
    image_size: ImageSize | None

    def document(self) -> dict[str, object]:
        """The fields as plain data."""
        return asdict(self)


def check_data(data: DataSpec, *, backbone: str | None, decode_all: bool, progress: Progress) -> CheckedData:
    """Open data as a study would.

    Args:
        data: The data.
        backbone: Its name; None for one of three channels.
        decode_all: Whether every image is decoded; otherwise, a few are.
        progress: Shows long work.

    Raises:
        DataError: The data cannot be used, or one of the few images is broken.
        BackboneError: Unknown backbone.
    """
    source = source_of(data)
    image_size, in_chans = (None, 3) if backbone is None else input_size(resolve_name(backbone), data)
    if source.kind == "digits":
        from sparsesearch.data.digits_task import FRESH_PER_DIGIT, VAL_PER_DIGIT  # loads torch

        numbers = (FRESH_PER_DIGIT * num_sources("train"), 2 * VAL_PER_DIGIT * num_sources("val"))
        test = VAL_PER_DIGIT * num_sources("test")
        names = tuple(map(str, range(NUM_CLASSES)))
        return CheckedData(str(source), NUM_CLASSES, names, *numbers, test, {}, (), (), image_size)
    if decode_all:
        data = data.model_copy(update={"on_broken": "skip"})
    splits = open_splits(source, data, mode="L" if in_chans == 1 else "RGB", contents=Contents(progress=progress))
    classes, names, account = splits.num_classes, splits.class_names, splits.account
    numbers, test = (len(splits.train[1]), len(splits.val[1])), len(splits.test[1])
    lines = tuple(Account(notes=account.notes).lines(num_val=numbers[1] // 2))
    left_out = dict(account.left_out)
    return CheckedData(str(source), classes, names, *numbers, test, left_out, account.broken, lines, image_size)
