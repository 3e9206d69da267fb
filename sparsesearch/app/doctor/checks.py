"""The list of all checks: where each is, how long it may take, and what to do if it does not end."""

from __future__ import annotations

from dataclasses import dataclass

_HANGING = "the disk, or a mount on the way to it, does not answer: check `dmesg` and `mount`"


@dataclass(frozen=True)
class Check:
    """One check, which runs in a process of its own.

    Attributes:
        name: What is checked.
        function: `module:function` in this package; it takes `Surroundings` and returns what it found, or raises
            `FailedCheckError`.
        fix: What to do if it raises anything else, or does not end in time.
        timeout_s: How long it may take, in seconds.
    """

    name: str
    function: str
    fix: str
    timeout_s: float = 20.0


CHECKS = (
    Check("installation", "installation:installation", "reinstall with: pip install --force-reinstall sparsesearch"),
    Check("versions", "installation:versions", "reinstall with: pip install --force-reinstall sparsesearch"),
    Check(
        "device",
        "device:device",
        "check the driver with nvidia-smi, and that torch is the build for it; or use --device cpu",
        timeout_s=90.0,
    ),
    Check(
        "database",
        "study_database:database",
        "check that the database server runs and answers, and the address: --database, or SPARSESEARCH_DATABASE_URL",
    ),
    Check(
        "ray", "cluster:cluster", "see docs/ray.md; a study can run without Ray: --dispatcher inline", timeout_s=90.0
    ),
    Check(
        "mlflow",
        "tracking_server:mlflow",
        "check that the server runs, and MLFLOW_TRACKING_URI; a study can run without it: --no-mlflow",
        timeout_s=60.0,
    ),
    Check("home", "disks:home", _HANGING),
    Check("storage", "disks:storage", _HANGING),
    Check("database folder", "disks:database_folder", _HANGING),
    Check("temporary folder", "disks:temporary_folder", _HANGING),
    Check(
        "shared memory", "disks:shared_memory", "mount a tmpfs at /dev/shm; in a container: docker run --shm-size=1g"
    ),
    Check("network filesystem", "disks:network_filesystem_check", _HANGING),
    Check("clock", "machine:clock", "set the clock of this machine, best by NTP: timedatectl set-ntp true"),
    Check("permissions", "permissions:permissions", _HANGING),
    Check("leftovers", "disks:leftover_files", _HANGING, timeout_s=60.0),
    Check(
        "loader",
        "machine:loader",
        "processes cannot be started: check the limits of processes (ulimit -u) and memory; or use --data-workers 0",
        timeout_s=60.0,
    ),
    Check("open files", "machine:open_files", "raise the limit with: ulimit -n 65536"),
)
"""In the order in which they are shown."""
