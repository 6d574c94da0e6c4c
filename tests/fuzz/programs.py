"""Random small training runs: everything that `fnn.fit` and its neighbours take, drawn from one seed."""

from random import Random
from typing import Any, NamedTuple

import numpy as np

import fnn
from tests.fuzz.costs import METRICS, PENALTIES, random_cost
from tests.fuzz.nets import random_net
from tests.fuzz.optimizers import random_optimizer

MOST_STEPS = 12
ENTRIES = {  # how often each is drawn
    "fit": 34,
    "trainer": 16,
    "closed over": 6,
    "vmap": 6,
    "nested": 6,
    "pieces": 5,
    "sweep": 6,
    "cross_validate": 5,
    "ensemble": 5,
    "stream": 6,
    "resume": 5,
}


class Table(NamedTuple):
    """Rows: inputs, targets, and a weight each or None."""

    x: np.ndarray
    t: np.ndarray
    weight: np.ndarray | None = None

    def taken(self, rows: Any) -> "Table":
        """Some of the rows."""
        return Table(self.x[rows], self.t[rows], None if self.weight is None else self.weight[rows])


class Program(NamedTuple):
    """One training run, and the way to ask for it."""

    seed: int
    entry: str
    about: str
    net: Any
    loss: Any
    optimizer: Any  # a function of the settings
    swept: bool  # whether it reads the setting "lr"
    train: Table
    validation: Table | None
    key: int
    epochs: int
    batch_size: int | None
    shuffle: bool
    gradient: Any
    reduction: str
    penalty: Any
    metrics: dict[str, Any]
    monitor: str
    patience: int | None


def random_program(seed: int) -> Program:
    """The program of a seed, the same as long as the tables that it is drawn from are."""
    r = Random(seed)
    rng = np.random.default_rng(seed)
    entry = r.choices(list(ENTRIES), list(ENTRIES.values()))[0]
    cost = random_cost(r)
    net = random_net(r, cost.outputs, cost.ending)
    optimizer = random_optimizer(r, entry in ("sweep", "vmap") and r.random() < 0.5)
    rows = r.choice([6, 8, 11, 16]) if entry == "cross_validate" else r.choice([1, 3, 5, 8, 11, 16, 16])
    sizes = [2, 3, 4, 5, 8] if entry == "stream" else [None, None, None, 2, 3, 4, 5, 8, rows, rows + 5]
    batch_size = r.choice(sizes)
    batches = -(-rows // min(batch_size or rows, rows))
    validates = entry != "cross_validate" and r.random() < 0.45
    metrics = {name: METRICS[name] for name in r.choice([[], [], ["first"], ["size", "first"]])}
    monitored = validates and metrics and r.random() < 0.3
    weighted = r.random() < 0.4

    def table(rows: int, weighted: bool) -> Table:
        x = rng.normal(size=(rows, *net.in_shape)).astype("float32")
        weight = _weights(r, rng, rows) if weighted else None
        return Table(x, cost.targets(rng, rows, cost.outputs), weight)

    reduction = "sum" if r.random() < 0.3 else "mean"
    gradient = r.choice([fnn.autodiff, fnn.autodiff, fnn.backprop])
    penalty = r.choice([None, None, None, *PENALTIES])
    program = Program(
        seed=seed,
        entry=entry,
        about="",
        net=net.layer,
        loss=cost.loss,
        optimizer=optimizer.of,
        swept=optimizer.swept,
        train=table(rows, weighted),
        validation=table(r.choice([1, 4, 7]), r.random() < 0.3) if validates else None,
        key=r.randint(0, 99),
        epochs=max(1, min(r.randint(1, 4), MOST_STEPS // batches)),
        batch_size=batch_size,
        shuffle=entry != "stream" and r.random() < 0.7,
        gradient=gradient,
        reduction=reduction,
        penalty=PENALTIES[penalty]() if penalty else None,
        metrics=metrics,
        monitor=r.choice(list(metrics)) if monitored else "loss",
        patience=r.choice([1, 2]) if validates and r.random() < 0.3 else None,
    )
    words = f"{entry}: {net.about}, {cost.about}, {optimizer.about}, {rows} rows in batches of {batch_size}"
    more = [reduction, gradient.__name__, penalty, "weights" if weighted else None, "validation" if validates else None]
    return program._replace(about=", ".join([words, *(word for word in more if word)]))


def _weights(r: Random, rng: np.random.Generator, rows: int) -> np.ndarray:
    """Whole numbers, some of them 0, but not all; or numbers around 1."""
    if r.random() < 0.5:
        return rng.uniform(0.2, 2, rows).astype("float32")
    return np.append(rng.integers(0, 3, rows - 1), 1).astype("float32")
