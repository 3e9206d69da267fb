"""The dense and the sparse model side by side, from Python and by `python -m sparsesearch.latency.bench`."""

import json

import pytest
import torch

from sparsesearch.artifacts.model_reference import find_model
from sparsesearch.errors import ScheduleError, SpecError
from sparsesearch.latency.bench import table as text
from sparsesearch.latency.bench.__main__ import main
from sparsesearch.latency.bench.bench_plan import CPU_SECONDS, BenchPlan
from sparsesearch.latency.bench.compare import compare
from sparsesearch.latency.bench.table import plain_text

QUICK = {"device": "cpu", "runs": 3, "seconds": 0.01}


class Told:
    """A progress that remembers its bars."""

    def __init__(self):
        self.bars = {}

    def bar(self, label, total):
        self.bars[label] = [total, 0]
        told = self

        class Bar:
            def advance(self, amount=1, *, note=None):
                told.bars[label][1] += amount

            def __enter__(self):
                return self

            def __exit__(self, *error):
                return None

        return Bar()

    def line(self, text):
        raise AssertionError(text)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_both_models_at_every_batch_size(precision):
    told = Told()
    threads = torch.get_num_threads()
    plan = BenchPlan(**QUICK, batch_size="2,1,2", precision=precision, channels_last=True, threads=1)
    found = compare(find_model(backbone="deit_pico", rho=0.5), plan, progress=told)
    assert [batch.batch_size for batch in found.batches] == [2, 1]
    for batch in found.batches:
        assert batch.conditions.memory_format == "channels_last"
        assert batch.conditions.precision == plan.precision_name
        assert batch.conditions.num_threads == 1
        assert batch.dense.num_runs == batch.sparse.num_runs >= 3
        assert batch.dense.working_bytes is None
    assert found.dense_macs == 18_341_088
    assert found.macs_ratio > 1.9
    assert found.weight_bytes[1] > found.weight_bytes[0]
    assert list(told.bars) == ["batch size 2", "batch size 1"]
    assert all(done >= 5 for _, done in told.bars.values())
    assert torch.get_num_threads() == threads


def test_rows_and_text():
    found = compare(find_model(backbone="deit_pico", at="3", keep="0.5"), BenchPlan(**QUICK, batch_size="1"))
    dense, sparse = text.rows(found)
    assert len(dense) == len(sparse) == len(text.columns(found))
    assert (dense[:2], sparse[:2]) == (("1", "dense"), ("", "sparse"))
    assert sparse[text.columns(found).index("speed-up")].endswith("x")
    shown = plain_text(found)
    assert "deit_pico at 32x32, 3:32" in shown
    assert "interleaved" in shown


def test_plans():
    plan = BenchPlan(batch_size="1, 64,1")
    assert plan.batch_sizes == (1, 64)
    assert plan.seconds_on("cpu") == CPU_SECONDS
    assert plan.seconds_on("cuda") is None
    assert BenchPlan(seconds=2.0).seconds_on("cuda") == 2.0
    for wrong, said in (
        ({"batch_size": ""}, "no batch size"),
        ({"batch_size": "0"}, "integers of at least 1"),
        ({"precision": "int8"}, "float32, bf16 or fp16"),
        ({"runs": 0}, "--runs 0"),
        ({"seconds": -1.0}, "--seconds -1"),
    ):
        with pytest.raises(SpecError, match=said):
            BenchPlan(**wrong)


def test_subjects():
    reference = find_model(backbone="deit_s", rho=0.7)
    assert reference.backbone == "deit_small_patch16_224"
    assert reference.schedule.describe(reference.geometry) == "3:137 6:96 9:67"
    assert find_model(backbone="deit_pico", image_size=48).geometry.stages[0].grid == (12, 12)
    for wrong, said in (
        ({}, "no model given"),
        ({"backbone": "deit_pico", "rho": 0.5, "at": "3"}, "several schedules given"),
        ({"backbone": "deit_pico", "rho": 0.5, "at": "3", "keep": "0.5"}, "several schedules given"),
    ):
        with pytest.raises(SpecError, match=said):
            find_model(**wrong)
    with pytest.raises(ScheduleError, match="block 99 does not exist"):
        find_model(backbone="deit_pico", at="99", keep="0.5")


def test_steps_alone_need_a_backbone(tmp_path):
    path = tmp_path / "steps.json"
    path.write_text(json.dumps({"steps": [{"block": 3, "keep_ratio": 0.5}]}))
    assert find_model(backbone="deit_pico", schedule=path).schedule.steps[0].block == 3
    with pytest.raises(SpecError, match="contains steps but no backbone; give one with --backbone"):
        find_model(schedule=path)


def test_as_a_module(capsys, tmp_path):
    target = tmp_path / "deep" / "bench.json"
    asked = ["--backbone", "deit_pico", "--rho", "0.5", "--device", "cpu", "--batch-size", "1"]
    assert main([*asked, "--runs", "3", "--seconds", "0.01", "--json", "-o", str(target)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(target.read_text())
    assert printed["batches"][0]["conditions"]["device"] == "cpu"
    assert main([*asked, "--precision", "int4"]) == 2
    assert capsys.readouterr().err == "sparsesearch: invalid precision 'int4'; choose float32, bf16 or fp16\n"
    (tmp_path / "file").touch()
    assert main([*asked, "-o", str(tmp_path / "file" / "x.json")]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def test_the_module_overwrites_only_with_force(capsys, tmp_path):
    target = tmp_path / "bench.json"
    target.write_text("the only copy")
    asked = ["--backbone", "deit_pico", "--rho", "0.5", "--device", "cpu", "--batch-size", "1", "-o", str(target)]
    assert main(asked) == 2
    assert f"{target} already exists; choose another file, or overwrite it with --force" in capsys.readouterr().err
    assert target.read_text() == "the only copy"
    assert main([*asked, "--runs", "3", "--seconds", "0.01", "--force"]) == 0
    assert json.loads(target.read_text())["batches"]
