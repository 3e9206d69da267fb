"""A process whose main thread hangs still ends, with its exit code, and says why."""

import signal
import subprocess
import sys
import time

import pytest

HANGING = """
import ctypes, signal, sys, threading
from sparsesearch.app.last_resort import LastResort
from sparsesearch.app.signals import stopping_on_signals
from sparsesearch.study.stop import StopCause, StopToken

def last(cause):
    print("stored", cause.value, flush=True)
    if sys.argv[1] == "database":
        threading.Event().wait()

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored by whoever has started the tests
stop = StopToken()
with LastResort(stop, at_last=last, seconds=float(sys.argv[2])), stopping_on_signals(stop, at_once=False):
    if sys.argv[1] == "work":
        stop.check()
        print("ready", flush=True)
        while not stop.check():
            signal.sigtimedwait([], 0.05)
        sys.exit(3)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.siginterrupt(number, False)
    ends = __import__("os").pipe()
    print("ready", flush=True)
    ctypes.CDLL(None).read(ends[0], ctypes.create_string_buffer(1), 1)  # Python's own handlers never run
"""


def start(what, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, what, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("what", ["nothing", "database"])
def test_a_hanging_process_ends(number, code, what):
    process = start(what, 1.0)
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == f"stored {'interrupt' if number == signal.SIGINT else 'terminate'}\n"
    assert "the work hangs, so this process ends" in errors


def test_work_that_ends_by_itself_is_left_alone():
    process = start("work", 5.0)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (3, "")
    assert time.monotonic() - started < 5.0
