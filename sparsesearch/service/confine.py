"""What a submitted study may ask for: no file outside the configured folders, nothing that the server decides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsesearch.data.source import parse_source
from sparsesearch.errors import SpecError
from sparsesearch.files.user_path import user_path
from sparsesearch.service.plain_data import check_plain
from sparsesearch.space.definition import bundled_spaces
from sparsesearch.study.spec import StudySpec

_OF_THE_SERVER = {
    "storage": "the folder of checkpoints",
    "resolved": "what is found when the study is prepared",
    "dispatcher": "how trials are executed",
    "device": "the device",
}
_RESOURCES_OF_THE_SERVER = ("ray_address", "patience_s", "worker_timeout_s")
_NAMED_WEIGHTS = ("pretrained", "scratch")
_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def confined(document: Mapping[str, Any], roots: Sequence[Path]) -> dict[str, Any]:
    """Return a document whose files are all within the given folders, with links followed.

    Nothing is opened to find that out.

    Raises:
        SpecError: It names a file outside, or something that only the server decides, or is no plain document.
        DataError: The data source has none of the known forms.
    """
    check_plain(document, what="study document")
    for key, what in _OF_THE_SERVER.items():
        if document.get(key) is not None:
            raise SpecError(f"{key}: the server decides {what}; leave it out")
    resources = document.get("resources")
    if isinstance(resources, Mapping):
        for key in _RESOURCES_OF_THE_SERVER:
            if resources.get(key) is not None:
                raise SpecError(f"resources.{key}: the server decides it; leave it out")
    data = document.get("data")
    source = data.get("source") if isinstance(data, Mapping) else data
    if isinstance(source, str):
        _check_source(source, roots)
    weights = document.get("weights")
    if not isinstance(weights, str | None):
        raise SpecError("weights must be pretrained, scratch or the path of a checkpoint")
    _check_weights(weights, roots)
    space = document.get("space")
    if not isinstance(space, Mapping | None) and (not isinstance(space, str) or space not in bundled_spaces()):
        known = ", ".join(bundled_spaces())
        raise SpecError(f"no bundled search space {str(space)[:80]!r}; choose one of {known}, or write out its keys")
    latency = document.get("latency")
    profile = latency.get("profile") if isinstance(latency, Mapping) else None
    if isinstance(profile, str) and ("/" in profile or profile.endswith(".json")):
        raise SpecError(
            "latency.profile: give the name of a profile of the server; upload one with PUT /api/v1/profiles/NAME"
        )
    return dict(document)


def check_files(spec: StudySpec, roots: Sequence[Path]) -> None:
    """Check once more, where a study is run, that its files are within the given folders: links may have changed.

    Raises:
        SpecError: It names a file outside.
        DataError: The data source has none of the known forms.
    """
    _check_source(spec.data.source, roots)
    _check_weights(spec.weights, roots)


def _check_weights(weights: str | None, roots: Sequence[Path]) -> None:
    if weights and weights not in _NAMED_WEIGHTS:
        _check_path(user_path(weights, error=SpecError), roots, what="weights")


def _check_source(text: str, roots: Sequence[Path]) -> None:
    if "~" in text:
        raise SpecError("data.source: write the path in full, without ~")
    head, _, rest = text.strip().partition(":")
    kind, _, name = head.partition("/")
    if rest and kind in ("folder", "torch", "hfds", "wds"):
        _check_path(Path(rest), roots, what="data.source")
    elif kind == "wds" and name:
        _check_path(Path(name), roots, what="data.source")
    elif kind == "hfds" and _ON_THE_HUB.fullmatch(name) is None:
        raise SpecError(f"data.source: {name[:80]!r} is not the name of a data set on the hub; use hfds/OWNER/NAME")
    elif kind not in ("digits", "hfds"):
        _check_path(Path(text), roots, what="data.source")
    source = parse_source(text)
    if source.path is not None:
        _check_path(source.path, roots, what="data.source")


def _check_path(path: Path, roots: Sequence[Path], *, what: str) -> None:
    """Check that a path is within one of the folders, also behind links."""
    if not path.is_absolute():
        raise SpecError(f"{what}: {str(path)[:200]!r} is not an absolute path; write it as the server sees it")
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise SpecError(f"{what}: {str(path)[:200]!r} leads nowhere; write the path of what is to be read") from error
    if any(resolved == root or root in resolved.parents for root in roots):
        return
    allowed = ", ".join(map(str, roots)) or "none"
    raise SpecError(
        f"{what}: {str(path)[:200]!r} is not in a folder that studies may read ({allowed}); the operator sets "
        "them with serve --data-root"
    )
