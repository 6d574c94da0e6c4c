"""Noise of the shape of handwritten digits, for the other scripts: as many rows as their argument says."""

import sys

import numpy as np


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and classes."""
    count, rng = int(sys.argv[1]), np.random.default_rng(0)
    return rng.random((count, 784), np.float32), rng.integers(0, 10, count, np.int32)
