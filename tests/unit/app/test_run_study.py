import os
import signal

import pytest
import torch
import yaml
from observing import Telling
from typer.testing import CliRunner

from sparsesearch.app.complete import complete
from sparsesearch.app.lease_keeper import LeaseKeeper
from sparsesearch.app.resolve import resolve
from sparsesearch.app.run_study import run_study
from sparsesearch.app.workspace import Workspace
from sparsesearch.cli.app import app
from sparsesearch.data.validation_size import num_more_images
from sparsesearch.errors import BudgetError, CheckpointError, DataError, SpecError
from sparsesearch.evaluate.throughput import choose_arithmetic, open_device
from sparsesearch.settings import Settings
from sparsesearch.space.definition import SearchSpace
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.study.observer import NoObserver
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StudyState
from sparsesearch.study.stop import StoppedError
from sparsesearch.study.trial import Fidelity, Origin, TrialState


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, database_url="sqlite:///unused.db")


@pytest.fixture
def store():
    return MemoryStore()


def unprepared(spec, **changes):
    return spec.model_copy(update={"resolved": None, **changes})


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def test_a_prepared_study_is_resolved_and_the_same_each_time(spec):
    progress = Lines()
    wished = unprepared(spec)
    prepared = resolve(wished, progress=progress)
    assert prepared == resolve(wished, progress=Silent())
    assert prepared.resolved.num_more_images == num_more_images(7200, prepared.data.num_val_images or 3600)
    plain = {"planned_work": {}, "machine": None, "num_more_images": 0}
    assert prepared.resolved.model_copy(update=plain) == spec.resolved
    assert prepared.resolved.machine.torch == torch.__version__
    assert prepared.resolved.machine.cores > 0
    assert list(prepared.resolved.planned_work) == ["dense", "supernet_training", "screen", "finetune", "rescore"]
    assert sum(prepared.resolved.planned_work.values()) == pytest.approx(1.0, abs=1e-5)
    assert prepared.space == spec.space
    assert prepared.resolved.space.locations == ((0, 1), (0, 3), (0, 5))
    assert prepared.precision == "float32"
    retrain = spec.fidelity.retrain.model_copy(update={"preset": "demo"})
    assert prepared.fidelity == spec.fidelity.model_copy(update={"retrain": retrain})
    assert any("bundled demo" in line for line in progress.lines)
    assert StudySpec.model_validate_json(prepared.model_dump_json()) == prepared


def test_evaluations_that_do_not_fit_in_memory_are_proposed_in_batches(spec, monkeypatch):
    progress = Lines()
    requested = unprepared(spec, fidelity=spec.fidelity.model_copy(update={"evaluations": 8}))
    assert resolve(requested, progress=progress).proposal_batch == 1
    assert any(
        line.startswith("evaluation: 96 validation images (standard error 4.08 points at 80 % accuracy), prefix states")
        for line in progress.lines
    )
    monkeypatch.setattr("sparsesearch.evaluate.evaluation_memory.free_bytes", lambda device: 1_000_000)
    prepared = resolve(requested, progress=progress)
    assert prepared.proposal_batch == 2
    assert StudySpec.model_validate_json(prepared.model_dump_json()) == prepared
    assert any(line.endswith("batch by batch of images, for 2 schedules at a time") for line in progress.lines)


def test_the_document_that_show_prints_runs_the_same_study(spec, tmp_path):
    requested = unprepared(spec, space=SearchSpace(latest=3, scorers=({"kind": "spot"}, {"kind": "dynamicvit"})))
    prepared = resolve(requested, progress=Silent())
    url = f"sqlite:///{tmp_path}/studies.db"
    store = open_store(url)
    store.create_study(prepared).close()
    store.close()
    done = CliRunner().invoke(app, ["show", spec.name, "--database", url])
    document = yaml.safe_load(done.output.rpartition("trials: ")[0])
    assert document["space"] == requested.space.model_dump(mode="json")
    assert resolve(complete(document, progress=Silent()), progress=Silent()) == prepared


def test_what_cannot_work_is_refused_before_anything_is_trained(spec, tmp_path):
    with pytest.raises(BudgetError):
        resolve(unprepared(spec, budget=Budget(high=0.001)), progress=Silent())
    with pytest.raises(SpecError, match=r"no device cuda:99"):
        resolve(unprepared(spec, device="cuda:99"), progress=Silent())
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="file is a file, not a folder; choose another path"):
        resolve(unprepared(spec, storage=f"{tmp_path}/file/storage"), progress=Silent())


def test_a_study_runs_to_its_end_and_gives_the_lease_back(spec, store, settings):
    told = []
    run_study(Workspace(settings, store), store.create_study(spec), observer=Telling(told.append))
    assert told == list(store.trials(spec.name))
    assert all(trial.state.is_final for trial in told)
    store.open_study(spec.name).close()


def test_a_signal_as_a_run_ends_does_not_keep_the_lease(spec, store, settings, monkeypatch):
    stop = LeaseKeeper.__exit__

    def terminated(self, *error):
        os.kill(os.getpid(), signal.SIGTERM)
        stop(self, *error)

    monkeypatch.setattr(LeaseKeeper, "__exit__", terminated)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError):
        run_study(Workspace(settings, store), store.create_study(spec))
    assert signal.getsignal(signal.SIGTERM) is before
    assert not store.condition(spec.name).is_leased
    assert store.condition(spec.name).state is StudyState.FINISHED


def test_a_study_can_start_from_another_one_which_may_then_go(spec, store, settings):
    run_study(Workspace(settings, store), store.create_study(spec))
    progress = Lines()
    wished = unprepared(spec, name="second", warm_start=spec.name, budget=Budget(high=0.5))
    prepared = resolve(wished, progress=progress, store=store)
    scored = [t for t in store.trials(spec.name) if t.fidelity is Fidelity.SUPERNET and t.state is TrialState.COMPLETE]
    assert len(prepared.resolved.priors) == len(scored)
    assert any("results of study" in line for line in progress.lines)
    assert StudySpec.model_validate_json(prepared.model_dump_json()) == prepared
    store.delete_study(spec.name)
    run_study(Workspace(settings, store), store.create_study(prepared))
    assert any(trial.origin is Origin.SEARCH for trial in store.trials("second"))
    with pytest.raises(SpecError, match="leave warm_start out"):
        resolve(wished, progress=Silent())


def test_people_can_follow_a_study(spec, store, settings):
    seen, ended = [], []
    run_study(Workspace(settings, store), store.create_study(spec), observer=Telling(ended.append, seen.append))
    assert {trial.number for trial in seen} == {trial.number for trial in ended}
    assert sum(bool(trial.measurements) for trial in seen) == sum(len(trial.measurements) for trial in ended)


def test_other_data_than_at_the_start_is_refused_and_the_lease_given_back(spec, store, settings):
    resolved = spec.resolved.model_copy(update={"data_fingerprint": "of yesterday"})
    with pytest.raises(DataError, match="has changed since study 'tiny' was created"):
        run_study(Workspace(settings, store), store.create_study(spec.model_copy(update={"resolved": resolved})))
    store.open_study(spec.name).close()
    assert store.trials(spec.name) == []


@pytest.mark.parametrize("name", ["dense", "supernet_training"])
def test_weights_that_are_damaged_while_a_study_runs_pause_it(spec, store, settings, name):
    """A process that resumes the study is the first to read them again, after it has verified them."""

    class Interrupting(NoObserver):
        def changed(self, trial):
            if trial.fidelity is Fidelity.SUPERNET:
                raise KeyboardInterrupt

    class Damaging(NoObserver):
        def started(self, study):
            (path,) = settings.storage.rglob(f"{name}.safetensors")
            path.write_bytes(path.read_bytes()[:-1] + b"\x7f")

    with pytest.raises(StoppedError):
        run_study(Workspace(settings, store), store.create_study(spec), observer=Interrupting())
    writer = store.open_study(spec.name, resume=True)
    with pytest.raises(CheckpointError, match=r"damaged .*; it was set aside as .*sparsesearch resume tiny$") as caught:
        run_study(Workspace(settings, store), writer, observer=Damaging())
    assert "\n" not in str(caught.value)
    assert store.condition(spec.name).state is StudyState.PAUSED
    assert {t.state for t in store.trials(spec.name)} <= {TrialState.REFERENCE, TrialState.COMPLETE, TrialState.RUNNING}
    run_study(Workspace(settings, store), store.open_study(spec.name, resume=True))
    assert store.condition(spec.name).state is StudyState.FINISHED
    assert {t.state for t in store.trials(spec.name)} == {TrialState.REFERENCE, TrialState.COMPLETE}


def test_time_that_is_over_leaves_a_small_study(spec, store, settings):
    """A time budget that is spent already: every training has one step, and only what is needed runs."""
    hurried = spec.model_copy(update={"time_budget_s": 0.001})
    run_study(Workspace(settings, store), store.create_study(hurried), started=0.0)
    trials = store.trials(spec.name)
    assert [trial.fidelity.value for trial in trials] == ["dense", "supernet_training", *["supernet"] * 3, "finetune"]
    assert {trial.state for trial in trials} == {TrialState.REFERENCE, TrialState.COMPLETE}
    assert not (settings.cache).exists()


def test_devices(monkeypatch):
    assert open_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert open_device("auto") == torch.device("cpu")
    with pytest.raises(SpecError, match="0 CUDA devices found; use --device cpu"):
        open_device("cuda")


def test_measuring_leaves_the_global_generator_alone(context):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    _, speeds = choose_arithmetic(
        "float32",
        device=context.arithmetic.device,
        backbone=context.backbone,
        geometry=context.geometry,
        task=context.task,
    )
    assert torch.equal(torch.rand(3), expected)
    assert 0.0 < speeds.infer_s < speeds.train_s
