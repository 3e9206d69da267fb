"""Whether published weights of a backbone can be used: `--weights pretrained`, resolved."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from sparsesearch.backbones.lookup import has_published_weights
from sparsesearch.errors import CheckpointError
from sparsesearch.files.user_path import user_path
from sparsesearch.schedule.image_size import ImageSize, as_image_size
from sparsesearch.training.weight_files import content_hash

HUB_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class PublishedWeights:
    """The published weights of a backbone, as timm describes them.

    Attributes:
        name: Name with the pretrained tag.
        num_classes: Classes of their head; 0 without a head.
        image_size: Height and width in pixels of the images that they were trained with.
        in_chans: Channels of these images.
    """

    name: str
    num_classes: int
    image_size: ImageSize
    in_chans: int

    @classmethod
    def of(cls, backbone: str) -> PublishedWeights:
        """Those of a backbone (resolved name) that has some."""
        config = _config(backbone)
        name = f"{backbone.partition('.')[0]}.{config.tag}" if config.tag else backbone
        return cls(name, int(config.num_classes), as_image_size(config.input_size[1:]), config.input_size[0])


def weights_identity(backbone: str, weights: str) -> str:
    """What the initial weights of a dense model are, for keys of caches: equal texts mean equal weights.

    Args:
        backbone: Resolved name.
        weights: `pretrained`, `scratch` or a path.

    Returns:
        `scratch`, `NAME.TAG@timm VERSION`, or `sha256:` and the hash of the content of the file.

    Raises:
        CheckpointError: The file cannot be read.
    """
    if weights == "scratch":
        return weights
    if weights == "pretrained":
        return f"{PublishedWeights.of(backbone).name}@timm {version('timm')}"
    return f"sha256:{content_hash(user_path(weights, error=CheckpointError))}"


def _config(backbone: str) -> Any:
    """Timm's configuration of the published weights."""
    import timm

    return timm.get_pretrained_cfg(backbone)


def requested_weights(weights: str, *, backbone: str) -> str:
    """Resolve `--weights` as far as possible without the network.

    `pretrained` becomes `scratch` for a backbone without published weights. A path becomes absolute.

    Args:
        weights: `pretrained`, `scratch` or a path.
        backbone: Resolved name.
    """
    if weights == "pretrained":
        return weights if has_published_weights(backbone) else "scratch"
    return weights if weights == "scratch" else str(user_path(weights, error=CheckpointError))


def resolve_weights(weights: str, *, backbone: str, or_scratch: bool = False) -> tuple[str, str | None]:
    """Resolve `--weights` as `requested_weights` does, and check that published weights can be had.

    They can if they are in the local cache, or the hub responds within seconds.

    Args:
        weights: `pretrained`, `scratch` or a path.
        backbone: Resolved name.
        or_scratch: Whether weights that cannot be had become `scratch`, as for the bundled demo.

    Returns:
        (`pretrained`, `scratch` or a path; a message if the result differs from what was requested, or None)

    Raises:
        CheckpointError: They cannot be had.
    """
    requested = requested_weights(weights, backbone=backbone)
    if requested != "pretrained" or _is_cached(backbone):
        return requested, None
    reason = _hub_unreachable()
    if reason is None:
        return requested, None
    why = f"pretrained weights of {backbone} are not available ({reason})"
    if or_scratch:
        return "scratch", f"{why}; training from scratch"
    raise CheckpointError(
        f"{why}; run once where there is a network, give a file with --weights PATH, or train from random weights with "
        "--weights scratch"
    )


def _is_cached(backbone: str) -> bool:
    """Whether the published weights are in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    repository = getattr(_config(backbone), "hf_hub_id", None)
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
