"""Device and precision of a computation."""

import contextlib

import pytest
import torch

from sparsesearch.training.arithmetic import full_precision


@pytest.fixture
def tf32():
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def test_full_precision_ends_with_its_block_also_at_an_error(tf32):
    with contextlib.suppress(KeyError), full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        raise KeyError
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.allow_tf32
