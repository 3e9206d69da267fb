"""Sizes of images: the forms that are read, the one form that is written, and what is refused in one line."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from sparsesearch.errors import one_line
from sparsesearch.schedule.image_size import as_image_size, sides, size_text
from sparsesearch.study.spec import DataSpec

REFUSED: list[object] = [
    "axb", "", "x", "256x", "256x192x3", "0x5", "256x4", "99999x224", "9" * 5000, "-224", "22.5", "256 192", "²",
    0, 7, 16_385, -224, 224.5, float("nan"), float("inf"), True, [], [256, 192, 3], [256, 4], [256, None],
    {"height": 256}, b"224",
]  # fmt: skip


@pytest.mark.parametrize("written", [224, "224", " 224 ", 224.0, "224x224", "224X224", [224, 224], (224, 224)])
def test_a_square_is_one_number(written: object) -> None:
    data = DataSpec.model_validate({"image_size": written})
    assert data == DataSpec(image_size=224)
    assert type(data.image_size) is int
    assert json.loads(data.model_dump_json())["image_size"] == 224


@pytest.mark.parametrize("written", ["256x192", "256X192", " 256 x 192 ", [256, 192], (256, 192), ["256", 192.0]])
def test_any_other_size_is_height_and_width(written: object) -> None:
    data = DataSpec.model_validate({"image_size": written})
    assert data.image_size == (256, 192)
    document = json.loads(data.model_dump_json())
    assert document["image_size"] == [256, 192]
    assert DataSpec.model_validate(document) == data == DataSpec.model_validate(data.model_dump())
    assert DataSpec.model_validate_json(data.model_dump_json()) == data


@pytest.mark.parametrize("written", REFUSED, ids=lambda value: repr(value)[:20])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="invalid image size"):
        as_image_size(written)
    with pytest.raises(ValidationError) as caught:
        DataSpec.model_validate({"image_size": written})
    assert "image_size: invalid image size" in one_line(caught.value)
    assert "\n" not in one_line(caught.value)
    assert len(one_line(caught.value)) < 300


def test_no_size_is_that_of_the_backbone() -> None:
    assert DataSpec.model_validate({"image_size": None}).image_size is None


def test_sides_and_text() -> None:
    assert (sides(224), sides((256, 192))) == ((224, 224), (256, 192))
    assert [as_image_size(size_text(size)) for size in (224, (256, 192))] == [224, (256, 192)]
