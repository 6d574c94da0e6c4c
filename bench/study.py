"""Choosing settings by cross-validation: 60 fits of 64-100-10 on the digits, against scikit-learn's grid search.

4 learning rates × 3 penalties × 5 stratified folds, 20 epochs, batches of 100, momentum 0.9. fnn is measured in a
process of its own, after its imports: the first call, which compiles; the same with JAX's compilation cache on the
disk filled; and later calls. Beside it the same written by hand in JAX, as `bench.peers.plain_study` has it.
scikit-learn's `GridSearchCV` runs in two processes, and its later calls are the ones
that fnn is compared with: its first also starts the processes.

Then 4,096 of the documents' 2-3-2 networks, 100 rows, full batch, 300 steps: microseconds per network and step, beside
PyTorch's eager step of one, where it is installed, and the hand-written loop in C on one core.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import optax

import fnn
from bench import peers
from bench.bounds import dense_products, products
from bench.output import publish
from bench.peers import plain_study
from bench.step import C_LOOP, LOOP_STEPS, LOSS, NET, rows, task
from bench.timing import Make, Measured, Timing, in_a_line, in_turn

RATES, PENALTIES, FOLDS, EPOCHS, BATCH = (0.03, 0.1, 0.2, 0.3), (0.0, 1e-4, 1e-3), 5, 20, 100
SIZES, ROWS = (64, 100, 10), 1_797  # of the network, of the digits
MEMBERS, STEPS = 4_096, 300


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real images, 8 × 8 pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    x, t = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), t


def grid(quick: bool) -> tuple[dict[str, Any], int]:
    """The settings, and how many folds."""
    rates, penalties, folds = (RATES[:2], PENALTIES[:1], 3) if quick else (RATES, PENALTIES, FOLDS)
    return {"lr": rates, "l2": penalties}, folds


def choice(quick: bool = False) -> float:
    """The study by fnn; the best mean accuracy."""
    over, folds = grid(quick)
    found = fnn.cross_validate(
        fnn.serial(fnn.dense(100), fnn.relu, fnn.dense(10)),
        fnn.losses.sparse_softmax_cross_entropy,
        lambda s: optax.sgd(s["lr"], momentum=0.9),
        digits(),
        penalty=lambda s: fnn.penalties.l2(s["l2"]),
        over=over,
        folds=folds,
        epochs=EPOCHS,
        batch_size=BATCH,
        metrics={"accuracy": fnn.accuracy},
        monitor="accuracy",
        mode="max",
        refit=False,
        progress=False,
    )
    return float(found.table["validation_accuracy"].max())


def by_plain_jax(quick: bool = False) -> float:
    """The same by hand in JAX."""
    over, folds = grid(quick)
    return plain_study.study(*digits(), over, folds, EPOCHS, BATCH)


def by_scikit_learn(quick: bool = False) -> float:
    """The same by `GridSearchCV` in two processes."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.neural_network import MLPClassifier

    (x, t), (over, folds) = digits(), grid(quick)
    net = MLPClassifier(
        (100,), solver="sgd", momentum=0.9, nesterovs_momentum=False, batch_size=BATCH, max_iter=EPOCHS,
        n_iter_no_change=EPOCHS + 1, random_state=0,
    )  # fmt: skip
    # its derivative is alpha w / rows of a batch, that of l2(c) is 2 c w
    settings = {"learning_rate_init": over["lr"], "alpha": [2 * BATCH * p for p in over["l2"]]}
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 20 epochs are few
        return float(GridSearchCV(net, settings, cv=splits, n_jobs=2, refit=False).fit(x, t).best_score_)


WORKER = """
import importlib, json, sys, time
module = importlib.import_module(sys.argv[5])
module.digits()
if sys.argv[3]:
    module.fnn.enable_compile_cache(sys.argv[3])
seconds = []
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    accuracy = getattr(module, sys.argv[1])(sys.argv[4] == "quick")
    seconds.append(time.perf_counter() - begun)
print(json.dumps([seconds, accuracy]))
"""


def in_a_process(
    name: str, calls: int, quick: bool, cache: str = "", module: str = "bench.study"
) -> tuple[list[float], float]:
    """Seconds of each call of this function in a fresh process, imports and data apart; and the accuracy."""
    # the processes that scikit-learn starts take their settings from the environment
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", WORKER, name, str(calls), cache, "quick" if quick else "", module]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: expected seconds, got an error:\n{done.stderr}")
    seconds, accuracy = json.loads(done.stdout.splitlines()[-1])
    return seconds, accuracy


def grid_search(rounds: int, quick: bool) -> tuple[Measured, dict[str, float]]:
    """Both, turn by turn."""
    names = (LATER, BOUND, CACHED, FIRST, PLAIN_LATER, PLAIN_CACHED, PLAIN_FIRST, PEER)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    accuracy, left_out = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        if not quick:
            for by in ("choice", "by_plain_jax"):
                in_a_process(by, 1, quick, folder)
        for _ in range(rounds):
            (first, *others), accuracy["accuracy_of_fnn"] = in_a_process("choice", 2 if quick else 4, quick)
            seconds[FIRST].append(first)
            seconds[LATER] += others
            if not quick:
                seconds[CACHED] += in_a_process("choice", 1, quick, folder)[0]
                (first, *others), accuracy["accuracy_of_plain_jax"] = in_a_process("by_plain_jax", 4, quick)
                seconds[PLAIN_FIRST].append(first)
                seconds[PLAIN_LATER] += others
                seconds[PLAIN_CACHED] += in_a_process("by_plain_jax", 1, quick, folder)[0]
            try:
                (_, *others), right = in_a_process("by_scikit_learn", 2 if quick else 3, quick)
                seconds[PEER] += others
                accuracy["accuracy_of_scikit_learn"] = right
            except RuntimeError as error:
                left_out[PEER] = in_a_line(error)
    seconds[BOUND] += products_of_the_study(rounds, quick)
    return Measured([Timing(name, 0.0, tuple(found)) for name, found in seconds.items() if found], left_out), accuracy


LATER, FIRST, CACHED = "fnn, later calls", "fnn, first call", "fnn, compilation cache filled"
PLAIN_LATER, PLAIN_FIRST = "plain JAX by hand, later calls", "plain JAX by hand, first call"
PLAIN_CACHED = "plain JAX by hand, compilation cache filled"
BOUND, PEER = "bound: its products, a fit per core", "scikit-learn, two processes"


def products_of_the_study(rounds: int, quick: bool) -> list[float]:
    """Seconds of the matrix products of all its steps: each core has those of one network at a time."""
    folds, workers = grid(quick)[1], os.cpu_count() or 1 if jax.default_backend() == "cpu" else 1
    steps = fits(quick) * EPOCHS * -(-ROWS * (folds - 1) // folds // BATCH)
    few = 2_000
    work = products(dense_products(SIZES, BATCH), few)

    def on_each_core() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda _: jax.block_until_ready(work()), range(workers)))

    timing = in_turn({"": (lambda: on_each_core, few * workers)}, max(3, rounds)).timings[0]
    return [steps * seconds for seconds in timing.rounds]


def fits(quick: bool) -> int:
    """How many networks the study trains."""
    over, folds = grid(quick)
    return len(over["lr"]) * len(over["l2"]) * folds


def many(rounds: int, quick: bool) -> Measured:
    """Seconds a network and step of thousands of small networks; of one by the loop in C, and by PyTorch."""
    data, members = rows(), MEMBERS // 8 if quick else MEMBERS

    def sweep() -> None:
        fnn.sweep(
            NET, LOSS, lambda s: optax.sgd(s["lr"], momentum=0.9), (data.train.x, data.train.t), reduction="sum",
            over={"lr": np.linspace(0.001, 0.02, members)}, epochs=STEPS, progress=False,
        )  # fmt: skip

    candidates: dict[str, tuple[Make, int]] = {
        f"fnn, {members:,} networks, per network and step": (lambda: sweep, members * STEPS),
        **C_LOOP,
        **peers.installed(task(), LOOP_STEPS, False, (peers.EAGER, peers.GRAPH)),
    }
    return in_turn(candidates, rounds)


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON and pictures, return the tables."""
    fewer = 1 if quick else max(3, rounds // 3)
    parts = []
    if importlib.util.find_spec("sklearn"):
        question = f"A choice of settings: {fits(quick)} fits of 64-100-10 on the digits"
        found, accuracy = grid_search(fewer, quick)
        text = publish("study", question, found, "study", quick=quick, figures=accuracy)
        parts.append("\n".join([text, *(f"{name}: {100 * value:.2f} %" for name, value in accuracy.items())]))
    else:  # the digits are in scikit-learn
        parts.append('study: the digits come with scikit-learn. Run: pip install "fnn[bench]"')
    question = "A training step of the 2-3-2 network, of thousands of networks at once"
    parts.append(publish("many", question, many(fewer, quick), "step", quick=quick))
    return "\n\n".join(parts)
