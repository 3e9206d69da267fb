from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparsesearch.evaluate.estimate import estimate
from sparsesearch.evaluate.plan import make_plan
from sparsesearch.evaluate.rates import AtOnce, Rates
from sparsesearch.evaluate.throughput import Speeds
from sparsesearch.study.spec import Budget, FidelitySpec, StudySpec, TrainSpec
from sparsesearch.text import human_time
from sparsesearch.training.recipes import default_fidelity


@dataclass
class SizedTask:
    """All that a plan asks of a task."""

    num_train: int
    num_ranking: int = 0  # no image is left to rank the best again


PHASES = ("dense", "supernet_training", "finetune")


def study(**changes):
    fields = {"name": "plan", "backbone": "deit_pico", "budget": Budget(high=0.4), **changes}
    return StudySpec.model_validate(fields)


def plan(spec, *, train_s=1e-3, infer_s=3e-4, num_train=5500, num_val=3600, windowed=True, num_baselines=2, found=None):
    return make_plan(
        spec,
        Rates.of(Speeds(train_s, infer_s), windowed=windowed),
        task=SizedTask(num_train),
        num_val=num_val,
        windowed=windowed,
        num_baselines=num_baselines,
        found=found,
    )


def least(spec, speeds, *, task, num_val, num_baselines, windowed):
    """Seconds of a study cut to the bone."""
    bare = TrainSpec(epochs=1, images_per_epoch=64)
    fidelity = FidelitySpec(
        strategy=spec.fidelity.strategy,
        evaluations=min(6, spec.fidelity.evaluations),
        finalists=min(3, spec.fidelity.finalists),
        dense=bare,
        supernet_training=bare,
        finetune=bare,
    )
    rates = Rates.of(speeds, windowed=windowed)
    phases = estimate(fidelity, rates, task=task, num_val=min(64, num_val), num_baselines=num_baselines)
    return sum(phases.values()) + 8.0


@st.composite
def machines(draw):
    train_s = 10 ** draw(st.floats(-5.0, -0.3))
    return Speeds(train_s, train_s * draw(st.floats(0.15, 0.6)))


@st.composite
def wishes(draw):
    backbone = draw(st.sampled_from(["deit_pico", "deit_small_patch16_224"]))
    fidelity = default_fidelity(
        backbone, weights=draw(st.sampled_from(["pretrained", "scratch"])), is_demo=draw(st.booleans())
    )
    batch = {"batch_size": draw(st.sampled_from([4, 24, 64, 256]))}
    changes = {
        **{phase: getattr(fidelity, phase).model_copy(update=batch) for phase in PHASES},
        "strategy": draw(st.sampled_from(["supernet", "finetune", "training-free"])),
        "evaluations": draw(st.integers(1, 300)),
        "finalists": draw(st.integers(1, 20)),
    }
    return study(
        backbone=backbone,
        fidelity=fidelity.model_copy(update=changes),
        baselines=draw(st.booleans()),
        budget=Budget(low=draw(st.sampled_from([None, 0.2])), high=0.4),
        time_budget_s=draw(st.floats(15.0, 20_000.0)),
    )


@settings(deadline=None, derandomize=True, database=None, max_examples=400)
@given(wishes(), machines(), st.sampled_from([200, 5500, 1_280_000]), st.integers(20, 50_000), st.booleans())
def test_a_cut_study_fits_its_time_and_asks_for_no_more_than_was_wished(spec, speeds, num_train, num_val, windowed):
    task = SizedTask(num_train)
    num_baselines = (10 if spec.budget.low else 2) if spec.baselines else 0
    rates = Rates.of(speeds, windowed=windowed)
    made = make_plan(spec, rates, task=task, num_val=num_val, windowed=windowed, num_baselines=num_baselines)
    if made.spec != spec:
        before, after = spec.fidelity, made.spec.fidelity
        assert 1 <= after.evaluations <= before.evaluations
        assert 1 <= after.finalists <= before.finalists
        for phase in PHASES:
            old, new = getattr(before, phase), getattr(after, phase)
            assert new.epochs <= old.epochs
            assert new.batch_size <= old.batch_size
            assert min(new.images_per_epoch or num_train, num_train) <= min(
                old.images_per_epoch or num_train, num_train
            )
            assert (
                new.model_copy(
                    update={
                        "epochs": old.epochs,
                        "images_per_epoch": old.images_per_epoch,
                        "batch_size": old.batch_size,
                    }
                )
                == old
            )
        assert min(64, num_val) <= made.spec.data.num_val_images <= num_val
        assert after.retrain == before.retrain
        assert made.seconds <= made.full_seconds
        untouched = {"fidelity": before, "data": spec.data, "meaningful": spec.meaningful}
        assert made.spec.model_copy(update=untouched) == spec
    bone = least(spec, speeds, task=task, num_val=num_val, num_baselines=num_baselines, windowed=windowed)
    assume(bone <= 0.6 * spec.time_budget_s)
    assert made.seconds <= spec.time_budget_s


def test_without_a_time_budget_nothing_is_cut():
    for train_s in (1e-5, 1e-2, 10.0):
        made = plan(study(), train_s=train_s)
        assert made.spec == study()
        assert made.seconds == made.full_seconds


def test_a_time_budget_that_is_long_enough_cuts_nothing():
    whole = plan(study()).full_seconds
    assert plan(study(time_budget_s=1.5 * whole)).spec == study(time_budget_s=1.5 * whole)
    assert plan(study(time_budget_s=0.9 * whole)).spec.fidelity != study().fidelity


def test_the_estimate_is_what_the_phases_add_up_to():
    made = plan(study(), train_s=0.01, infer_s=0.002)
    assert made.seconds == pytest.approx(sum(made.seconds_by_phase.values()) + 8.0)
    assert made.seconds_by_phase["dense"] == pytest.approx(12 * 5500 * 0.01 * 0.55 + (11 * 960 + 3600) * 0.002)
    assert made.seconds_by_phase["supernet_training"] == pytest.approx(
        4 * 5376 * (0.01 * 1.6 + 0.002) + (3 * 960 + 3600) * 0.002
    )
    assert made.seconds_by_phase["screen"] == pytest.approx(62 * 3600 * 0.002 * 0.6)


def test_finalists_that_were_cut_count_as_far_as_they_fit():
    wish = study().fidelity.model_copy(update={"finalists": 40})
    for limit_s in (100.0, 150.0, 200.0):
        made = plan(study(fidelity=wish, time_budget_s=limit_s), train_s=0.002, infer_s=0.0005)
        assert made.spec.fidelity.finalists < 40
        assert 0.8 * limit_s <= made.seconds <= limit_s, "time that is left is used"
        more = 40 - made.spec.fidelity.finalists
        line = made.describe(Speeds(0.002, 0.0005), device="cpu", precision="float32")
        assert f"fine-tuned, then {more} more while time is left;" in line


@pytest.mark.parametrize(
    ("budget", "num"), [(Budget(high=0.4), 2), (Budget(low=0.2, high=0.4), 10), (Budget(low=0.2, high=0.4), 0)]
)
def test_baselines_are_counted(budget, num):
    fidelity = FidelitySpec(strategy="finetune", evaluations=20, finetune=TrainSpec(epochs=1, images_per_epoch=100))
    made = plan(study(budget=budget, fidelity=fidelity), num_val=100, num_baselines=num)
    one = 100 * (1e-3 * 0.7 + 3e-4) + 100 * 3e-4 * 0.7
    and_dense = 1 if num else 0
    assert made.seconds_by_phase["finetune"] == pytest.approx((20 + num + and_dense) * one)


def test_hardly_trained_is_not_meaningful():
    short = plan(study(time_budget_s=60.0), train_s=0.3, infer_s=0.1)
    assert not short.spec.meaningful
    assert short.spec.fidelity.dense.epochs == 1
    assert plan(study(time_budget_s=100.0), train_s=1e-3).spec.meaningful


def test_a_plan_reads_well():
    made = plan(study(time_budget_s=60.0), train_s=1e-2, infer_s=2e-3)
    line = made.describe(Speeds(1e-2, 2e-3), device="cpu", precision="float32")
    assert line.startswith("plan: dense 1 x ")
    assert "100 images/s training, 500 evaluating" in line
    assert "\n" not in line
    assert "15 schedules and 2 hand-crafted baselines evaluated" in line
    assert "3 finalists and 2 hand-crafted baselines fine-tuned" in line
    assert plan(study()).cuts() == []
    cuts = made.cuts()
    assert "dense epochs 12 to 1" in cuts
    assert "schedules 60 to 15" in cuts
    assert f"validation images 3,600 to {made.num_val:,}" in cuts
    dense_only = plan(study(fidelity=FidelitySpec(strategy="finetune", evaluations=7)))
    assert "7 schedules and 2 hand-crafted baselines fine-tuned" in dense_only.describe(
        Speeds(1, 1), device="cpu", precision="float32"
    )
    assert [human_time(s) for s in (42.4, 600.0, 7200.0)] == ["42 s", "10 min", "2.0 h"]


class TestWhatDoesNotRun:
    def test_is_validated_and_nothing_else(self):
        whole = plan(study(), infer_s=0.002)
        made = plan(study(), infer_s=0.002, found={"dense": "given", "supernet_training": "in the cache"})
        assert (
            made.seconds_by_phase["dense"] == made.seconds_by_phase["supernet_training"] == pytest.approx(3600 * 0.002)
        )
        assert made.seconds_by_phase["screen"] == whole.seconds_by_phase["screen"]
        line = made.describe(Speeds(1e-2, 2e-3), device="cpu", precision="float32")
        assert line.startswith("plan: dense given, supernet in the cache, ")

    def test_its_time_goes_to_the_fine_tunings(self):
        spec = study(time_budget_s=60.0)
        without = plan(spec, train_s=0.01, infer_s=0.002)
        made = plan(spec, train_s=0.01, infer_s=0.002, found={"dense": "given"})
        assert made.spec.fidelity.dense == spec.fidelity.dense
        images = [p.spec.fidelity.finetune.epochs * p.spec.fidelity.finetune.images_per_epoch for p in (without, made)]
        assert images[1] > 1.5 * images[0]
        assert made.seconds <= 60.0


class TestRates:
    SPEEDS = Speeds(train_s=0.01, infer_s=0.002)

    def test_devices_that_work_at_once_divide_the_time(self):
        one, many = (Rates.of(self.SPEEDS, windowed=False, at_once=AtOnce(*n)) for n in ((1, 1), (8, 4)))
        assert many.dense == pytest.approx(one.dense / 8)
        assert many.supernet == pytest.approx(one.supernet / 8)
        assert (many.screen, many.finetune) == pytest.approx((one.screen / 4, one.finetune / 4))
        assert many.validate == one.validate, "one process validates what runs alone"

    def test_a_gpu_waits_for_the_slower_of_loader_and_training(self):
        speeds = replace(self.SPEEDS, load_s=0.004, overlaps=True)
        rates = Rates.of(speeds, windowed=False, at_once=AtOnce(reference=8))
        assert rates.dense == pytest.approx(0.004), "eight GPUs need an image every 1.25 ms"
        assert Rates.of(speeds, windowed=False).dense == pytest.approx(0.01)

    def test_on_a_cpu_loading_takes_time_from_the_training(self):
        assert Rates.of(replace(self.SPEEDS, load_s=0.004), windowed=False).dense == pytest.approx(0.014)


def test_ranking_the_best_again_is_planned_where_there_are_images_for_it():
    spec = study(fidelity={"finalists": 5, "evaluations": 60})
    none, some = (
        make_plan(
            spec,
            Rates.of(Speeds(1e-3, 3e-4), windowed=True),
            task=SizedTask(5500, num_ranking),
            num_val=1000,
            windowed=True,
            num_baselines=2,
        )
        for num_ranking in (1000, 1600)
    )
    assert "rescore" not in none.seconds_by_phase
    ratio = some.seconds_by_phase["rescore"] / some.seconds_by_phase["screen"]
    assert ratio == pytest.approx(10 * 600 / (62 * 1000)), "ten schedules on the 600 images that are left"
    assert some.num_more == 600
    assert "the best 10 again on other images" in some.describe(Speeds(1e-3, 3e-4), device="cpu", precision="float32")
