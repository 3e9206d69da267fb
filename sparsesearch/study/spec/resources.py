"""What trials may use."""

from __future__ import annotations

from pydantic import Field, model_validator

from sparsesearch.value import Value


class ResourceSpec(Value):
    """What trials may use under `dispatcher: ray`.

    Attributes:
        cpus_per_trial: CPU cores of one trial; the dense and the supernet training, which nothing runs beside, get
            `max_concurrent` times as many.
        gpus_per_trial: GPUs of one trial, also fractions such as 0.25; null for 1 on a GPU device and 0 on the CPU.
        max_concurrent: Most trials at a time, null for as many as the cluster has room for.
        ray_address: `auto` or HOST:PORT of a Ray cluster to join, null to start Ray on this machine.
        max_retries: How many times a trial is tried again from its last checkpoint after an error or a lost process.
    """

    cpus_per_trial: float = Field(default=1.0, gt=0.0)
    gpus_per_trial: float | None = Field(default=None, ge=0.0)
    max_concurrent: int | None = Field(default=None, ge=1)
    ray_address: str | None = None
    max_retries: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> ResourceSpec:
        if self.gpus_per_trial is not None and self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(f"gpus_per_trial must be a whole number or a share of one GPU, got {self.gpus_per_trial}")
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise ValueError("ray:// (Ray client) is not supported; run on a machine of the cluster with 'auto'")
        return self
