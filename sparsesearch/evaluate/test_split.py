"""The one door to the test split. Only `retrain` and final reports import this."""

from __future__ import annotations

from sparsesearch.evaluate.digits_task import DigitsTest
from sparsesearch.evaluate.images_task import ImagesTest, open_splits
from sparsesearch.evaluate.inputs import preprocessing_of
from sparsesearch.spec import DataSpec


def open_test(data: DataSpec, *, backbone: str) -> DigitsTest | ImagesTest:
    """The task with its test split opened.

    Raises:
        DataError: The data is missing, empty or broken.
    """
    wanted = preprocessing_of(backbone, data)
    if data.is_demo:
        return DigitsTest(image_size=wanted.image_size, in_chans=wanted.in_chans)
    return ImagesTest(open_splits(data, in_chans=wanted.in_chans), wanted, data)
