"""Rows of text for the other scripts, and what they say of their solutions. Arguments: a file, and what is solved."""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

SHARES = (0.5, 0.2, 0.1, 0.05, 0.02)  # of the smallest α at which all weights are 0
PATH, KIND = sys.argv[1:3]


Solve = Callable[[float], tuple[np.ndarray, float, int]]  # α -> weights, bias, rounds


def load() -> tuple[Any, np.ndarray, list[float]]:
    """The rows, float64, CSR; targets, or classes 0 and 1; and the values of α."""
    x, t = sparse.load_npz(f"{PATH}.npz"), np.load(f"{PATH}.npy")
    t = (t > np.median(t)).astype(float) if KIND == "logistic" else t
    largest = np.abs(x.T @ (t - t.mean())).max() / x.shape[0]
    return x, t, [float(largest * share) for share in SHARES]


def objective(x: Any, t: np.ndarray, w: np.ndarray, b: float, alpha: float) -> float:
    """`mean loss + α Σ|w|`: half squared error, or cross-entropy; float64."""
    y = x @ w + b
    loss = (np.logaddexp(0, y) - t * y).mean() if KIND == "logistic" else ((y - t) ** 2).mean() / 2
    return float(loss + alpha * np.abs(w).sum())


def solve_all(
    x: Any, t: np.ndarray, alphas: list[float], solve: Callable[[float], tuple[np.ndarray, float, int]]
) -> None:
    """Print as JSON what each α gives: seconds, rounds, objective, which weights are not 0; and the first call."""
    begun = time.perf_counter()
    solve(alphas[0])
    first, found, peak_of_one = time.perf_counter() - begun, [], peak_bytes()
    for alpha in alphas:
        begun, before = time.perf_counter(), time.process_time()
        w, b, rounds = solve(alpha)
        row: dict[str, Any] = {"seconds": time.perf_counter() - begun, "processor": time.process_time() - before}
        w = np.asarray(w, np.float64).ravel()
        row |= {"objective": objective(x, t, w, float(b), alpha), "kept": np.flatnonzero(w).tolist()}
        found.append(row | {"rounds": rounds})
    peaks = {"peak_of_one_bytes": peak_of_one, "peak_bytes": peak_bytes()}
    print(json.dumps({"first": first, **peaks, "shares": SHARES, "found": found}))


def peak_bytes() -> int:
    """Of the whole process until now, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
