"""Run all checks, each in a process of its own, so that none can hang, break or hide another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sparsesearch.app.doctor.checks import CHECKS, Check
from sparsesearch.app.doctor.finding import Finding, Surroundings
from sparsesearch.redact import without_password
from sparsesearch.text import human_time

_AT_ONCE = 4
_END_SECONDS = 5.0


def examine(
    surroundings: Surroundings,
    *,
    timeout_s: float | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """Check everything, and return what was found, in the order of the checks.

    Args:
        surroundings: What studies would use.
        timeout_s: How long each check may take, in seconds; None for the time that it usually needs.
        advance: Called after each check.
    """

    def run(check: Check) -> Finding:
        return _run(check, surroundings, timeout_s=check.timeout_s if timeout_s is None else timeout_s)

    found = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for finding in pool.map(run, CHECKS):
            found.append(finding)
            advance()
    return found


def _run(check: Check, surroundings: Surroundings, *, timeout_s: float) -> Finding:
    # The request is passed by a pipe, since it may contain a password and command lines are public.
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsesearch.app.doctor", check.function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(surroundings.model_dump_json(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Finding(check=check.name, ok=False, detail=f"no answer within {human_time(timeout_s)}", fix=check.fix)
    except BaseException:
        _kill(process)
        raise
    if process.returncode == 0 and out:
        found = Finding(check=check.name, **json.loads(out))
        return found if found.ok or found.fix else found.model_copy(update={"fix": check.fix})
    return Finding(check=check.name, ok=False, detail=_reason(process.returncode, err), fix=check.fix)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a check and what it started; one that hangs in the kernel is left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_END_SECONDS)


def _reason(code: int, err: str) -> str:
    if code < 0:
        return f"the check was ended by {signal.Signals(-code).name}"
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return without_password(lines[-1])[:400] if lines else f"the check ended with exit code {code}"
