"""Comparison of a sparse model with its dense model: latencies by batch size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from sparsesearch.errors import SpecError
from sparsesearch.files.durable import write_file
from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import BUSY_RATIO, Conditions, Latency
from sparsesearch.value import Value


class BatchLatencies(Value):
    """Both models at one batch size.

    Attributes:
        conditions: Conditions of the measurement.
        dense: Latency of the dense timm model, with fused attention.
        sparse: Latency of the sparse model.
        num_attempts: Number of attempts; the one with the least timing noise is reported.
    """

    conditions: Conditions
    dense: Latency
    sparse: Latency
    num_attempts: int = 1

    @property
    def batch_size(self) -> int:
        """Images per call."""
        return self.conditions.batch_size

    @property
    def speed_up(self) -> float:
        """Speed-up of the sparse model: dense median over sparse median."""
        return self.dense.median_ms / self.sparse.median_ms

    @property
    def is_busy(self) -> bool:
        """Whether other processes used the machine."""
        return max(self.dense.timing_noise, self.sparse.timing_noise) > BUSY_RATIO

    def images_per_s(self, latency: Latency) -> float:
        """Throughput at the median latency."""
        return 1e3 * self.batch_size / latency.median_ms


class Comparison(Value):
    """Result of `sparsesearch bench`.

    Attributes:
        backbone: Backbone name.
        image_size: Height and width in pixels.
        schedule: The schedule of the sparse model.
        described: One-line description of the schedule.
        macs: Multiply-adds of the sparse model for one image.
        dense_macs: Multiply-adds of the dense model for one image.
        weight_bytes: Bytes of the weights, dense and sparse.
        batches: Latencies by batch size, in the requested order.
        left_out: Batch sizes that do not fit into the device's memory.
    """

    schema_version: Literal[1] = 1
    backbone: str
    image_size: tuple[int, int]
    schedule: Schedule
    described: str
    macs: int = Field(gt=0)
    dense_macs: int = Field(gt=0)
    weight_bytes: tuple[int, int]
    batches: tuple[BatchLatencies, ...]
    left_out: tuple[int, ...] = ()

    @property
    def macs_ratio(self) -> float:
        """Dense over sparse multiply-adds: the theoretical speed-up."""
        return self.dense_macs / self.macs

    def gain_kept(self, batch: BatchLatencies) -> float | None:
        """Fraction of the theoretical gain that is achieved: 1 for the full gain, negative if slower than dense.

        None if there is no theoretical gain.
        """
        gain = self.macs_ratio - 1.0
        return (batch.speed_up - 1.0) / gain if gain > 0.0 else None

    def document(self) -> dict[str, object]:
        """The comparison as plain data, including derived numbers."""
        document = self.model_dump(mode="json")
        document["macs_ratio"] = self.macs_ratio
        for entry, batch in zip(document["batches"], self.batches, strict=True):
            entry["speed_up"] = batch.speed_up
            entry["gain_kept"] = self.gain_kept(batch)
            entry["busy"] = batch.is_busy
            for name, latency in (("dense", batch.dense), ("sparse", batch.sparse)):
                entry[name]["images_per_s"] = batch.images_per_s(latency)
        return document

    def sentences(self) -> list[str]:
        """Remarks that accompany the table."""
        remarks = []
        slower = [batch for batch in self.batches if batch.speed_up < 1.0]
        if slower:
            each = ", ".join(f"{batch.batch_size} ({batch.speed_up:.2f}x)" for batch in slower)
            remarks.append(f"The sparse model is slower than the dense one at batch size {each}.")
        busy = [batch for batch in self.batches if batch.is_busy]
        if busy:
            sizes = ", ".join(str(batch.batch_size) for batch in busy)
            worst = max(max(batch.dense.timing_noise, batch.sparse.timing_noise) for batch in busy)
            remarks.append(
                f"The machine was busy at batch size {sizes}: a median is {worst:.2f} times its minimum even after "
                "a second attempt; repeat the measurement on an idle machine before quoting these numbers."
            )
        if self.left_out:
            sizes = ", ".join(map(str, self.left_out))
            remarks.append(f"Batch size {sizes} does not fit into the memory of the device.")
        return remarks


def write_document(found: Comparison, path: Path) -> None:
    """Write a comparison as a JSON file.

    Raises:
        SpecError: The file cannot be written.
    """
    try:
        write_file(path, json.dumps(found.document(), indent=1) + "\n")
    except OSError as error:
        raise SpecError(f"cannot write {path}: {error.strerror}; choose another file") from error
