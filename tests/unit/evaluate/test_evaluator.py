import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from sparsesearch.analysis.study_front import study_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.reopen_damaged import reopen_damaged
from sparsesearch.artifacts.trained import trained_tensors
from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import CheckpointError, StudyFailedError
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.evaluator import StudyEvaluator
from sparsesearch.search.controller import StagedController
from sparsesearch.space.untrained import without_training
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Checkpointed
from sparsesearch.study.learned_counts import LearnedCounts
from sparsesearch.study.progress import Silent
from sparsesearch.study.protocols import Done
from sparsesearch.study.stop import StopCause, StoppedError, StopToken
from sparsesearch.study.trial import Fidelity, Origin, TrialState
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder, read_tensors, write_tensors
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.scoring import evaluate_model


class Epochs(Silent):
    """Counts the epochs that are begun, and the trainings and passes of evaluation besides, and keeps the lines."""

    def __init__(self):
        self.labels = []
        self.lines = []

    def bar(self, label, total, **options):
        if label != "validating":  # part of an epoch
            self.labels.append(label)
        return super().bar(label, total, **options)

    @property
    def trainings(self):
        """All but the evaluations of schedules."""
        return [label for label in self.labels if not label.startswith("evaluating")]

    def line(self, text):
        self.lines.append(text)


class FirstFew:
    """A controller that wants no more than so many trials."""

    def __init__(self, controller, count):
        self._controller = controller
        self._count = count

    def ask(self):
        self._count -= 1
        return self._controller.ask() if self._count >= 0 else Done()

    def tell(self, trial):
        self._controller.tell(trial)


class LateClock:
    """Seconds that fly."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 100.0
        return self.now


@dataclass
class Home:
    """A store and folders; every run is a new process in all but name."""

    path: Path
    store: MemoryStore
    context: TrainingContext

    def run(self, spec, *, trials=1000, late=False, kind=StudyEvaluator):
        """Go on with a study for so many trials; returns what was shown."""
        progress = Epochs()
        known = spec.name in self.store.studies()
        writer = self.store.open_study(spec.name) if known else self.store.create_study(spec)
        deadline = Deadline(started=0.0, time_budget_s=1.0 if late else None, clock=LateClock())
        try:
            InlineDispatcher().run(
                FirstFew(StagedController(spec, self.context.geometry), trials),
                writer,
                self.evaluator(spec, progress, deadline, kind=kind),
            )
        finally:
            writer.close()
        return progress

    def evaluator(self, spec, progress=None, deadline=None, kind=StudyEvaluator):
        return kind(
            spec,
            context=self.context,
            folder=self.folder(spec),
            cache=TrainingCache(self.path / "cache"),
            deadline=deadline or Deadline(started=0.0, time_budget_s=None, clock=LateClock()),
            progress=progress or Silent(),
        )

    def folder(self, spec):
        return CheckpointFolder(self.path / "storage", spec.name)

    def kept(self):
        return sorted(path.name.partition("-")[0] for path in (self.path / "cache").glob("*"))


@pytest.fixture
def home(tmp_path, context):
    return Home(tmp_path, MemoryStore(), context)


def without_clocks(trials):
    return [
        trial.model_copy(
            update={
                "study": "",
                "measurements": tuple(m.model_copy(update={"seconds": 0.0}) for m in trial.measurements),
            }
        )
        for trial in trials
    ]


def renamed(spec, name, **changes):
    return spec.model_copy(update={"name": name, **changes})


def test_a_study_from_dense_model_to_front(home, spec):
    shown = home.run(spec)
    trials = home.store.trials(spec.name)
    assert [t.fidelity.value for t in trials] == [
        "dense",
        "supernet_training",
        "supernet",
        "supernet",
        "supernet",
        "finetune",
    ]
    assert [t.state for t in trials] == [TrialState.REFERENCE] * 2 + [TrialState.COMPLETE] * 4
    assert [[m.step for m in t.measurements] for t in trials] == [[1, 2], [1], [0], [0], [0], [1]]
    assert [t.checkpoint is not None for t in trials] == [True, True, False, False, False, True]
    assert len(shown.trainings) == 4
    assert trials[5].parent in (2, 3, 4)
    for trial in trials:
        assert trial.metrics["val_images"] == 96.0
        assert 0.0 <= trial.metrics["val_top1"] <= 1.0
        assert all(m.seed == trial.seed for m in trial.measurements)
    assert sorted(p.name for p in home.folder(spec).folder.iterdir()) == [
        "dense.safetensors",
        "supernet_training.safetensors",
        "trial-00005.safetensors",
    ]
    assert home.kept() == ["dense", "supernet"]


def test_gradients_learn_counts_through_the_supernet_before_schedules_are_proposed(home, spec, monkeypatch):
    monkeypatch.setattr("sparsesearch.study.learned_counts._STEPS", 3)
    changed = renamed(spec, "learned", sampler="gradients")
    home.run(changed, trials=2)
    assert home.store.trials("learned")[-1].fidelity is Fidelity.SUPERNET_TRAINING
    shown = home.run(changed)
    assert shown.labels[0] == "learning token counts"
    trials = home.store.trials("learned")
    assert [t.fidelity.value for t in trials[2:4]] == ["counts", "supernet"]
    counts = trials[2]
    assert (counts.state, counts.origin) == (TrialState.REFERENCE, Origin.REFERENCE)
    blocks = [(step.stage, step.block) for step in counts.schedule.steps]
    learned = LearnedCounts.of_metrics(counts.metrics, blocks)
    assert math.isfinite(learned.loss)
    assert len(set(learned.levels)) > 1
    assert all(trial.state.is_final for trial in trials)
    assert counts not in study_front(trials).points


def test_dense_and_supernet_weights_serve_the_next_study(home, spec):
    home.run(spec)
    other = renamed(spec, "other", sampler="random", fidelity=spec.fidelity.model_copy(update={"evaluations": 2}))
    shown = home.run(other)
    assert [label.partition(" ")[0] for label in shown.trainings] == ["validating", "validating", "fine-tuning"]
    first, second = home.store.trials(spec.name), home.store.trials("other")
    for a, b in zip(without_clocks(first[:2]), without_clocks(second[:2]), strict=True):
        assert b.measurements == a.measurements
        assert b.checkpoint.sha256 == a.checkpoint.sha256


def test_numbers_taken_over_are_of_as_many_images_as_the_others(home, spec, tmp_path):
    home.run(spec, trials=2)
    task = DigitsTask(image_size=32, in_chans=1, num_val_images=160)
    wide = Home(
        tmp_path, home.store, TrainingContext("deit_pico", home.context.geometry, task, home.context.arithmetic, seed=0)
    )
    more = spec.data.model_copy(update={"num_val_images": 160})
    shown = wide.run(renamed(spec, "wide", data=more), trials=2)
    assert [label.partition(" ")[0] for label in shown.trainings] == ["validating"] * 2
    (tmp_path / "elsewhere").mkdir()
    alone = Home(tmp_path / "elsewhere", MemoryStore(), wide.context)
    alone.run(renamed(spec, "wide", data=more), trials=2)
    for found, expected in zip(home.store.trials("wide"), alone.store.trials("wide"), strict=True):
        assert found.metrics == expected.metrics
        assert found.metrics["val_images"] == 160.0


def test_a_training_cut_for_time_is_not_given_to_other_studies(home, spec):
    home.run(spec, late=True)
    assert all(trial.state.is_final for trial in home.store.trials(spec.name))
    assert home.kept() == []


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_cut_is_remembered_when_a_study_is_resumed(home, spec, done):
    """The dense training is cut; whoever goes on has all the time in the world."""
    if done < 2:
        writer = home.store.create_study(spec)
        deadline = Deadline(started=0.0, time_budget_s=1.0, clock=LateClock())
        dense = writer.claim(writer.add_trial(StagedController(spec, home.context.geometry).ask()).number)
        left = 1 + done
        for event in home.evaluator(spec, deadline=deadline).evaluate(dense):
            writer.record(event)
            left -= isinstance(event, Checkpointed)
            if not left:
                break
        writer.close()
    else:
        home.run(spec, trials=1, late=True)
    home.run(spec)
    assert home.kept() == []


def test_a_resumed_study_in_time_shares_its_trainings(home, spec):
    home.run(spec, trials=1)
    home.run(spec)
    assert home.kept() == ["dense", "supernet"]


class TestShortOfMemory:
    """The prefix states of the validation images do not stay in memory."""

    @pytest.fixture
    def short(self, spec, monkeypatch):
        monkeypatch.setattr("sparsesearch.evaluate.evaluation_memory.free_bytes", lambda device: 1_000_000)
        monkeypatch.setattr("sparsesearch.evaluate.joint_scorer.eval_batch", lambda geometry: 40)
        return renamed(spec, "short", resolved=spec.resolved.model_copy(update={"proposal_batch": 2}))

    def test_schedules_of_a_batch_share_a_pass(self, home, short):
        shown = home.run(short)
        passes = [label for label in shown.labels if label.startswith("evaluating")]
        assert passes == ["evaluating 2 schedules", "evaluating 1 schedule"]
        screened = [trial for trial in home.store.trials("short") if trial.fidelity is Fidelity.SUPERNET]
        assert screened[0].measurements[0].seconds == screened[1].measurements[0].seconds > 0.0
        scorer = home.evaluator(short)._scorer(Fidelity.SUPERNET)._scorer
        assert not scorer.keeps_images
        assert [trial.metrics for trial in screened] == [scorer.score(trial.schedule) for trial in screened]

    @pytest.mark.parametrize("number", [2, 3])
    def test_a_study_left_within_a_batch_ends_the_same(self, home, short, number):
        class Leaving(StudyEvaluator):
            def evaluate(self, trial):
                if trial.number == number:
                    raise KeyboardInterrupt
                yield from super().evaluate(trial)

        home.run(short)
        left = renamed(short, "left")
        with pytest.raises(KeyboardInterrupt):
            home.run(left, kind=Leaving)
        assert home.store.trials("left")[3].state is TrialState.RUNNING
        home.run(left)
        assert_same_but_uri(home, "short", "left")

    def test_a_stop_ends_a_pass_and_nothing_is_recorded(self, home, short):
        token = StopToken()

        class Stopping(StudyEvaluator):
            def evaluate(self, trial):
                if trial.fidelity is Fidelity.SUPERNET:
                    token.stop(StopCause.TERMINATE)
                    self._stop = token
                yield from super().evaluate(trial)

        with pytest.raises(StoppedError):
            home.run(short, kind=Stopping)
        screened = home.store.trials(short.name)[2:]
        assert [trial.state for trial in screened] == [TrialState.RUNNING] * 2
        assert all(trial.measurements == () for trial in screened)


class TestFailures:
    def test_a_fine_tuning_that_explodes_fails_and_the_study_goes_on(self, home, spec):
        wild = spec.fidelity.finetune.model_copy(update={"lr": 1e30})
        spec = renamed(spec, "wild", fidelity=spec.fidelity.model_copy(update={"finetune": wild, "finalists": 2}))
        home.run(spec)
        trials = home.store.trials(spec.name)
        finetuned = [trial for trial in trials if trial.fidelity is Fidelity.FINETUNE]
        assert [trial.state for trial in finetuned] == [TrialState.FAILED] * 2
        assert all(trial.reason.startswith("the loss became ") for trial in finetuned)
        assert all(trial.measurements == () for trial in finetuned)
        front = study_front(trials)
        assert front.fidelity is Fidelity.SUPERNET
        assert all(math.isfinite(trial.metrics["val_loss"]) for trial in front.candidates)

    @pytest.mark.parametrize("phase", ["dense", "supernet_training"])
    def test_a_reference_that_explodes_ends_the_study(self, home, spec, phase):
        wild = getattr(spec.fidelity, phase).model_copy(update={"lr": 1e30})
        spec = renamed(spec, "wild", fidelity=spec.fidelity.model_copy(update={phase: wild}))
        with pytest.raises(StudyFailedError, match=r"the (dense|supernet) training failed: the loss became"):
            home.run(spec)
        with pytest.raises(StudyFailedError, match="training failed"):
            home.run(spec)
        assert home.store.trials(spec.name)[-1].state is TrialState.FAILED

    def test_a_missing_weights_file_is_the_users_error(self, home, spec):
        with pytest.raises(CheckpointError, match=r"no such weights file: .*gone\.pth"):
            home.run(renamed(spec, "gone", weights="gone.pth"))
        assert home.store.trials("gone")[0].state is TrialState.RUNNING, "to be resumed when the file is back"


def interrupted(home, spec, epochs=1):
    """A study whose dense training was left after its first epochs; returns the checkpoint's path."""
    writer = home.store.create_study(spec)
    dense = writer.claim(writer.add_trial(StagedController(spec, home.context.geometry).ask()).number)
    for event in home.evaluator(spec).evaluate(dense):
        dense = writer.record(event)
        if dense.checkpoint is not None and dense.checkpoint.step == epochs:
            break
    writer.close()
    return home.path / "storage" / dense.checkpoint.uri


def damaged(path, damage):
    """Damage a stored file; `swapped` is a whole file of the same kind with other weights."""
    blob = path.read_bytes()
    if damage == "swapped":
        tensors, document = read_tensors(path)
        write_tensors(path, {name: tensor + 1 for name, tensor in tensors.items()}, metadata=document)
    else:
        half = len(blob) // 2
        flipped = blob[:half] + bytes([blob[half] ^ 64]) + blob[half + 1 :]
        path.write_bytes({"flipped": flipped, "truncated": blob[:half], "emptied": b""}[damage])


class TestCheckpoints:
    def test_a_training_goes_on_behind_its_checkpoint(self, home, spec):
        path = interrupted(home, spec)
        tensors, document = read_tensors(path)
        dense = home.store.trials(spec.name)[0]
        assert document == {"kind": "dense", "key": dense.key, "seed": dense.seed, "step": 1, "whole": True}
        assert int(tensors["epochs_done"]) == 1
        assert home.run(spec, trials=0).labels == ["dense training, epoch 2 of 2"]
        assert not path.exists()

    def test_a_training_whose_checkpoint_is_gone_begins_again_and_ends_the_same(self, home, spec):
        interrupted(home, spec).unlink()
        shown = home.run(spec)
        assert shown.labels[:2] == ["dense training, epoch 1 of 2", "dense training, epoch 2 of 2"]
        assert "No such file or directory; restarting dense training" in shown.lines[0]
        home.run(renamed(spec, "calm"))
        assert_same_but_uri(home, spec.name, "calm")

    @pytest.mark.parametrize("damage", ["swapped", "truncated"])
    def test_a_damaged_checkpoint_is_set_aside_and_the_training_begins_again(self, home, spec, damage):
        path = interrupted(home, spec)
        damaged(path, damage)
        shown = home.run(spec)
        assert shown.labels[:2] == ["dense training, epoch 1 of 2", "dense training, epoch 2 of 2"]
        assert "damaged" in shown.lines[0]
        assert f"it was set aside as {path.name}.damaged; restarting dense training" in shown.lines[0]
        assert path.with_name(f"{path.name}.damaged").is_file()
        home.run(renamed(spec, "calm"))
        assert_same_but_uri(home, spec.name, "calm")

    def test_a_damaged_checkpoint_leaves_the_one_before_it(self, home, spec):
        longer = spec.fidelity.model_copy(update={"dense": spec.fidelity.dense.model_copy(update={"epochs": 3})})
        spec = renamed(spec, "longer", fidelity=longer)
        path = interrupted(home, spec, epochs=2)
        assert sorted(file.name for file in path.parent.iterdir()) == [
            "trial-00000-epoch-001.safetensors",
            "trial-00000-epoch-002.safetensors",
        ]
        damaged(path, "flipped")
        shown = home.run(spec)
        assert "going on after epoch 1 of dense training" in shown.lines[0]
        assert shown.labels[:2] == ["dense training, epoch 2 of 3", "dense training, epoch 3 of 3"]
        home.run(renamed(spec, "calm"))
        assert_same_but_uri(home, spec.name, "calm")

    @pytest.mark.parametrize(("name", "damage"), [("dense", "flipped"), ("supernet_training", "swapped")])
    def test_weights_that_others_build_on_are_verified_and_made_again(self, home, spec, name, damage):
        home.run(spec, trials=3)
        before = home.store.trials(spec.name)
        path = home.folder(spec).folder / f"{name}.safetensors"
        damaged(path, damage)
        with pytest.raises(CheckpointError, match=r"damaged.*set aside.*sparsesearch resume tiny") as caught:
            home.run(spec)
        assert "\n" not in str(caught.value)
        (home.path / "cache").rename(home.path / "no-cache")
        writer = home.store.open_study(spec.name)
        progress = Epochs()
        reopen_damaged(writer, home.folder(spec), progress=progress)
        writer.close()
        (line,) = progress.lines
        assert line.endswith(f"the {Fidelity(name).training_name} is repeated")
        home.run(spec)
        after = home.store.trials(spec.name)
        assert all(trial.state.is_final for trial in after)
        assert [trial.measurements for trial in after[:3]] == [trial.measurements for trial in before]
        assert [t.checkpoint and t.checkpoint.sha256 for t in after[:3]] == [
            t.checkpoint and t.checkpoint.sha256 for t in before
        ]

    def test_a_fine_tuning_with_a_damaged_file_is_repeated(self, home, spec):
        home.run(spec)
        before = home.store.trials(spec.name)
        tuned = next(trial for trial in before if trial.fidelity is Fidelity.FINETUNE)
        path = home.folder(spec).path_of(tuned.checkpoint)
        path.write_bytes(path.read_bytes()[:-1])
        writer, progress = home.store.open_study(spec.name), Epochs()
        reopen_damaged(writer, home.folder(spec), progress=progress)
        writer.close()
        (line,) = progress.lines
        assert line.endswith(f"the fine-tuning of trial {tuned.number} is repeated")
        home.run(spec)
        after = home.store.trials(spec.name)[tuned.number]
        assert after.state is TrialState.COMPLETE
        assert (after.measurements, after.checkpoint.sha256) == (tuned.measurements, tuned.checkpoint.sha256)
        path.unlink()  # perhaps somebody has made room
        writer = home.store.open_study(spec.name)
        reopen_damaged(writer, home.folder(spec), progress=progress)
        assert writer.trials()[tuned.number].state is TrialState.COMPLETE


def assert_same_but_uri(home, one, other):
    pairs = zip(without_clocks(home.store.trials(one)), without_clocks(home.store.trials(other)), strict=True)
    for a, b in pairs:
        assert (a.checkpoint is None) == (b.checkpoint is None)
        assert a.checkpoint is None or a.checkpoint.sha256 == b.checkpoint.sha256
        assert a.model_copy(update={"checkpoint": None}) == b.model_copy(update={"checkpoint": None})


def test_without_a_supernet_every_schedule_is_trained(home, spec):
    spec = renamed(spec, "plain", fidelity=spec.fidelity.model_copy(update={"strategy": "finetune", "evaluations": 2}))
    home.run(spec)
    trials = home.store.trials(spec.name)
    assert [t.fidelity.value for t in trials] == ["dense", "finetune", "finetune"]
    assert [t.state for t in trials] == [TrialState.REFERENCE, TrialState.COMPLETE, TrialState.COMPLETE]
    assert home.kept() == ["dense"]


def test_without_training_schedules_are_ranked_on_the_dense_weights(home, spec):
    geometry = spec.resolved.geometry
    fidelity = spec.fidelity.model_copy(update={"strategy": "training-free"})
    resolved = spec.resolved.model_copy(update={"space": without_training(spec.resolved.space, geometry)})
    spec = renamed(spec, "free", fidelity=fidelity, resolved=resolved)
    home.run(spec)
    trials = home.store.trials(spec.name)
    assert [t.fidelity.value for t in trials] == ["dense", "untrained", "untrained", "untrained", "finetune"]
    assert [[m.step for m in t.measurements] for t in trials] == [[1, 2], [0], [0], [0], [1]]
    assert home.kept() == ["dense"]
    assert {step.scorer.kind for trial in trials for step in trial.schedule.steps} == {"class_attention"}
    best = max(trials[1:4], key=lambda t: (t.metrics["val_top1"], -t.cost.macs, -t.number))
    assert trials[4].parent == best.number

    tensors = home.folder(spec).read("dense")[0]
    for trial in trials[1:4]:
        model = home.context.model_with(tensors)
        sparsify_(model, trial.schedule)
        batches = home.context.task.val("screen", batch_size=240)
        assert evaluate_model(model, batches, arithmetic=home.context.arithmetic).metrics("val") == trial.metrics


@pytest.mark.parametrize("strategy", ["training-free", "supernet"])
def test_without_finalists_the_best_are_scored_on_other_images(home, spec, strategy):
    geometry = spec.resolved.geometry
    fidelity = spec.fidelity.model_copy(update={"strategy": strategy, "finalists": 0})
    space = spec.resolved.space if strategy == "supernet" else without_training(spec.resolved.space, geometry)
    spec = renamed(spec, "free", fidelity=fidelity, resolved=spec.resolved.model_copy(update={"space": space}))
    home.run(spec)
    trials = home.store.trials(spec.name)
    again = [trial for trial in trials if trial.fidelity is Fidelity.RESCORED]
    assert sorted(trial.parent for trial in again) == [t.number for t in trials if t.origin is Origin.SEARCH][:3]
    hits = home.store.hits(spec.name, [trial.number for trial in trials])
    for trial in again:
        assert hits[trial.number].is_comparable(hits[0]), "the dense model was measured on the same images"
        assert not hits[trial.number].is_comparable(hits[trial.parent])
    view = StudyView.of(home.store, spec.name)
    assert view.front.fidelity is Fidelity.RESCORED
    tensors = trained_tensors(view.best, trials, home.folder(spec))
    model = home.context.model_with(tensors) if strategy == "training-free" else home.context.supernet_model(space)
    if strategy == "supernet":
        load_weights_(model, tensors, source="the supernet")
    sparsify_(model, view.best.schedule)
    batches = home.context.task.val("confirm", batch_size=240)
    assert evaluate_model(model, batches, arithmetic=home.context.arithmetic).metrics("val") == view.best.metrics


def test_which_images_are_classified_correctly_is_stored(home, spec):
    """They are those of the accuracy, in the order of the images."""
    home.run(spec)
    trials = home.store.trials(spec.name)
    hits = home.store.hits(spec.name, [trial.number for trial in trials])
    assert {trial.fidelity for trial in trials if trial.number in hits} >= {
        Fidelity.DENSE,
        Fidelity.SUPERNET,
        Fidelity.FINETUNE,
    }
    for number, found in hits.items():
        trial = trials[number]
        assert found.count == trial.metrics["val_images"]
        assert found.num_correct / found.count == trial.metrics["val_top1"]
        assert found.images == ("screen" if trial.fidelity is Fidelity.SUPERNET else "confirm")
    model = home.context.model_with(home.folder(spec).read("dense")[0])
    batches = home.context.task.val("confirm", batch_size=240)
    correct = evaluate_model(model, batches, arithmetic=home.context.arithmetic).correct
    assert hits[0].flags() == correct.tolist()

    again = renamed(spec, "again")
    home.run(again)
    assert home.store.hits("again", range(len(trials))) == hits, "also where trainings are taken from the cache"


def test_what_is_evaluated_does_not_depend_on_what_was_before(home, spec):
    """A schedule's number is its own, whoever is evaluated first."""
    home.run(spec)
    trials = [trial for trial in home.store.trials(spec.name) if trial.fidelity is Fidelity.SUPERNET]
    evaluator = home.evaluator(spec)
    for trial in reversed(trials):
        fresh = trial.model_copy(update={"state": TrialState.RUNNING, "measurements": ()})
        torch.manual_seed(trial.number)
        measured, ended = evaluator.evaluate(fresh)
        assert measured.measurement.metrics == trial.metrics
        assert ended.state is TrialState.COMPLETE
