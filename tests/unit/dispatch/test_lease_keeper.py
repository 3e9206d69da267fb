import logging
import threading

import pytest

from sparsesearch.dispatch.lease_keeper import LeaseKeeper
from sparsesearch.errors import StaleAttemptError, StoreError
from sparsesearch.store.memory import MemoryStore, MemoryWriter
from sparsesearch.study.spec import Budget, StudySpec

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
    with LeaseKeeper(writer, every_seconds=SOON):
        assert writer.renewed.wait(PATIENCE)
    assert store._studies["study"].lease.expires_at == 119.0


def test_a_database_out_of_reach_is_tried_again(caplog):
    writer = Shaky(MemoryStore().create_study(SPEC), [StoreError("the disk is full"), StoreError("still full")])
    with caplog.at_level(logging.WARNING), LeaseKeeper(writer, every_seconds=SOON):
        assert writer.renewed.wait(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "the lease of the study could not be renewed: the disk is full",
        "the lease of the study could not be renewed: still full",
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_lost_lease_is_not_fought_for(caplog):
    writer = Shaky(MemoryStore().create_study(SPEC), [StaleAttemptError("somebody else runs the study")])
    with caplog.at_level(logging.WARNING), LeaseKeeper(writer, every_seconds=SOON) as keeper:
        keeper._thread.join(PATIENCE)
        assert not keeper._thread.is_alive()
    assert [record.getMessage() for record in caplog.records] == ["somebody else runs the study"]
    assert writer.num_renewed == 0


def test_the_keeper_ends_with_its_block_whatever_happens_in_it():
    writer = Shaky(MemoryStore().create_study(SPEC), [])
    keeper = LeaseKeeper(writer, every_seconds=3600.0)
    with pytest.raises(RuntimeError, match="training"), keeper:
        raise RuntimeError("training")
    assert not keeper._thread.is_alive()
