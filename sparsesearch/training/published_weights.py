"""Whether published weights of a backbone can be used: `--weights pretrained`, resolved."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from sparsesearch.backbones.lookup import has_published_weights
from sparsesearch.errors import CheckpointError

HUB_TIMEOUT_S = 5.0


def requested_weights(weights: str, *, backbone: str) -> str:
    """Resolve `--weights` as far as possible without the network.

    `pretrained` becomes `scratch` for a backbone without published weights. A path becomes absolute.

    Args:
        weights: `pretrained`, `scratch` or a path.
        backbone: Resolved name.
    """
    if weights == "pretrained":
        return weights if has_published_weights(backbone) else "scratch"
    return weights if weights == "scratch" else str(Path(weights).expanduser().absolute())


def resolve_weights(weights: str, *, backbone: str) -> tuple[str, str | None]:
    """Resolve `--weights`; the second value is a message if the result differs from what was requested.

    As `requested_weights`; in addition, `pretrained` becomes `scratch` if the weights are not in the local cache and
    the hub does not respond within seconds.

    Args:
        weights: `pretrained`, `scratch` or a path.
        backbone: Resolved name.

    Returns:
        (`pretrained`, `scratch` or a path; a message or None)
    """
    requested = requested_weights(weights, backbone=backbone)
    if requested != "pretrained" or _is_cached(backbone):
        return requested, None
    reason = _hub_unreachable()
    if reason is None:
        return requested, None
    return "scratch", (
        f"pretrained weights of {backbone} are not available ({reason}); training from scratch. "
        "Give a file with --weights PATH, or use --weights scratch to silence this message."
    )


def weights_identity(backbone: str, weights: str) -> str:
    """What initial weights are, for keys: the hash of a file, `NAME.TAG@timm VERSION`, or `scratch`.

    Args:
        backbone: Resolved name.
        weights: `pretrained`, `scratch` or a path.

    Raises:
        CheckpointError: The file cannot be read.
    """
    if weights == "scratch":
        return weights
    if weights == "pretrained":
        import timm

        config = timm.get_pretrained_cfg(backbone)
        tag = getattr(config, "tag", None)
        name = f"{backbone}.{tag}" if tag and "." not in backbone else backbone
        return f"{name}@timm {version('timm')}"
    path = Path(weights).expanduser()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read the weights file {path}: {error.strerror}") from error


def _is_cached(backbone: str) -> bool:
    """Whether the published weights are in the local cache."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    repository = getattr(timm.get_pretrained_cfg(backbone), "hf_hub_id", None)
    if not isinstance(repository, str):
        return False
    return isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)


def _hub_unreachable() -> str | None:
    """Why the weights hub cannot be used, or None if it responds."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # whatever the HTTP library raises, the hub is not available
        return f"the weights hub does not respond: {type(error).__name__}"
    return None
