"""Latencies in the runtimes in which models are deployed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsesearch.deploy.timed_calls import ready_in
from sparsesearch.errors import SpecError
from sparsesearch.latency.confirm import confirm
from sparsesearch.latency.device import conditions_here
from sparsesearch.latency.groups import _sparse
from sparsesearch.latency.profile.profile_plan import ProfilePlan, run_plan
from sparsesearch.latency.target import Target
from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import Conditions, Runtime, parse_runtime

CPU = torch.device("cpu")
SCHEDULE = Schedule.at([2, 4, 6], [0.7, 0.5, 0.35])


def target(runtime: Runtime, **changes: Any) -> Target:
    given: dict[str, Any] = {
        "backbone": "deit_pico",
        "device": CPU,
        "batch_size": 3,
        "image_size": (32, 32),
        "in_chans": 1,
    }
    return Target(**{**given, "runtime": runtime, "ready": ready_in(runtime), **changes})


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", pytest.param("aoti", marks=pytest.mark.long)])
def test_what_is_timed_is_the_model(runtime: Runtime) -> None:
    """The logits of the dense and of the sparse model, each run at the size of the batch."""
    torch.manual_seed(0)
    one = target(runtime)
    dense, ready = one.dense_model(), ready_in(runtime)
    assert ready is not None
    images = one.images(dense, one.geometry())
    with torch.inference_mode():
        for model in (dense, _sparse(dense, SCHEDULE)):
            expected = model(images)
            found = ready(model, images)(images)
            (logits,) = found if isinstance(found, list | tuple) else (found,)
            torch.testing.assert_close(torch.as_tensor(logits), expected, rtol=0.0, atol=1e-4)


@pytest.mark.slow
def test_a_recipe_is_confirmed_in_onnx_runtime() -> None:
    found = confirm(target("onnx"), {"one": SCHEDULE}, seconds=2.0, threads=1)["one"]
    assert found.conditions.runtime == "onnx"
    assert found.conditions.runtime_version is not None
    assert "ONNX Runtime" in found.conditions.describe()
    assert 0.2 < found.ratio < 1.5


def test_conditions_of_torch_are_written_as_before_there_were_others() -> None:
    here = conditions_here(CPU, precision="float32", batch_size=1)
    assert "runtime" not in here.model_dump_json()
    assert "runtime" not in here.model_dump()
    other = here.model_copy(update={"runtime": "onnx", "runtime_version": "1.23"})
    assert Conditions.model_validate_json(other.model_dump_json()) == other
    assert other.fingerprint != here.fingerprint
    assert other.differences(here) == ["runtime torch instead of onnx"]
    old = Conditions(
        device="cpu", device_name="a", precision="float32", batch_size=1, compiled=False, memory_format="contiguous",
        num_threads=1, torch="2", timm="1",
    )  # fmt: skip
    assert old.fingerprint == "9e3abd8dae4d64a9"


@pytest.mark.parametrize(
    ("runtime", "changes", "why"),
    [
        ("onnx", {"compiled": True}, "--compile is for the runtime torch"),
        ("onnx", {"precision": "bfloat16"}, "timed on a CPU in float32"),
        ("aoti", {"ready": None}, "use: sparsesearch profile"),
        ("cuda-graph", {}, "needs a CUDA device"),
    ],
)
def test_what_no_runtime_can(runtime: Runtime, changes: dict[str, object], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        target(runtime, **changes)


def test_unknown_runtimes() -> None:
    with pytest.raises(SpecError, match="invalid runtime 'tensorrt'; choose torch, onnx, aoti, cuda-graph"):
        parse_runtime("tensorrt")
    with pytest.raises(SpecError, match="use: sparsesearch profile"):
        run_plan(ProfilePlan(backbone="deit_pico", device="cpu", runtime="onnx"))
