"""Memory that XLA takes as it is on a CPU, without a second copy: it begins at a multiple of 64."""

import math

import numpy as np

from fnn.types import ArrayLike, DType, DTypeLike


def aligned_copy(array: ArrayLike, dtype: DTypeLike | None = None) -> np.ndarray:
    """A copy in memory that nobody else writes to, where a CPU takes it without a second copy.

    Args:
        array: anything that NumPy can read.
        dtype: of the copy; None: that of the array. Numbers too small for it become 0.
    """
    array = np.asarray(array)
    dtype = np.dtype(array.dtype if dtype is None else dtype)
    size = array.size * dtype.itemsize
    room = np.empty(size + 64, np.uint8)
    begin = -_address(room) % 64
    own = room[begin : begin + size].view(dtype).reshape(array.shape)
    if array.dtype == dtype:
        own[...] = array
    else:
        with np.errstate(all="ignore"):
            own[...] = array
    return own


def aligned_zeros(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Memory that JAX takes as it is on a CPU, without a copy; nobody writes to it once it is handed over."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -_address(raw) % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _address(array: np.ndarray) -> int:
    """Of its first byte; `array.ctypes` takes three times as long."""
    address: int = array.__array_interface__["data"][0]
    return address
