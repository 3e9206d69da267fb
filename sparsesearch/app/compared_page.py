"""Models that were compared, as a picture and as a page without scripts."""

from __future__ import annotations

import base64
import io
from html import escape

from sparsesearch.app.compare_models import ModelComparison
from sparsesearch.deploy.compared import COLUMNS, rows
from sparsesearch.report.style import STYLE
from sparsesearch.visualize.accuracy_plot import accuracy_figure


def comparison_picture(found: ModelComparison) -> bytes:
    """A picture of accuracies with their intervals, and of speeds: a PNG file."""
    buffer = io.BytesIO()
    bars = [(each.name, each.top1, each.interval, each.ms) for each in found.contestants]
    accuracy_figure(bars).savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def comparison_page(found: ModelComparison) -> str:
    """The table, the picture and the classes on one page without scripts."""

    def line(cells: tuple[str, ...], tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    names = found.class_names or tuple(map(str, range(len(found.contestants[0].of_classes))))
    classes = [
        line((name, *(f"{100 * each.of_classes[i]:.1f}" for each in found.contestants))) for i, name in enumerate(names)
    ]
    picture = base64.b64encode(comparison_picture(found)).decode()
    head = line(("class", *(each.name for each in found.contestants)), "th")
    body = [
        f"<header><h1>Models on {found.contestants[0].hits.count:,} test images</h1></header>",
        f"<section><table>{line(COLUMNS, 'th')}{''.join(map(line, rows(found.contestants)))}</table></section>",
        f'<section><img alt="accuracy and speed" width="100%" src="data:image/png;base64,{picture}"></section>',
        f"<section><h2>Accuracy of each class, %</h2><table>{head}{''.join(classes)}</table></section>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Models compared</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
