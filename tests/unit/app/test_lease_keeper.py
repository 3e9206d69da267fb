import logging
import threading
import time

import pytest

from sparsesearch.app.lease_keeper import LeaseKeeper
from sparsesearch.errors import StaleAttemptError, StoreError
from sparsesearch.store.memory import MemoryStore, MemoryWriter
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StopRequest
from sparsesearch.study.stop import StopCause, StopToken
from sparsesearch.study.work_board import WorkBoard

SPEC = StudySpec(name="study", backbone="deit_pico", budget=Budget(high=0.65))
SOON = 0.001
PATIENCE = 30.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Shaky:
    """A writer whose renewing meets the given errors, one a time, and then works."""

    def __init__(self, writer: MemoryWriter, errors):
        self.spec = writer.spec
        self._writer = writer
        self._errors = list(errors)
        self.num_renewed = 0
        self.renewed = threading.Event()

    def requested(self):
        return self._writer.requested()

    def show_work(self, work):
        self._writer.show_work(work)

    def renew(self):
        if self._errors:
            raise self._errors.pop(0)
        self._writer.renew()
        self.num_renewed += 1
        self.renewed.set()


def test_a_lease_is_kept_alive_while_nothing_is_written():
    clock = Clock()
    store = MemoryStore(clock=clock, lease_s=60.0)
    writer = Shaky(store.create_study(SPEC), [])
    clock.now = 59.0
    with LeaseKeeper(writer, StopToken(), every_seconds=SOON):
        assert writer.renewed.wait(PATIENCE)
    assert store._studies["study"].lease.expires_at == 119.0


def test_a_database_out_of_reach_is_tried_again(caplog):
    writer = Shaky(MemoryStore().create_study(SPEC), [StoreError("the disk is full"), StoreError("still full")])
    with caplog.at_level(logging.WARNING), LeaseKeeper(writer, StopToken(), every_seconds=SOON):
        assert writer.renewed.wait(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "the lease of the study could not be renewed: the disk is full",
        "the lease of the study could not be renewed: still full",
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_lost_lease_stops_the_work(caplog):
    writer = Shaky(MemoryStore().create_study(SPEC), [StaleAttemptError("somebody else runs the study")])
    token = StopToken()
    with caplog.at_level(logging.WARNING), LeaseKeeper(writer, token, every_seconds=SOON) as keeper:
        wait_until(lambda: token.cause is not None)
        keeper._thread.join(PATIENCE)
        assert not keeper._thread.is_alive()
    assert token.cause is StopCause.LEASE_LOST
    assert [record.getMessage() for record in caplog.records] == ["somebody else runs the study"]
    assert writer.num_renewed == 0


@pytest.mark.parametrize("request_", list(StopRequest))
def test_a_request_in_the_store_stops_the_work(request_):
    store, token = MemoryStore(), StopToken()
    with LeaseKeeper(store.create_study(SPEC), token, every_seconds=3600.0, poll_seconds=SOON):
        time.sleep(0.05)
        assert token.cause is None
        store.request("study", request_)
        wait_until(lambda: token.cause is not None)
    assert token.cause is StopCause.of(request_)


def test_the_work_under_way_is_shown_to_others():
    store, board = MemoryStore(), WorkBoard(lambda text: None)
    writer = store.create_study(SPEC)
    with LeaseKeeper(writer, StopToken(), work=board.work, every_seconds=3600.0, poll_seconds=SOON):
        with board.bar("dense training", 10, trial=0) as bar:
            bar.advance(4)
            wait_until(lambda: [item.done for item in store.condition("study").work] == [4])
        wait_until(lambda: store.condition("study").work == ())


def wait_until(is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(SOON)


def test_the_keeper_ends_with_its_block_whatever_happens_in_it():
    writer = Shaky(MemoryStore().create_study(SPEC), [])
    keeper = LeaseKeeper(writer, StopToken(), every_seconds=3600.0)
    with pytest.raises(RuntimeError, match="training"), keeper:
        raise RuntimeError("training")
    assert not keeper._thread.is_alive()
