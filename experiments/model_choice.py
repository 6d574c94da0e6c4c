"""Model choice: learning rate and penalty by cross-validation, then an ensemble of what was chosen.

Question: does cross-validation choose settings, and foretell how well they do on rows that it never saw; and does an
          ensemble know which of those it gets wrong?
Source:   D4 asks for cross-validation, against over-fitting. Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x, of
          choosing by it; Kohavi 1995 of stratified folds; Lakshminarayanan, Pritzel & Blundell 2017, arXiv:1612.01474,
          of ensembles and their spread. Data: scikit-learn's digits (1,797 images) and breast-cancer study (569).
Command:  python -m experiments model_choice
Time:     about 20 seconds on two CPU cores.
Expected: about 98 % of the held-out digits right (at least 96) and 98 % of the cases (at least 93), no more than 3
          standard errors from the accuracy out of fold; the members' spread is about ten times as large where they are
          wrong. Grids, sizes and epochs were chosen on the splits of keys 100 to 119, where the worst were 96.2 and
          93.7 % and 2.8 standard errors; in one of these 40 studies the spread told nothing (2 of 143 cases wrong).
          Key 0 is reported.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax
from matplotlib.figure import Figure as Picture
from sklearn.datasets import load_breast_cancer, load_digits

import fnn
from experiments.report import OURS, Figure, Result, Row, at_least, at_most, holds
from fnn import plots

BATCH, HELD_OUT = 32, 0.25
LOSS = fnn.losses.sparse_softmax_cross_entropy


class Task(NamedTuple):
    """Data, a network for them, and how long it trains."""

    name: str
    load: Callable[..., Any]
    hidden: int
    epochs: int
    least: float  # % of the held-out rows
    wrong: str  # what a mistake is called


DIGITS = Task("Digits", load_digits, 100, 15, 96.0, "misread")
CANCER = Task("Breast cancer", load_breast_cancer, 16, 20, 93.0, "misjudged")


class Settings(NamedTuple):
    """Sizes."""

    tasks: tuple[Task, ...] = (DIGITS, CANCER)
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    penalties: tuple[float, ...] = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
    folds: int = 5
    members: int = 10
    key: int = 0


class Studied(NamedTuple):
    """What was chosen for a task, and what the networks say of the held-out rows."""

    task: Task
    found: Any  # the cross-validation
    t: np.ndarray  # classes of the rows that it had
    held: np.ndarray  # classes of the rows that it had not
    read: np.ndarray  # as what the network with the chosen settings reads these
    members: np.ndarray  # what each member of an ensemble makes of them: probabilities (members, rows, classes)
    together: Any  # their mean and spread

    @property
    def out_of_fold(self) -> float:
        """Share of the rows that are read rightly by the network that has not seen their fold, in %."""
        return percent(self.found.predictions.argmax(1) == self.t)

    @property
    def held_out(self) -> float:
        """Share of the held-out rows that the network trained on all others reads rightly, in %."""
        return percent(self.read == self.held)

    @property
    def apart(self) -> float:
        """How far these two are apart, in standard errors of their difference."""
        p = np.clip((self.out_of_fold + self.held_out) / 200, 1e-3, 1 - 1e-3)
        error = np.sqrt(p * (1 - p) * (1 / len(self.t) + 1 / len(self.held)))
        return float(abs(self.out_of_fold - self.held_out) / 100 / error)

    @property
    def singly(self) -> np.ndarray:
        """Accuracy of each member on the held-out rows, in %."""
        return 100 * (self.members.argmax(2) == self.held).mean(1)

    @property
    def right(self) -> np.ndarray:
        """Which of the held-out rows the members read rightly together."""
        return self.together.mean.argmax(1) == self.held

    @property
    def spread(self) -> np.ndarray:
        """How far the members are apart in the probability of the class that they choose together, row by row."""
        return np.take_along_axis(self.together.spread, self.together.mean.argmax(1)[:, None], 1)[:, 0]


def percent(right: np.ndarray) -> float:
    """Share, in %."""
    return float(100 * right.mean())


def main(settings: Settings) -> Result:
    """Choose, train anew, ask ten at once."""
    studied = [study(task, settings) for task in settings.tasks]
    return Result(
        title="Model choice: cross-validation and ensembles",
        question="Does cross-validation foretell how well its choice will do, and does an ensemble know its mistakes?",
        rows=[row for one in studied for row in rows_of(one)],
        figures=[
            *(Figure(f"{one.task.name}: what was tried", f"Chosen by the lowest mean cost over {settings.folds} folds, "
                     "of rows that the fold's network has not seen.", heat_map(one)) for one in studied),
            *(Figure(f"{one.task.name}: the best of the table", "As the result prints; means over the folds, and "
                     "standard deviations.", table(one)) for one in studied),
            *(Figure(f"{one.task.name}: where the members disagree", "Held-out rows, by the standard deviation over "
                     "the members of the probability of the class that they choose together.", spreads(one))
              for one in studied),
        ],
        notes=[note for one in studied for note in notes_of(one)],
        numbers={"studied": studied},
    )  # fmt: skip


def study(task: Task, settings: Settings) -> Studied:
    """Hold rows out; choose, train and standardise by the others alone."""
    x, t = task.load(return_X_y=True)
    x = x.astype(np.float32)
    (x, t), (x_held, t_held) = fnn.hold_out(x, t, HELD_OUT, key=settings.key, stratify=t)
    net = fnn.serial(fnn.dense(task.hidden), fnn.relu, fnn.dense(int(t.max()) + 1))
    training: dict[str, Any] = {
        "penalty": lambda s: fnn.penalties.l2(s["l2"]),
        **{"epochs": task.epochs, "batch_size": BATCH, "key": settings.key, "progress": False},
    }
    found: Any = fnn.cross_validate(
        net, LOSS, optimizer, (x, t), over={"lr": settings.rates, "l2": settings.penalties}, folds=settings.folds,
        stratify=True, standardise=True, metrics={"accuracy": fnn.accuracy}, **training,
    )  # fmt: skip
    rows, held = found.standardiser(x), found.standardiser(x_held)
    crowd = fnn.ensemble(net, LOSS, optimizer, (rows, t), members=settings.members, settings=found.settings, **training)
    count = len(crowd.params[0]["w"])  # those that diverged are not among them
    members = [np.asarray(fnn.softmax(fnn.predict(net, crowd.member(i), held))) for i in range(count)]
    read = fnn.predict(net, found.run, held).argmax(1)
    return Studied(task, found, t, t_held, read, np.stack(members), crowd.predict(held))


def optimizer(settings: Any) -> optax.GradientTransformation:
    """Descent with momentum."""
    return optax.sgd(settings["lr"], momentum=0.9)


# ---- what came out


def rows_of(one: Studied) -> list[Row]:
    """What is claimed of a task."""
    name, singly, together = one.task.name, one.singly, percent(one.right)
    found = f"{singly.min():.1f} to {singly.max():.1f}, mean {singly.mean():.1f}; together {together:.1f}"
    return [
        at_least(f"{name}: held-out accuracy with the chosen settings, %", one.task.least, one.held_out),
        at_most(f"{name}: out-of-fold and held-out accuracy apart, standard errors", 3.0, one.apart),
        holds(f"{name}: held-out accuracy of {len(singly)} members, %", "together at least as the worst", found,
              "at least as the worst", together >= singly.min(), OURS),
        at_most(f"{name}: held-out cost of the ensemble, of its members' mean", 1.0, cost_ratio(one)),
        at_least(f"{name}: mean spread of the rows it gets wrong, of that of the others", 2.0, spread_ratio(one)),
    ]  # fmt: skip


def cost_ratio(one: Studied) -> float:
    """`-log` of the mean probability of the true class over the mean of `-log` of each; below 1 by Jensen."""
    true = np.arange(len(one.held)), one.held
    return float(-np.log(one.together.mean[true]).mean() / -np.log(one.members[:, *true]).mean())


def spread_ratio(one: Studied) -> float:
    """Mean spread of the rows got wrong over that of the others; inf if none was."""
    if one.right.all():
        return float("inf")
    return float(one.spread[~one.right].mean() / one.spread[one.right].mean())


def notes_of(one: Studied) -> list[str]:
    """The numbers behind the rows."""
    chosen = ", ".join(f"{name} {value:g}" for name, value in one.found.settings.items())
    lost = int((one.found.table["diverged"] > 0).sum())
    wrong = int((~one.right).sum())
    return [
        f"{one.task.name}: {len(one.t):,} rows to choose by and to train on, {len(one.held)} held out, each class in "
        f"proportion. Chosen: {chosen}" + f"; {lost} of {len(one.found.points)} settings diverged." * bool(lost),
        f"{one.task.name}: {one.out_of_fold:.1f} % right out of fold, {one.held_out:.1f} % held out, "
        f"{one.apart:.1f} standard errors apart.",
        f"{one.task.name}: single members {one.singly.min():.1f} to {one.singly.max():.1f} % right, "
        f"{one.singly.mean():.1f} % on average; together {percent(one.right):.1f} %. {wrong} {one.task.wrong}.",
    ]


# ---- pictures


def heat_map(one: Studied) -> Picture:
    """All settings."""
    return plots.sweep(one.found, "lr", "l2")


def table(one: Studied, most: int = 8) -> list[str]:
    """The first rows of what the result prints, without the figures of the training rows."""
    rows, kept = one.found.sorted(), ("lr", "l2", "diverged")
    columns = {
        name.removeprefix("validation_"): np.array([row[name] for row in rows])
        for name in rows[0]
        if name in kept or name.startswith("validation_")
    }
    cells = [[name, *(_cell(value) for value in values[:most])] for name, values in columns.items()]
    widths = [max(5, *map(len, column)) for column in cells]
    text = "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in zip(*cells, strict=True)
    )
    text += f"\nand {len(rows) - most} more" if len(rows) > most else ""
    return [text]


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else ""
    return f"{value:.4g}"


def spreads(one: Studied) -> Picture:
    """How many rows have less than a spread, of those got right and of the others."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    for colour, name, which in zip(
        plots.LINE_COLOURS, ("right", one.task.wrong), (one.right, ~one.right), strict=False
    ):
        if which.any():
            values = np.sort(np.maximum(one.spread[which], 1e-6))
            label = f"{name}: {which.sum()} rows, mean {one.spread[which].mean():.2g}"
            steps = 100 * np.arange(len(values) + 1) / len(values)
            ax.step([values[0], *values], steps, color=colour, where="post", label=label)
    ax.set(xlabel="spread of the members' probabilities", ylabel="rows with no more, %", xscale="log", ylim=(0, 101))
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    ax.tick_params(labelsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    return picture
