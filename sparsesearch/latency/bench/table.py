"""A comparison as rows of text."""

from __future__ import annotations

from sparsesearch.latency.bench.comparison import BatchLatencies, Comparison
from sparsesearch.study.latency_record import Latency

_COLUMNS = ("batch", "model", "p50 ms", "p90", "p99", "images/s", "speed-up", "gain kept")


def title(found: Comparison) -> str:
    """Title: backbone and schedule."""
    height, width = found.image_size
    return f"{found.backbone} at {height}x{width}, {found.described}: {found.macs_ratio:.2f}x fewer multiply-adds"


def conditions_line(found: Comparison) -> str:
    """The conditions of the measurement in one line."""
    one = found.batches[0].conditions
    parts = [
        one.device_name,
        one.precision,
        "compiled" if one.compiled else "not compiled",
        one.memory_format.replace("_", " "),
        *([f"{one.num_threads} threads" if one.num_threads > 1 else "1 thread"] if one.device == "cpu" else []),
        f"torch {one.torch}",
        f"timm {one.timm}",
        *([f"CUDA {one.cuda}"] if one.cuda else []),
        *([f"driver {one.driver}"] if one.driver else []),
    ]
    runs = sorted({latency.num_runs for batch in found.batches for latency in (batch.dense, batch.sparse)})
    span = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    return f"{', '.join(parts)}; {span} runs of each, interleaved"


def columns(found: Comparison) -> tuple[str, ...]:
    """Column titles; memory is included only if known, to save space in a narrow terminal."""
    return (*_COLUMNS, "memory") if _knows_memory(found) else _COLUMNS


def rows(found: Comparison) -> list[tuple[str, ...]]:
    """Two rows per batch size: dense, then sparse."""
    return [row for batch in found.batches for row in _rows_of(found, batch)]


def plain_text(found: Comparison) -> str:
    """A comparison as lines of text."""
    table = [columns(found), *rows(found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([title(found), *lines, conditions_line(found), *found.sentences(), ""])


def _rows_of(found: Comparison, batch: BatchLatencies) -> list[tuple[str, ...]]:
    gain = found.gain_kept(batch)
    made = []
    for index, (name, latency) in enumerate((("dense", batch.dense), ("sparse", batch.sparse))):
        is_sparse = index == 1
        made.append(
            (
                "" if is_sparse else str(batch.batch_size),
                name,
                *(_ms(value) for value in (latency.median_ms, latency.p90_ms, latency.p99_ms)),
                f"{batch.images_per_s(latency):,.0f}",
                f"{batch.speed_up:.2f}x" if is_sparse else "",
                f"{100 * gain:.0f} %" if is_sparse and gain is not None else "",
                *([_memory(latency, weights=found.weight_bytes[index])] if _knows_memory(found) else []),
            )
        )
    return made


def _knows_memory(found: Comparison) -> bool:
    return any(one.working_bytes is not None for batch in found.batches for one in (batch.dense, batch.sparse))


def _memory(latency: Latency, *, weights: int) -> str:
    return "" if latency.working_bytes is None else f"{(weights + latency.working_bytes) / 2**20:,.0f} MiB"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
