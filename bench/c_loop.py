"""The hand-written loop of `loop.c`, compiled by the C compiler that is there, and called. A bound for `fnn`."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COMMAND = ("cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")
SOURCE = Path(__file__).parent / "loop.c"
MOMENTUM = 0.9


def compiled() -> Any:
    """The function `train` of the source."""
    if shutil.which(COMMAND[0]) is None:
        raise OSError("C loop: expected the C compiler cc, got none. Install gcc or clang.")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "loop.so")
        done = subprocess.run(
            [*COMMAND, str(SOURCE), "-o", str(library), "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(f"C loop: expected it to compile, got {done.stderr}")
        train = ctypes.CDLL(str(library)).train
    number, numbers = ctypes.c_float, np.ctypeslib.ndpointer(np.float32, flags="C")
    train.argtypes = [*[numbers] * 5, ctypes.c_int, ctypes.c_int, number, number, numbers]
    train.restype = None
    return train


def loop(start: np.ndarray, x: np.ndarray, t: np.ndarray, rate: float, steps: int) -> Callable[[], np.ndarray]:
    """A run of so many steps; it returns the parameters at its end.

    Args:
        start: the parameters b, w, b, w as one array, `(17,)`.
        x: `(rows, 2)`.
        t: class numbers, 0 or 1.
    """
    train, costs = compiled(), np.empty(steps, np.float32)
    columns = [np.ascontiguousarray(column, np.float32) for column in (*x.T, t == 0)]

    def work() -> np.ndarray:
        params, momentum = np.array(start, np.float32), np.zeros(len(start), np.float32)
        train(params, momentum, *columns, len(x), steps, rate, MOMENTUM, costs)
        return params

    return work
