"""The recorded models: one JSON document per line of `models.jsonl`, the first of which is about their names.

The file is written by `python -m sparsesearch.backbones.recorder`.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from sparsesearch.catalog.closed_form import Size, geometry_at
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry

PATH = Path(__file__).with_name("models.jsonl")


@dataclass(frozen=True)
class Model:
    """A recorded model.

    Attributes:
        name: Its resolved name, with its pretrained tag if it has one.
        image_size: Height and width in pixels that it is built for by default.
        num_classes: Classes of its head by default.
        in_chans: Channels of its image by default.
        has_weights: Whether there are published weights.
        is_small: Whether it is designed for the bundled task.
        form: Its geometry as a function of the options (`catalog.closed_form`); None if that is not recorded.
        refused: Why it cannot be sparsified or priced; None if it can.
    """

    name: str
    image_size: Size
    num_classes: int
    in_chans: int
    has_weights: bool = False
    is_small: bool = False
    form: Mapping[str, Any] | None = None
    refused: str | None = None

    def geometry(
        self, *, image_size: Size | None = None, num_classes: int | None = None, in_chans: int | None = None
    ) -> BackboneGeometry | None:
        """The exact geometry with other options than its own; None if it is not recorded for them.

        Args:
            image_size: Height and width in pixels.
            num_classes: Classes of the head.
            in_chans: Channels of the image.

        Raises:
            BackboneError: The model cannot be sparsified or priced.
        """
        if self.refused is not None:
            raise BackboneError(self.refused)
        if self.form is None:
            return None
        return geometry_at(
            self.form,
            name=self.name,
            image_size=image_size or self.image_size,
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chans=in_chans or self.in_chans,
        )


class Catalog:
    """All recorded models.

    Args:
        header: The first line of the file.
        lines: The others, by name.

    Attributes:
        timm_version: Version of timm whose models were recorded.
        aliases: Short name to name, including every bundled backbone.
        supported: What is supported, in words.
        others: Models of timm whose family is not supported.
        modules: Modules of families and models whose backbones were recorded.
    """

    def __init__(self, header: Mapping[str, Any], lines: Mapping[str, Mapping[str, Any]]) -> None:
        self.timm_version: str = header["timm"]
        self.aliases: dict[str, str] = header["aliases"]
        self.supported: str = header["supported"]
        self.others: list[str] = header["others"]
        self.modules: list[str] = header["modules"]
        self._lines = lines

    @cached_property
    def architectures(self) -> frozenset[str]:
        """Names of all recorded models, without tags."""
        return frozenset(name.partition(".")[0] for name in self._lines)

    @cached_property
    def models_of_timm(self) -> list[str]:
        """Names of all models of timm, whether supported or not."""
        ours = {name for name, line in self._lines.items() if line.get("bundled")}
        return sorted({*self.others, *(name.partition(".")[0] for name in self._lines if name not in ours)})

    @property
    def sparsifiable_models(self) -> list[str]:
        """Names of all backbones that can be sparsified, without aliases and tags; some of them cannot be priced."""
        return [name for name, line in self._lines.items() if line.get("supported", True) and "." not in name]

    @property
    def supported_models(self) -> list[str]:
        """Names of all backbones that can be sparsified and priced, without aliases and tags."""
        return [name for name in self.sparsifiable_models if not self.is_refused(name)]

    @cached_property
    def shadowed(self) -> dict[str, str]:
        """Models of timm whose name is that of a bundled backbone: this name to the one with timm's default tag."""
        found: dict[str, str] = {}
        for name in self._lines:
            architecture, _, tag = name.partition(".")
            if tag:
                found.setdefault(architecture, name)
        return found

    @property
    def names(self) -> list[str]:
        """Names of all recorded models, whether supported or not; of tagged ones only those without an untagged one."""
        return list(self._lines)

    def tags(self, name: str) -> list[str]:
        """Pretrained tags of a recorded model, without its tag; of a bundled backbone those of timm's namesake."""
        of_namesake = [other.partition(".")[2] for other in self._lines if other.startswith(f"{name}.")]
        return [*self._lines[name].get("tags", {}), *of_namesake]

    def is_refused(self, name: str) -> bool:
        """Whether a recorded model cannot be sparsified or priced."""
        return "refused" in self._lines[name]

    def line(self, name: str) -> Mapping[str, Any]:
        """The line of the file about a recorded model."""
        return self._lines[name]

    def find(self, name: str) -> Model | None:
        """A model by its resolved name, None if it is not recorded."""
        line = self._lines.get(name)
        if line is not None:
            return self._model(name, line, line.get("options", (1, 1, 0, 3)), has_weights=line.get("weights", False))
        architecture, _, tag = name.partition(".")
        line = self._lines.get(architecture)
        if line is None or "options" not in line or tag not in line.get("tags", {}):
            return None
        *options, weights = line["tags"][tag] or (*line["options"][:3], line.get("weights", False))
        return self._model(name, line, (*options, line["options"][3]), has_weights=weights)

    def _model(self, name: str, line: Mapping[str, Any], options: Any, *, has_weights: bool) -> Model:
        height, width, num_classes, in_chans = options
        return Model(
            name=name,
            image_size=(height, width),
            num_classes=num_classes,
            in_chans=in_chans,
            has_weights=has_weights,
            is_small=line.get("bundled", False) and in_chans == 1,
            form=line if "stages" in line else None,
            refused=line.get("refused"),
        )


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """The shipped catalog."""
    header, *lines = (json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines())
    return Catalog(header, {line["name"]: line for line in lines})


def modules_of_backbones() -> list[str]:
    """Names of the modules in `backbones/families` and `backbones/models`, without importing them."""
    backbones = PATH.parent.parent / "backbones"
    return sorted(
        f"{folder}.{info.name}"
        for folder in ("families", "models")
        for info in pkgutil.iter_modules([str(backbones / folder)])
    )
