"""Seeds: every consumer of randomness derives its own, and there is no global generator."""

from __future__ import annotations

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """Derive the seed for one purpose from other seeds and strings; stable across processes and platforms.

    Returns:
        An integer in [0, 2^63).
    """
    words = [part if isinstance(part, int) else int.from_bytes(part.encode(), "little") for part in parts]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))
