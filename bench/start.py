"""How long does a small training run take as a whole: start Python, import, compile, train, end?

The 2-3-2 network, 100 rows, 300 steps, each library in a script of its own (`bench/scripts/small_*.py`), each run in a
fresh process, in turn. "Cache warm": compiled programs are found on the disk, from a run before. The bound is a
process that imports JAX, NumPy and optax, and compiles a sum.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial

from bench.output import publish
from bench.processes import processes_in_turn, seconds

PEERS = {  # package -> name, script, whether `--quick` does without
    "sklearn": ("scikit-learn", "small_scikit_learn", False),
    "torch": ("PyTorch", "small_pytorch", True),
    "keras": ("Keras on JAX", "small_keras", True),
}


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and picture, return the table."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        candidates: dict[str, Callable[[], float]] = {
            "fnn": lambda: seconds("small_fnn"),
            "bound: imports, and one sum compiled": lambda: seconds("small_imports"),
            "plain JAX script": lambda: seconds("small_plain_jax"),
        }
        if not quick:
            candidates["fnn, cache warm"] = lambda: seconds("small_fnn", ours)
            candidates["plain JAX script, cache warm"] = lambda: seconds("small_plain_jax", theirs)
            for script, folder in (("small_fnn", ours), ("small_plain_jax", theirs)):
                seconds(script, folder)  # fills the cache
        for package, (name, script, slow) in PEERS.items():
            if importlib.util.find_spec(package) and not (quick and slow):
                candidates[name] = partial(seconds, script)
        measured = processes_in_turn(candidates, 1 if quick else max(3, rounds // 2))
    question = "A whole process: start, import, compile, 300 steps of the 2-3-2 network"
    return publish("start", question, measured, "process", quick=quick)
