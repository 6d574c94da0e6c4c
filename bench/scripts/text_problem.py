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
NEAR = 0.9
PATH, KIND = sys.argv[1:3]

Solve = Callable[[float], tuple[np.ndarray, float, int]]  # α -> weights, bias, rounds


def load() -> tuple[Any, np.ndarray, list[float]]:
    """The rows, float64, CSR; targets, or classes 0 and 1; and the values of α."""
    x, t = sparse.load_npz(f"{PATH}.npz"), np.load(f"{PATH}.npy")
    t = (t > np.median(t)).astype(float) if KIND == "logistic" else t
    largest = np.abs(x.T @ (t - t.mean())).max() / x.shape[0]
    return x, t, [float(largest * share) for share in SHARES]


def judge(x: Any, t: np.ndarray, w: np.ndarray, b: float, alpha: float) -> dict[str, Any]:
    """`mean loss + α Σ|w|`, half squared error or cross-entropy, float64; and how near its least this is.

    At the least a weight that is not 0 has `-∂loss/∂w/α = sign w`, and the others have at most 1 without the sign: the
    "pull". "off" is how far the pulls of all weights are from that. "near" has those of weights that are 0, by column,
    where it is above `NEAR`.
    """
    y = x @ w + b
    loss = (np.logaddexp(0, y) - t * y).mean() if KIND == "logistic" else ((y - t) ** 2).mean() / 2
    slope = 1 / (1 + np.exp(-y)) - t if KIND == "logistic" else y - t
    pull, kept = -(x.T @ slope) / len(t) / alpha, w != 0
    off = np.where(kept, np.abs(pull - np.sign(w)), np.maximum(np.abs(pull) - 1, 0)).max()
    near = np.flatnonzero(~kept & (np.abs(pull) > NEAR))
    return {
        "objective": float(loss + alpha * np.abs(w).sum()),
        "off": float(off),
        "kept": dict(zip(np.flatnonzero(kept).tolist(), w[kept].tolist(), strict=True)),
        "near": dict(zip(near.tolist(), np.abs(pull[near]).tolist(), strict=True)),
    }


def solve_all(x: Any, t: np.ndarray, alphas: list[float], solve: Solve) -> None:
    """Print as JSON what each α gives: seconds, rounds, the weights that are not 0, `judge`; and the first call."""
    begun = time.perf_counter()
    solve(alphas[0])
    first, found, peak_of_one = time.perf_counter() - begun, [], peak_bytes()
    for alpha in alphas:
        begun, before = time.perf_counter(), time.process_time()
        w, b, rounds = solve(alpha)
        row: dict[str, Any] = {"seconds": time.perf_counter() - begun, "processor": time.process_time() - before}
        found.append(row | {"rounds": rounds} | judge(x, t, np.asarray(w, np.float64).ravel(), float(b), alpha))
    peaks = {"peak_of_one_bytes": peak_of_one, "peak_bytes": peak_bytes()}
    print(json.dumps({"first": first, **peaks, "shares": SHARES, "found": found}))


def peak_bytes() -> int:
    """Of the whole process until now, libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
