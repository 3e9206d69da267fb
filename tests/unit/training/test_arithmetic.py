"""Device and precision of a computation."""

import contextlib

import pytest
import torch

from sparsesearch.data.inputs import task_geometry
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic, full_precision, type_of_capability
from sparsesearch.training.kinds import TrainingContext, dense_training
from sparsesearch.training.loop import TrainingRun

CPU = torch.device("cpu")


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


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_bfloat16_is_chosen_only_where_it_is_native(capability, dtype):
    assert type_of_capability(capability) is dtype


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_precision_has_one_name(name):
    arithmetic = Arithmetic.of(name, device=CPU)
    assert arithmetic.precision == name
    assert arithmetic.scaler().is_enabled() == (name == "float16")
    assert Arithmetic.of("auto", device=CPU).precision == "float32"


class ChannelsLast(Arithmetic):
    """As on a GPU, on the CPU."""

    def placed(self, model):
        return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_training_with_channels_last_and_a_scaled_loss_goes_on_where_it_stopped(task, dtype):
    """What a GPU without bfloat16 does, with the optimizer that it uses."""
    arithmetic = ChannelsLast(CPU, dtype)
    context = TrainingContext("convnext_pico", task_geometry("convnext_pico", task), task, arithmetic, seed=0)
    spec = TrainSpec(epochs=2, images_per_epoch=32, batch_size=16)

    def begin():
        training = dense_training(context, spec, weights="scratch", seed=0)
        run = TrainingRun(training.model, spec, steps_per_epoch=2, arithmetic=arithmetic)
        for group in run._optimizer.param_groups:
            group["fused"] = True
        return training, run

    def one_epoch(training, run):
        number = run.epochs_done + 1
        with Silent().bar("", total=2) as bar:
            return run.epoch(training.batches(number), training.objective, seed=number, bar=bar)

    training, run = begin()
    one_epoch(training, run)
    state = {name: tensor.clone() for name, tensor in run.state().items()}
    expected = one_epoch(training, run)
    training, run = begin()
    run.restore(state)
    assert one_epoch(training, run) == expected
    assert ("scaler.scale" in state) == (dtype == torch.float16)
