"""Tracebacks of failed trials are kept for those who look for the cause."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import small_disk

from sparsesearch.dispatch.failure_log import log_failure
from sparsesearch.dispatch.messages import Failed, Job
from sparsesearch.dispatch.worker import Worker
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.events import Event
from sparsesearch.study.trial import Trial, TrialState

URL = "postgresql://me:hidden@db/studies"


def a_fault_in_the_training(depth: int = 3) -> None:
    if depth:
        a_fault_in_the_training(depth - 1)
    raise ArithmeticError(f"cannot go on with {URL}")


class Failing:
    def evaluate(self, trial: Trial) -> Iterator[Event]:
        a_fault_in_the_training()
        yield from ()


def open_failing(document: dict[str, object]) -> Failing:
    if document.get("opens") is False:
        a_fault_in_the_training()
    return Failing()


@pytest.fixture
def trial(tiny: BackboneGeometry, make_trial) -> Trial:
    made = make_trial(tiny, number=12, schedule=Schedule(), top1=None, state=TrialState.RUNNING)
    return made.model_copy(update={"attempt": 2})


@pytest.mark.parametrize("opens", [True, False])
def test_a_worker_keeps_the_traceback(tmp_path: Path, trial: Trial, opens: bool) -> None:
    evaluator = PortableEvaluator(
        factory=f"{__name__}:open_failing", document={"opens": opens}, logs=str(tmp_path / "logs")
    )
    worker = Worker()
    worker.begin(Job.from_json(Job(trial=trial, evaluator=evaluator, threads=1).to_json()))
    report = worker.report()
    assert isinstance(report, Failed)
    (path,) = (tmp_path / "logs").iterdir()
    assert path.name == "trial-00012-attempt-2.log"
    assert report.reason == (
        "ArithmeticError: cannot go on with postgresql://me:***@db/studies "
        "(traceback in the study's storage: logs/trial-00012-attempt-2.log)"
    )
    text = path.read_text()
    assert text.startswith("trial 12 of study study, attempt 2: search\n")
    assert f"host {socket.gethostname()}, process {os.getpid()}, 20" in text
    assert "+00:00" in text
    assert text.count("a_fault_in_the_training(depth - 1)") >= 1
    assert text.rstrip().endswith("ArithmeticError: cannot go on with postgresql://me:***@db/studies")
    assert "hidden" not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_further_ones_of_an_attempt_are_added(tmp_path: Path, trial: Trial) -> None:
    for text in ("the first", "the second"):
        reason = log_failure(ValueError(text), trial, logs=tmp_path / "logs")
    (path,) = (tmp_path / "logs").iterdir()
    assert "the second" in reason
    assert [line for line in path.read_text().splitlines() if line.startswith("ValueError")] == [
        "ValueError: the first",
        "ValueError: the second",
    ]
    log_failure(ValueError("x"), trial.model_copy(update={"attempt": 3}), logs=tmp_path / "logs")
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_what_cannot_be_written_is_said(tmp_path: Path, trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    gone = tmp_path / "study" / "logs"
    with caplog.at_level(logging.WARNING):
        assert log_failure(ValueError("no"), trial, logs=gone) == "ValueError: no"
    assert "the traceback of trial 12 is not kept" in caplog.text
    assert not gone.parent.exists()


def test_a_full_disk_does_not_hide_the_reason(tmp_path: Path, trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", kilobytes=4) as disk:
        (disk / "filling").write_bytes(bytes(4096))
        assert log_failure(ValueError("no"), trial, logs=disk / "logs") == "ValueError: no"
    assert "No space left on device" in caplog.text


def test_text_that_is_no_text(tmp_path: Path, trial: Trial) -> None:
    reason = log_failure(ValueError("a\udcff\nb"), trial, logs=tmp_path / "logs")
    assert "\n" not in reason
    assert "logs/trial-00012-attempt-2.log" in reason
