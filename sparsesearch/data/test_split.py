"""The only access to the test split. Only what judges trained models imports this module: retrain, export, compare."""

from __future__ import annotations

from sparsesearch.data.content import Contents
from sparsesearch.data.digits_task import DigitsTest
from sparsesearch.data.images_task import ImagesTest
from sparsesearch.data.inputs import preprocessing_of
from sparsesearch.data.source import source_of
from sparsesearch.data.splits import open_splits
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import DataSpec

TestedTask = DigitsTest | ImagesTest


def open_test(data: DataSpec, *, backbone: str, progress: Progress | None = None, state: str = "") -> TestedTask:
    """Open the task with its test split.

    Args:
        data: The data.
        backbone: Resolved name.
        progress: Shows the hashing of files.
        state: `Task.state` of another process, which is believed instead of looking at each file again.

    Raises:
        DataError: The data is missing, empty or corrupt.
        MissingExtraError: A package needed to read the data is not installed.
    """
    source, preprocessing = source_of(data), preprocessing_of(backbone, data)
    if source.kind == "digits":
        return DigitsTest(image_size=preprocessing.image_size, in_chans=preprocessing.in_chans, variant=source.variant)
    contents = Contents(progress=progress)
    return ImagesTest(
        open_splits(source, data, mode=preprocessing.mode, contents=contents, state=state), preprocessing, data
    )
