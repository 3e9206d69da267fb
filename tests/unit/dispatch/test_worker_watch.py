import logging
import signal
import socket
import subprocess
import sys

import pytest

from sparsesearch.dispatch.beats import Beat, beats
from sparsesearch.dispatch.worker_watch import WorkerWatch
from sparsesearch.schedule import Schedule
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.trial import TrialState


@pytest.fixture
def process():
    """A process that hangs."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as started:
        started.send_signal(signal.SIGSTOP)
        yield started
        started.kill()


@pytest.fixture
def watched(tmp_path, process, tiny, make_trial):
    trial = make_trial(tiny, number=7, schedule=Schedule(), top1=None, state=TrialState.RUNNING)
    return lambda timeout_s=60.0: Watched(tmp_path, process.pid, trial, timeout_s=timeout_s)


class Watched:
    """A running trial whose process is watched, at a time of our own."""

    def __init__(self, folder, pid, trial, *, timeout_s):
        self.now = 1000.0
        self.work = []
        self.trial = trial
        Beat(7, self.trial.attempt, socket.gethostname(), pid).begin(folder)
        self._watch = WorkerWatch(folder, lambda: self.work, timeout_s=timeout_s, clock=lambda: self.now)

    def pass_(self, seconds):
        """Look every five seconds."""
        for _ in range(int(seconds / 5)):
            self.now += 5.0
            self._watch.look([], {7: self.trial})


def test_a_process_without_a_sign_of_life_is_killed(tmp_path, process, watched, caplog):
    found = watched()
    found.pass_(60)
    assert process.poll() is None
    with caplog.at_level(logging.WARNING):
        found.pass_(20)
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert f"trial 7 has shown no sign of life for 65 s; its process is killed ({process.pid} on" in caplog.text
    assert beats(tmp_path) == []


def test_steps_and_events_are_signs_of_life(tmp_path, process, watched):
    found = watched()
    for step in range(4):
        found.work = [WorkProgress(label="training", done=step, total=9, trial=7)]
        found.pass_(50)
    assert process.poll() is None
    found.trial = found.trial.model_copy(update={"checkpoint": None, "attempt": 2})
    found.pass_(50)
    assert process.poll() is None


def test_long_steps_have_more_time(tmp_path, process, watched):
    found = watched(None)
    found.work = [WorkProgress(label="training", done=1, total=9, trial=7, left_s=800.0)]  # 100 s a step
    found.pass_(1990)
    assert process.poll() is None
    found.pass_(30)
    assert process.wait(timeout=10) == -signal.SIGKILL


def test_the_time_in_which_nobody_looked_does_not_count(tmp_path, process, watched):
    found = watched()
    found.pass_(30)
    found.now += 3600.0  # this process was stopped itself
    found.pass_(25)
    assert process.poll() is None


def test_a_trial_without_a_process_of_its_own_is_not_watched(tmp_path, process, watched):
    found = watched()
    Beat(7, found.trial.attempt, socket.gethostname(), process.pid).end(tmp_path)
    found.pass_(200)
    assert process.poll() is None
