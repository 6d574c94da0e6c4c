"""Choosing settings by cross-validation: 60 fits of 64-100-10 on the digits, against scikit-learn's grid search.

4 learning rates × 3 penalties × 5 stratified folds, 20 epochs, batches of 100, momentum 0.9. fnn is measured in a
process of its own, after its imports: the first call, which compiles; the same with JAX's compilation cache on the
disk filled; and later calls. scikit-learn's `GridSearchCV` runs in two processes, and its later calls are the ones
that fnn is compared with: its first also starts the processes.

Then 4,096 of the documents' 2-3-2 networks, 100 rows, full batch, 300 steps: microseconds a network and step, beside
PyTorch's eager step of one, where it is installed.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import fnn
from bench.step import LOSS, NET, PEERS, rows
from bench.timing import Timing, report, save

RATES, PENALTIES, FOLDS, EPOCHS, BATCH = (0.03, 0.1, 0.2, 0.3), (0.0, 1e-4, 1e-3), 5, 20, 100
MEMBERS, STEPS = 4_096, 300


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real images, 8 × 8 pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    x, t = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), t


def choice() -> float:
    """The study by fnn; the best mean accuracy."""
    found = fnn.cross_validate(
        fnn.serial(fnn.dense(100), fnn.relu, fnn.dense(10)),
        fnn.losses.sparse_softmax_cross_entropy,
        lambda s: optax.sgd(s["lr"], momentum=0.9),
        digits(),
        penalty=lambda s: fnn.penalties.l2(s["l2"]),
        over={"lr": RATES, "l2": PENALTIES},
        folds=FOLDS,
        epochs=EPOCHS,
        batch_size=BATCH,
        metrics={"accuracy": fnn.accuracy},
        monitor="accuracy",
        mode="max",
        refit=False,
        progress=False,
    )
    return float(found.table["validation_accuracy"].max())


def by_scikit_learn() -> float:
    """The same by `GridSearchCV` in two processes."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.neural_network import MLPClassifier

    x, t = digits()
    net = MLPClassifier(
        (100,), solver="sgd", momentum=0.9, nesterovs_momentum=False, batch_size=BATCH, max_iter=EPOCHS,
        n_iter_no_change=EPOCHS + 1, random_state=0,
    )  # fmt: skip
    # its derivative is alpha w / rows of a batch, that of l2(c) is 2 c w
    grid = {"learning_rate_init": RATES, "alpha": [2 * BATCH * p for p in PENALTIES]}
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 20 epochs are few
        return float(GridSearchCV(net, grid, cv=folds, n_jobs=2, refit=False).fit(x, t).best_score_)


WORKER = """
import json, sys, time
import bench.study as study
study.digits()
if sys.argv[3]:
    study.fnn.enable_compile_cache(sys.argv[3])
seconds = []
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    accuracy = getattr(study, sys.argv[1])()
    seconds.append(time.perf_counter() - begun)
print(json.dumps([seconds, accuracy]))
"""


def in_a_process(name: str, calls: int, cache: str = "") -> tuple[list[float], float]:
    """Seconds of each call in a fresh process, imports and data apart; and the accuracy."""
    # the processes that scikit-learn starts take their settings from the environment
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", WORKER, name, str(calls), cache]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: expected seconds, got an error:\n{done.stderr}")
    seconds, accuracy = json.loads(done.stdout.splitlines()[-1])
    return seconds, accuracy


def grid_search(rounds: int) -> tuple[list[Timing], dict[str, float]]:
    """Both, turn by turn."""
    cold: list[float] = []
    cached: list[float] = []
    later: list[float] = []
    peers: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        in_a_process("choice", 1, folder)
        for _ in range(max(3, rounds // 3)):
            (first, *others), ours = in_a_process("choice", 4)
            cold.append(first)
            later += others
            cached += in_a_process("choice", 1, folder)[0]
            (_, *others), theirs = in_a_process("by_scikit_learn", 3)
            peers += others
    timings = [
        Timing("fnn, later calls", 0.0, tuple(later)),
        Timing("fnn, compilation cache filled", 0.0, tuple(cached)),
        Timing("fnn, first call", 0.0, tuple(cold)),
        Timing("scikit-learn, two processes", 0.0, tuple(peers)),
    ]
    return timings, {"accuracy_of_fnn": ours, "accuracy_of_scikit_learn": theirs}


def many(rounds: int) -> list[Timing]:
    """Seconds a network and step of thousands of small networks; and of one by PyTorch."""
    data = rows()

    def sweep() -> None:
        fnn.sweep(
            NET, LOSS, lambda s: optax.sgd(s["lr"], momentum=0.9), (data.train.x, data.train.t), reduction="sum",
            over={"lr": np.linspace(0.001, 0.02, MEMBERS)}, epochs=STEPS, progress=False,
        )  # fmt: skip

    timings = [_timed(f"{MEMBERS} networks, a network and step", sweep, MEMBERS * STEPS, rounds)]
    if importlib.util.find_spec("torch"):
        name, make = PEERS["torch"]
        work, units = make(data)
        timings.append(_timed(name, work, units, rounds))
    return timings


def _timed(name: str, work: Callable[[], Any], units: int, rounds: int) -> Timing:
    seconds = []
    for _ in range(rounds + 1):  # the first compiles
        begun = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append((time.perf_counter() - begun) / units)
    return Timing(name, seconds[0] * units, tuple(seconds[1:]))


def main(rounds: int = 15) -> str:
    """Measure, write the JSON, return the table."""
    question = f"A choice of settings: {len(RATES) * len(PENALTIES) * FOLDS} fits of 64-100-10 on the digits"
    timings, figures = grid_search(rounds)
    small = many(max(3, rounds // 3))
    peer = timings[-1].middle
    ratios = {f"scikit-learn over {t.name}": peer / t.middle for t in timings[:-1]}
    if len(small) > 1:
        ratios["PyTorch eager step over a step of one of many"] = small[1].middle / small[0].middle
    path = save("study", question, [*timings, *small], **figures, **ratios)
    words = "\n".join(f"{name}: {ratio:.1f}" for name, ratio in ratios.items())
    words += "\n" + "\n".join(f"{name}: {100 * value:.2f} %" for name, value in figures.items())
    return f"{report(question, timings, 'study')}\n{report('', small, 'step')}\n{words}\nWritten to {path.name}."
