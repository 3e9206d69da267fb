"""A given dense model is believed if it is better than chance in every respect."""

from __future__ import annotations

import pytest
import torch

from sparsesearch.training.scoring import Accumulator


def scored(logits: list[list[float]], labels: list[int]) -> Accumulator:
    found = Accumulator()
    for start in range(0, len(labels), 3):
        found.add(torch.tensor(logits[start : start + 3]), torch.tensor(labels[start : start + 3]))
    return found


def test_always_the_most_frequent_class_is_chance() -> None:
    found = scored([[1.0, 0.0]] * 10, [0] * 9 + [1])
    assert found.metrics("val")["val_top1"] == 0.9
    assert found.balanced_top1 == 0.5
    assert found.class_fractions == pytest.approx([0.9, 0.1])


def test_classes_count_alike() -> None:
    logits = [[1.0, 0.0, 0.0]] * 4 + [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    found = scored(logits, [0, 0, 0, 0, 1, 1, 2])
    assert found.balanced_top1 == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.metrics("val")["val_top1"] == pytest.approx(6 / 7)
