"""What a controller does after its processes have ended, without any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from queued_studies import bring
from served import Api

from sparsesearch.service.controller import Controller, ControllerOptions, _Child
from sparsesearch.store.audit import Actor
from sparsesearch.study.state import StudyState

ANN = Actor("ann")


@pytest.mark.parametrize("code", [0, 1, 75, -9])
def test_a_study_that_is_deleted_while_its_process_ends(api: Api, code: int) -> None:
    said: list[str] = []
    controller = Controller(api.workspace, ControllerOptions(slots=1), say=said.append)
    api.submit(name="mine")
    bring(api.store, "mine", StudyState.FINISHED)
    api.store.queue.delete("mine", by=ANN)
    ending = "import sys\nsys.exit(%d)" if code >= 0 else "import os\nos.kill(os.getpid(), %d)"
    process = subprocess.Popen([sys.executable, "-c", ending % abs(code)])
    process.wait()
    controller._children.append(_Child("mine", process, Path("mine.log")))
    controller._reap()
    assert said == ["study mine: ended, and deleted meanwhile"]
