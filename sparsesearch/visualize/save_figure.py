"""Write a matplotlib figure to a file."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from sparsesearch.files.durable import new_file

_DPI = 130


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; equal figures give equal PNG files.

    Args:
        figure: The figure.
        path: Output file; its suffix selects the format, PNG without one.
    """
    kind = path.suffix.lower().removeprefix(".") or "png"
    with new_file(path) as file:
        figure.savefig(file, format=kind, dpi=_DPI, metadata={"Software": None} if kind == "png" else None)
