"""A sparse model beside its dense one: latencies by batch size, and what they say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import BUSY_RATIO, Conditions, Latency
from sparsesearch.value import Value


class BatchLatencies(Value):
    """Both models at one batch size.

    Attributes:
        conditions: Under which they ran.
        dense: The dense timm model, fused attention on.
        sparse: The sparse model.
        num_attempts: Attempts that were made; the quietest counts.
    """

    conditions: Conditions
    dense: Latency
    sparse: Latency
    num_attempts: int = 1

    @property
    def batch_size(self) -> int:
        """Images of one call."""
        return self.conditions.batch_size

    @property
    def speed_up(self) -> float:
        """How many times as fast the sparse model is: dense median over sparse median."""
        return self.dense.median_ms / self.sparse.median_ms

    @property
    def is_busy(self) -> bool:
        """Whether the machine did other work as well."""
        return max(self.dense.timing_noise, self.sparse.timing_noise) > BUSY_RATIO

    def images_per_s(self, latency: Latency) -> float:
        """Throughput at the median."""
        return 1e3 * self.batch_size / latency.median_ms


class Comparison(Value):
    """What `sparsesearch bench` found.

    Attributes:
        backbone: Backbone name.
        image_size: Height and width in pixels.
        schedule: The schedule of the sparse model.
        described: The same in one short line.
        macs: Multiply-adds of one image through the sparse model.
        dense_macs: The same through the dense one.
        weight_bytes: Bytes of the weights, dense and sparse.
        batches: By batch size, in the order asked for.
        left_out: Batch sizes that did not fit into the device's memory.
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
        """How many times as many multiply-adds the dense model has: the speed-up that the count promises."""
        return self.dense_macs / self.macs

    def gain_kept(self, batch: BatchLatencies) -> float | None:
        """Share of the promised gain that is there: 1 if as fast as the count says, negative if slower than dense.

        None where the count promises nothing.
        """
        promised = self.macs_ratio - 1.0
        return (batch.speed_up - 1.0) / promised if promised > 0.0 else None

    def document(self) -> dict[str, object]:
        """All of it as plain data, with what follows from the numbers beside them."""
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
        """What a table does not say by itself."""
        said = []
        slower = [batch for batch in self.batches if batch.speed_up < 1.0]
        if slower:
            each = ", ".join(f"{batch.batch_size} ({batch.speed_up:.2f}x)" for batch in slower)
            said.append(f"The sparse model is slower than the dense one at batch size {each}.")
        busy = [batch for batch in self.batches if batch.is_busy]
        if busy:
            sizes = ", ".join(str(batch.batch_size) for batch in busy)
            worst = max(max(batch.dense.timing_noise, batch.sparse.timing_noise) for batch in busy)
            said.append(
                f"The machine was busy at batch size {sizes}: a median is {worst:.2f} times its minimum even after "
                "a second attempt; measure again on an idle machine before quoting these numbers."
            )
        if self.left_out:
            sizes = ", ".join(map(str, self.left_out))
            said.append(f"Batch size {sizes} does not fit into the memory of the device.")
        return said
