"""Seconds and memory from the start of a command to its end, for commands that compute nothing on tensors.

    python benchmarks/start_up.py [--runs 10]

Each command runs in a process of its own, in turn with the others and with a reference that imports two of the
dependencies, `python -c "import pydantic, sqlalchemy"`. Ratios are of processor time, which is less sensitive to other
load than elapsed time. `validate` is timed on its first call, without the imports. All numbers are medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sample_study import run_sample, sample_spec

from sparsesearch.store.sql import open_store

REFERENCE = "import pydantic, sqlalchemy"
PROGRAM = "from sparsesearch.cli import main; main()"
AT_EXIT = "import atexit; atexit.register(lambda: open({path!r}, 'w').write(open('/proc/self/status').read())); "
LIMITS = {"--help": 1.5, "cost --backbone deit_s": 2.0, "studies": 2.5}
MAX_MB = {"cost --backbone deit_s": 150.0}
OTHERS = ("spaces --backbone deit_s", "status sample", "front sample", "init --backbone deit_s -o study.yaml --force")
SPACES = {
    "deit_small": "deit_s",
    "isotropic_full": "deit_s",
    "deit_pico_full": "deit_pico",
    "convnext": "convnext_t",
    "convnext_full": "convnext_t",
    "swin": "swin_t",
    "swin_full": "swin_t",
}
VALIDATE = """
import sys, time
from sparsesearch.app.validate import validate
start = time.process_time()
validate({"name": "x", "backbone": sys.argv[1], "budget": "80%", "space": sys.argv[2]})
print(time.process_time() - start)
"""


class Run(NamedTuple):
    """One run of a process: elapsed seconds, seconds of processor time, and the most memory it held."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def run(code: str, arguments: list[str], *, home: Path) -> Run:
    """Run a Python program with arguments and measure it.

    The memory is read inside the process: what `wait4` reports is at least that of this one, which starts it.

    Raises:
        RuntimeError: It failed.
    """
    environment = {**os.environ, "SPARSESEARCH_HOME": str(home)}
    status_file = home / "status"
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_EXIT.format(path=str(status_file)) + code, *arguments],
        cwd=home,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {code} {' '.join(arguments)}")
    peak_kb = next(int(line.split()[1]) for line in status_file.read_text().splitlines() if line.startswith("VmHWM"))
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak_kb / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    num_runs: int = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run_sample(open_store(f"sqlite:///{home / 'studies.db'}"), sample_spec())
        lines: dict[str, tuple[str, list[str]]] = {"reference": (REFERENCE, [])}
        lines |= {line: (PROGRAM, line.split()) for line in (*LIMITS, *OTHERS)}
        for code, arguments in lines.values():
            run(code, arguments, home=home)
        found: dict[str, list[Run]] = {line: [] for line in lines}
        for _ in range(num_runs):
            for line, (code, arguments) in lines.items():
                found[line].append(run(code, arguments, home=home))
        medians = {line: Run(*(median(column) for column in zip(*runs, strict=True))) for line, runs in found.items()}
        base = medians["reference"]
        print(f"{'command':<50}{'s':>7}{'CPU s':>7}{'ratio':>7}{'limit':>7}{'MB':>7}{'limit':>7}")
        for line, it in medians.items():
            ratio = it.cpu_seconds / base.cpu_seconds
            limit, most = LIMITS.get(line), MAX_MB.get(line)
            print(
                f"{line:<50}{it.seconds:7.2f}{it.cpu_seconds:7.2f}{ratio:7.2f}{limit or '':>7}"
                f"{it.megabytes:7.0f}{'' if most is None else f'{most:.0f}':>7}"
            )
        print("validate after its imports; milliseconds of processor time")
        for space, backbone in SPACES.items():
            taken = [
                float(
                    subprocess.run(
                        [sys.executable, "-c", VALIDATE, backbone, space], check=True, capture_output=True, text=True
                    ).stdout
                )
                for _ in range(num_runs)
            ]
            print(f"{backbone} in {space:<20}{1000 * median(taken):9.0f}")


if __name__ == "__main__":
    main()
