"""How long does a first call take, with nothing compiled before: imports apart, in a process of its own?

- fit: 64-100-10 on the digits, batches of 64, 20 epochs, a share of 0.2 to validate on, accuracy.
- widths: five networks on these digits, 20 to 100 hidden units, 20 epochs each, the best of them.
- shapes: 1 to 3 hidden layers × four widths × three activations, 5 folds of 10 epochs; scikit-learn in two processes.
- predict: outputs for 100 different numbers of rows from 1 to 1,000, in random order.

Beside fnn the same by scikit-learn; fnn compiled as hard as for a long run; and a run written by hand in JAX, compiled
as JAX does and as plainly as XLA can: no library that compiles a run is done sooner.
"""

import importlib.util
from collections.abc import Callable
from functools import partial

from bench.output import publish
from bench.processes import printed_seconds, processes_in_turn

CALLS = {"fit": "20 epochs on the digits", "widths": "five widths", "shapes": "36 shapes, 5 folds"}
CALLS |= {"predict": "100 numbers of rows"}


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and pictures, return the tables."""
    return "\n\n".join(_measure(call, about, rounds, quick) for call, about in CALLS.items())


def _measure(call: str, about: str, rounds: int, quick: bool) -> str:
    candidates: dict[str, Callable[[], float]] = {"fnn": partial(printed_seconds, "first_fnn", call)}
    if call == "fit" and not quick:
        candidates["fnn, compile_effort high"] = partial(printed_seconds, "first_fnn", call, "high")
        candidates["plain JAX by hand"] = partial(printed_seconds, "first_plain_jax")
        candidates["plain JAX by hand, compiled plainly"] = partial(printed_seconds, "first_plain_jax", "quick")
    if importlib.util.find_spec("sklearn"):
        candidates["scikit-learn"] = partial(printed_seconds, "first_scikit_learn", call)
    measured = processes_in_turn(candidates, 1 if quick else max(3, rounds // 2))
    return publish(f"first_{call}", f"A first call of {call}: {about}", measured, "call", quick=quick)
