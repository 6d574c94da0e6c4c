"""How much memory does a fit take at the most?

784-512-512-10, 60,000 rows, batches of 128, momentum, two epochs, each library in a script of its own
(`bench/scripts/large_*.py`) and a fresh process. Anonymous memory of the whole process on the host, the library's own
included. The bound is the bytes of the rows, the parameters and the momentum.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from bench.dense import SIZES
from bench.output import publish
from bench.processes import peak_bytes, processes_in_turn

ROWS, QUICK_ROWS = 60_000, 2_000


def least(rows: int) -> float:
    """Bytes of rows with their classes, of parameters, and of one number of momentum for each parameter."""
    parameters = sum((m + 1) * n for m, n in pairwise(SIZES))
    return 4.0 * (rows * (SIZES[0] + 1) + 2 * parameters)


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    rows = QUICK_ROWS if quick else ROWS
    candidates: dict[str, Callable[[], float]] = {
        "fnn": lambda: peak_bytes("large_fnn", str(rows)),
        "bound: rows, parameters, momentum": lambda: least(rows),
        "plain JAX script": lambda: peak_bytes("large_plain_jax", str(rows)),
    }
    if importlib.util.find_spec("torch") and not quick:
        candidates["PyTorch"] = partial(peak_bytes, "large_pytorch", str(rows))
    measured = processes_in_turn(candidates, 1 if quick else max(3, rounds // 5))
    question = f"Peak memory of a fit: 784-512-512-10, {rows:,} rows, batches of 128, two epochs"
    return publish("memory", question, measured, "process", quick=quick, kind="bytes", figures={"rows": rows})
