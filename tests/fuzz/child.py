"""Runs the programs of some seeds one after another, and says of each how it ended. For a process of its own.

`python -m tests.fuzz.child FIRST COUNT` prints a line of JSON before each program and one after it. To look at a single
program, `python -m tests.fuzz.child SEED 1`.
"""

import gc
import json
import sys
import time
import traceback
import warnings
from typing import Any

import jax
import numpy as np

import fnn
from fnn.kernels import loops
from tests.fuzz.entries import ENTRIES, Found
from tests.fuzz.plain import Moment, Plain
from tests.fuzz.programs import random_program

SAME = 1e-4  # how far `fnn` may be from the plain loop, over the size of what is compared, in float32
STEADY = 2e-5  # how far the plain loop may be from itself where its numbers are shaken
SIZE = 0.1  # the least size that anything is taken to have
FINER = np.finfo("float32").eps / np.finfo("float64").eps  # how much smaller rounding is in float64


def difference(one: Any, other: Any) -> float:
    """The largest difference of two trees over the size of the largest number of that array; nan equals nan."""
    a, b = (jax.tree.leaves(tree) for tree in (one, other))
    if len(a) != len(b) or any(np.shape(p) != np.shape(q) for p, q in zip(a, b, strict=True)):
        return float("inf")
    return max((_apart(np.asarray(p), np.asarray(q)) for p, q in zip(a, b, strict=True)), default=0.0)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    if a.size == 0:
        return 0.0
    a, b = a.astype(float), b.astype(float)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    return float(np.abs(a - b).max() / max(SIZE, np.abs(b).max()))


def steady_epochs(moments: list[Moment], shaken: list[Moment]) -> int:
    """After how many epochs rounding still has no say in what comes out."""
    for epochs, (one, other) in enumerate(zip(moments, shaken, strict=False)):
        known = [(m.params, m.state, m.best, m.history) for m in (one, other)]
        if not (one.sure and other.sure and one.ended == other.ended and difference(*known) < STEADY):
            return epochs
    return min(len(moments), len(shaken))


def run(seed: int) -> dict[str, Any]:
    """Train the program both ways, and compare; what differs by rounding alone is not judged.

    Adam, say, makes a step of a gradient that is 0 but for rounding, which no shaken number shows. In float64 the two
    are then apart by as much less as rounding is smaller.
    """
    result = compare(seed)
    if result["outcome"] == "differs":
        with jax.enable_x64(True):
            wide = compare(seed, "float64")["apart"] * FINER
        if result["apart"] / 10 < wide < 10:
            return result | {"outcome": "not judged", "about": f"{result['about']}; by rounding alone, {wide}"}
    return result


def compare(seed: int, dtype: str = "float32") -> dict[str, Any]:
    """Train the program both ways with inputs of this dtype, and compare."""
    program = random_program(seed)
    train = program.train._replace(x=program.train.x.astype(dtype))
    program = program._replace(train=train)
    entry, plain = ENTRIES[program.entry], Plain(program)
    members = entry.members(program)
    all_moments, epochs = [], program.epochs
    for m in members:
        asked = (m.key, m.settings, m.train, m.validation, entry.stream)
        try:
            moments, shaken = plain.run(*asked), plain.run(*asked, np.random.default_rng(0))
        except Exception as error:  # optax alone has no result: `flatten` of no arrays
            why = f"{program.about}; the plain loop raises {type(error).__name__}: {error}"
            return {"outcome": "not judged", "apart": 0.0, "epochs": 0, "about": why, "entry": program.entry}
        all_moments.append(moments)
        steady = steady_epochs(moments, shaken)
        epochs = min(epochs, program.epochs if steady == len(moments) and moments[-1].ended else steady)
    program = program._replace(epochs=max(epochs, 1))
    found = entry.train(program, members)
    if "schedule_free" in program.about and "batch_norm" in program.about:
        why = f"{program.about}; statistics of averaged parameters: tests/optimizers/test_evaluation.py"
        return {"outcome": "not judged", "apart": 0.0, "epochs": 0, "about": why, "entry": program.entry}
    last = [moments[: program.epochs][-1] for moments in all_moments]
    apart = max(_compared(plain, m, one, f) for m, one, f in zip(members, last, found, strict=True))
    outcome = "not judged" if epochs == 0 else "same" if apart < SAME else "differs"
    return {"outcome": outcome, "apart": apart, "epochs": epochs, "about": program.about, "entry": program.entry}


def _compared(plain: Plain, member: Any, expected: Moment, found: Found) -> float:
    pairs = [(found.last, (expected.params, expected.state)), (found.best, expected.best)]
    if found.history is not None:
        pairs.append((_columns(found.history, len(expected.history.get("loss", []))), expected.history))
    if found.outputs is not None:
        pairs.append((found.outputs, plain.outputs(expected, member.judged)))
    return max(difference(a, b) for a, b in pairs if a is not None)


def _columns(history: Any, epochs: int) -> dict[str, Any]:
    """A history as the plain loop has it."""
    if not isinstance(history, fnn.History):
        return {name: list(values[:epochs]) for name, values in history.items()}
    held = {} if history.validation_loss is None else {"loss": history.validation_loss, **history.validation_metrics}
    columns = {"loss": history.loss, **history.metrics, **{f"validation_{name}": v for name, v in held.items()}}
    return {name: list(values) for name, values in columns.items()}


def _counted() -> list[int]:
    """How many loops XLA has been asked to make one function of, as a list that grows."""
    counts: list[int] = []
    whole = loops._one_function

    def counting(call: Any) -> Any:
        counts.append(1)
        return whole(call)

    loops._one_function = counting  # type: ignore[assignment]
    return counts


def main(first: int, count: int) -> None:
    """Programs `first`, `first + 1`, …, one line each."""
    warnings.simplefilter("ignore")
    counts = _counted()
    for seed in range(first, first + count):
        print(json.dumps({"begins": seed}), flush=True)
        begun, before = time.process_time(), len(counts)
        try:
            result = run(seed)
        except Exception:
            text = traceback.format_exc().strip()
            result = {"outcome": "raises", "about": random_program(seed).about, "error": text[-400:]}
        result |= {"seconds": round(time.process_time() - begun, 2), "one_function": len(counts) > before}
        print(json.dumps({"seed": seed, **result}), flush=True)
        if seed % 20 == 19:
            jax.clear_caches()
            gc.collect()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
