"""`FnnSearchCV` against scikit-learn's `GridSearchCV` of `MLPClassifier`: 60 fits of 64-100-10 on the digits.

4 learning rates × 3 penalties × 5 stratified folds, 50 epochs of Adam, each side's own batches (200 rows), judged by
accuracy; then the best on all rows. Each is measured in a process of its own, after its imports. fnn's first call
compiles. scikit-learn runs in two processes, and its later calls are compared: its first also starts the processes.
"""

import importlib.util
import warnings
from typing import Any

import fnn as fnn  # its compilation cache is set by `bench.study`
from bench.output import publish
from bench.study import digits as digits, in_a_process
from bench.timing import Measured, Timing, in_a_line

GRID = {"learning_rate_init": (1e-3, 3e-3, 1e-2, 3e-2), "alpha": (1e-4, 1e-3, 1e-2)}
FOLDS, EPOCHS = 5, 50
LATER, FIRST, PEER, PEER_FIRST = (
    "fnn, later calls",
    "fnn, first call",
    "scikit-learn, two processes, later calls",
    "scikit-learn, two processes, first call",
)


def by_fnn(quick: bool = False) -> float:
    """The search; its best mean accuracy."""
    from fnn.sklearn import FnnClassifier, FnnSearchCV

    return best_score(FnnSearchCV(FnnClassifier(max_iter=EPOCHS, random_state=0), **how(quick)))


def by_scikit_learn(quick: bool = False) -> float:
    """The same by `GridSearchCV` in two processes."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(max_iter=EPOCHS, n_iter_no_change=EPOCHS + 1, random_state=0)
    return best_score(GridSearchCV(net, n_jobs=2, **how(quick)))


def how(quick: bool) -> dict[str, Any]:
    """The candidates and the folds."""
    from sklearn.model_selection import StratifiedKFold

    grid = {name: values[: 2 if quick else None] for name, values in GRID.items()}
    return {"param_grid": grid, "cv": StratifiedKFold(2 if quick else FOLDS, shuffle=True, random_state=0)}


def best_score(search: Any) -> float:
    """Of a search, fitted to the digits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 50 epochs are few
        return float(search.fit(*digits()).best_score_)


def main(rounds: int = 15, quick: bool = False) -> str:
    """Measure, write JSON, return the table."""
    if not importlib.util.find_spec("sklearn"):
        return 'search: it is one of scikit-learn. Run: pip install "fnn[bench]"'
    seconds: dict[str, list[float]] = {LATER: [], FIRST: [], PEER: [], PEER_FIRST: []}
    accuracy, left_out = {}, {}
    for _ in range(1 if quick else max(3, rounds // 3)):
        (first, *others), accuracy["accuracy_of_fnn"] = in_a_process("by_fnn", 2 if quick else 5, quick, "", __name__)
        seconds[FIRST].append(first)
        seconds[LATER] += others
        try:
            calls = 2 if quick else 3
            (first, *others), accuracy["accuracy_of_scikit_learn"] = in_a_process(
                "by_scikit_learn", calls, quick, "", __name__
            )
            seconds[PEER_FIRST].append(first)
            seconds[PEER] += others
        except RuntimeError as error:
            left_out[PEER] = in_a_line(error)
    found = Measured([Timing(name, 0.0, tuple(each)) for name, each in seconds.items() if each], left_out)
    fits = 4 * 2 if quick else len(GRID["learning_rate_init"]) * len(GRID["alpha"]) * FOLDS
    question = f"A grid search by accuracy: {fits} fits of 64-100-10 on the digits, and one more on all rows"
    text = publish("search", question, found, "search", quick=quick, figures=accuracy)
    return "\n".join([text, *(f"{name}: {100 * value:.2f} %" for name, value in accuracy.items())])
