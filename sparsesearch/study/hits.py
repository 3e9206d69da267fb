"""Which images a model classifies correctly, so that two models can be compared image by image."""

from __future__ import annotations

from collections.abc import Iterable

from sparsesearch.value import Value


class Hits(Value):
    """For each image of an evaluation, in a fixed order, whether it is classified correctly.

    Attributes:
        images: Name of the set of images, such as `screen`; those of two models are comparable only if it is the same.
        count: Number of images.
        bits: One bit for each image, the first image the most significant bit of the first byte, in hexadecimal digits.
    """

    images: str
    count: int
    bits: str

    @classmethod
    def of(cls, correct: Iterable[bool], *, images: str) -> Hits:
        """Pack a flag for each image."""
        text = "".join("1" if flag else "0" for flag in correct)
        padded = text + "0" * (-len(text) % 8)
        return cls(images=images, count=len(text), bits=f"{int(padded, 2):0{len(padded) // 4}x}" if padded else "")

    def flags(self) -> list[bool]:
        """For each image, whether it is classified correctly."""
        text = f"{int(self.bits, 16):0{4 * len(self.bits)}b}" if self.bits else ""
        return [digit == "1" for digit in text[: self.count]]

    @property
    def num_correct(self) -> int:
        """Number of images that are classified correctly."""
        return int(self.bits or "0", 16).bit_count()

    def is_comparable(self, other: Hits) -> bool:
        """Whether both are of the same images."""
        return (self.images, self.count) == (other.images, other.count)

    def only_here(self, other: Hits) -> int:
        """Number of images that are classified correctly here and not by `other`.

        Raises:
            ValueError: They are of different images.
        """
        if not self.is_comparable(other):
            raise ValueError(f"{self.count} images of {self.images} and {other.count} of {other.images} are no pairs")
        return (int(self.bits or "0", 16) & ~int(other.bits or "0", 16)).bit_count()
