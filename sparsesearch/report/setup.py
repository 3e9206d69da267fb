"""What a study ran on and with, and what to type next."""

from __future__ import annotations

import base64
from html import escape

from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, TrialState


def next_commands(view: StudyView) -> list[tuple[str, str]]:
    """The commands that go on from here, each with what it does."""
    name, commands = view.spec.name, []
    if any(trial.state is TrialState.FAILED and trial.is_foundation for trial in view.trials):
        commands.append(("show the error", f"trials {name} --state FAILED"))
    elif view.is_under_way or (view.spec.fidelity.finalists and view.front.fidelity is not Fidelity.FINETUNE):
        commands.append(("continue the study, unless it is running", f"resume {name}"))
    if view.best is not None:
        commands += [
            ("write the best schedule as a recipe", f"export {name} -o best.yaml"),
            ("train it in full", f"retrain best.yaml -o {name}.safetensors"),
        ]
    return [*commands, ("explore all studies in MLflow", "ui")]


def next_section(view: StudyView) -> str:
    """The section of what to type next."""
    rows = "".join(
        f"<dt>{escape(what)}</dt><dd><code>sparsesearch {escape(command)}</code></dd>"
        for what, command in next_commands(view)
    )
    return f'<section id="next"><h2>Next</h2><dl class="rows">{rows}</dl></section>'


def setup_section(view: StudyView) -> str:
    """The section of data, images, seed, machine and versions."""
    spec, resolved = view.spec, view.spec.resolved
    rows = [("data", spec.data.source), ("validation images", _images(view)), ("sampler", spec.sampler)]
    rows += [("seed", str(spec.seed)), ("precision", spec.precision), ("dispatcher", spec.dispatcher)]
    if resolved is not None and resolved.latency is not None:
        conditions = resolved.latency.conditions
        rows.append(("milliseconds", f"{conditions.device_name}, batch size {conditions.batch_size}"))
    if resolved is not None and resolved.machine is not None:
        machine = resolved.machine
        rows.append(("machine", f"{machine.device}, {machine.cores} CPU cores"))
        versions = ("sparsesearch", "torch", "timm", "python")
        rows.append(("versions", ", ".join(f"{name} {getattr(machine, name)}" for name in versions)))
    cells = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    return f'<section id="setup"><h2>Setup</h2><dl class="rows">{cells}</dl></section>'


def kept_tokens_section(png: bytes) -> str:
    """The section of which tokens the best schedule keeps."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    return (
        '<section id="kept-tokens"><h2>Tokens that the best schedule keeps</h2><p class="soft">Validation images '
        "through the best schedule, with the weights that it was judged with, step by step.</p>"
        f'<div class="scroll"><img src="{source}" alt="images, and what each step keeps of them"></div></section>'
    )


def _images(view: StudyView) -> str:
    """Number of validation images of the front's evaluations, empty if it is unknown."""
    counts = sorted({int(trial.metrics.get("val_images", 0)) for trial in view.front.candidates} - {0})
    return " or ".join(f"{count:,}" for count in counts)
