"""The machine that a study was prepared on, and the versions it was prepared with."""

from __future__ import annotations

from sparsesearch.value import Value


class Machine(Value):
    """A machine and its software.

    Attributes:
        device: Name of the processor, or of the GPU that is used.
        cores: Number of CPU cores.
        python: Version of Python.
        sparsesearch: Version of this program.
        torch: Version of torch.
        timm: Version of timm.
    """

    device: str
    cores: int
    python: str
    sparsesearch: str
    torch: str
    timm: str
