"""The target of latency measurements: a backbone on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import create_model, geometry, resolve_name
from sparsesearch.errors import SpecError
from sparsesearch.latency.device import conditions_here
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.latency_record import Clock, Conditions, PrecisionName, Runtime

Ready = Callable[[nn.Module, Tensor], Callable[[Tensor], object]]
"""Returns a call that runs a model on inputs like the given ones."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A backbone on a device, with the conditions under which its schedules are timed.

    Attributes:
        backbone: Resolved backbone name.
        device: Device of the model.
        batch_size: Images per call.
        precision: Data type of weights and images.
        compiled: Whether to use `torch.compile`.
        channels_last: Whether images and convolutions use that memory format.
        image_size: Pixels, None for the default of the backbone.
        num_classes: Classes of the head, None for the default of the backbone.
        in_chans: Image channels, None for the default of the backbone.
        clock: Clock on a CPU; a GPU is always timed with events.
        runtime: What runs the models.
        ready: Makes models ready to be timed in a runtime that is not a part of torch.

    Raises:
        SpecError: The runtime does not run on this device or with these options.
    """

    backbone: str
    device: torch.device
    batch_size: int = 1
    precision: PrecisionName = "float32"
    compiled: bool = False
    channels_last: bool = False
    image_size: ImageSize | None = None
    num_classes: int | None = None
    in_chans: int | None = None
    clock: Clock = "wall"
    runtime: Runtime = "torch"
    ready: Ready | None = None

    def __post_init__(self) -> None:
        if self.runtime == "torch":
            return
        if self.compiled:
            raise SpecError(f"--compile is for the runtime torch; leave it out with {self.runtime}")
        if self.runtime == "cuda-graph":
            if self.device.type != "cuda":
                raise SpecError("the runtime cuda-graph needs a CUDA device; use torch, onnx or aoti on a CPU")
            return
        if self.ready is None:
            raise SpecError(f"the runtime {self.runtime} needs a full installation; use: sparsesearch profile")
        if self.device.type != "cpu" or self.precision != "float32":
            raise SpecError(f"the runtime {self.runtime} is timed on a CPU in float32; use --device cpu")

    def conditions(self) -> Conditions:
        """The conditions of a measurement in this process."""
        return conditions_here(
            self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            compiled=self.compiled,
            memory_format="channels_last" if self.channels_last else "contiguous",
            clock=self.clock,
            runtime=self.runtime,
        )

    def geometry(self) -> BackboneGeometry:
        """The backbone's geometry; no weights are allocated."""
        with without_weights():
            return geometry(self._make(), resolve_name(self.backbone))

    def dense_model(self) -> nn.Module:
        """The dense model with random weights, on the device."""
        model = self._make().eval().requires_grad_(False).to(device=self.device, dtype=self._dtype)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def images(self, model: nn.Module, shape: BackboneGeometry) -> Tensor:
        """A batch of random images."""
        channels = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
        return self.noise(self.batch_size, channels, *shape.image_size)

    def noise(self, *size: int) -> Tensor:
        """Random numbers of a given shape, on the device."""
        made = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.device, self._dtype)
        return made.to(memory_format=torch.channels_last) if self.channels_last and len(size) == 4 else made

    def _make(self) -> nn.Module:
        return create_model(
            self.backbone, num_classes=self.num_classes, in_chans=self.in_chans, image_size=self.image_size
        )

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.precision)
        return found
