import pytest

from sparsesearch.dispatch.fault_pause import FaultPause
from sparsesearch.errors import InfrastructureError
from sparsesearch.study.stop import StopCause, StoppedError, StopToken
from sparsesearch.study.work_board import WorkBoard

FULL = InfrastructureError("the disk is full; free some space")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def pause_of(seconds, *, stop=None):
    clock, lines = Clock(), []
    pause = FaultPause(seconds, stop=stop, progress=WorkBoard(lines.append), clock=clock, sleep=clock.sleep)
    return pause, clock, lines


def wait_until_it_gives_up(pause, clock):
    """Seconds at which there was another try."""
    start, at = clock.now, []
    while True:
        try:
            pause.wait(FULL)
        except InfrastructureError:
            return at, clock.now - start
        at.append(round(clock.now - start))


def test_it_waits_longer_each_time_and_at_last_gives_up():
    pause, clock, lines = pause_of(60.0)
    at, seconds = wait_until_it_gives_up(pause, clock)
    assert at == [1, 3, 7, 15, 31, 60]
    assert seconds == pytest.approx(60.0)
    assert lines == ["paused: the disk is full; free some space; trying again for 60 s (--patience)"]


def test_what_has_passed_is_told_once_and_the_next_fault_is_waited_for_as_long():
    pause, clock, lines = pause_of(10.0)
    pause.passed()
    for _ in range(3):
        pause.wait(FULL)
    pause.passed()
    pause.passed()
    assert lines[1:] == ["going on after 7 s"]
    assert wait_until_it_gives_up(pause, clock)[1] == pytest.approx(10.0)


def test_without_patience_the_fault_is_raised_at_once():
    pause, clock, lines = pause_of(0.0)
    with pytest.raises(InfrastructureError):
        pause.wait(FULL)
    assert (clock.now, lines) == (100.0, [])


def test_a_request_to_stop_ends_the_waiting():
    stop = StopToken()
    pause, clock, _ = pause_of(600.0, stop=stop)
    stop.stop(StopCause.TERMINATE)
    with pytest.raises(StoppedError):
        pause.wait(FULL)
    assert clock.now == 100.0
