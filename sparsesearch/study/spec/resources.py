"""The resources of trials."""

from __future__ import annotations

from pydantic import Field, model_validator

from sparsesearch.value import Value


class ResourceSpec(Value):
    """The resources of trials under `dispatcher: ray`, and how long what fails around them is waited for.

    Attributes:
        cpus_per_trial: CPU cores per trial; dense and supernet training, which run alone, get `max_concurrent` times as
            many.
        gpus_per_trial: GPUs per trial, possibly a fraction such as 0.25; null for 1 on a GPU device and 0 on the CPU.
        workers_per_training: Processes that train the dense model or the supernet together; null for one on each GPU
            of the cluster, or one process on CPUs.
        max_concurrent: Maximum number of concurrent trials; null for as many as fit on the cluster.
        ray_address: `auto` or HOST:PORT of a Ray cluster to join; null to start Ray on this machine.
        max_retries: How often a trial is retried from its last checkpoint after an error or a lost process.
        patience_s: Seconds that a run waits for a disk, a database, a network or a machine that fails, under any
            dispatcher; then it ends, and can be resumed.
        worker_timeout_s: Seconds after which a worker that shows no sign of life is killed, and its trial tried again;
            null for 10 minutes, or 20 steps of its training if they take longer.
    """

    cpus_per_trial: float = Field(default=1.0, gt=0.0)
    gpus_per_trial: float | None = Field(default=None, ge=0.0)
    workers_per_training: int | None = Field(default=None, ge=1)
    max_concurrent: int | None = Field(default=None, ge=1)
    ray_address: str | None = None
    max_retries: int = Field(default=2, ge=0)
    patience_s: float = Field(default=600.0, ge=0.0)
    worker_timeout_s: float | None = Field(default=None, gt=0.0)

    @model_validator(mode="after")
    def _possible(self) -> ResourceSpec:
        if self.gpus_per_trial is not None and self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(f"gpus_per_trial must be an integer or a fraction below 1, got {self.gpus_per_trial}")
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise ValueError("ray:// (Ray client) is not supported; run on a machine of the cluster with 'auto'")
        return self
