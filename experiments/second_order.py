"""Second order for small networks: Levenberg-Marquardt, L-BFGS and Adam on the same problems.

Question: how many steps, and how many seconds, does second order take to the cost that Adam ends with?
Source:   ours; NIST's certified nonlinear regressions; a sine, Friedman's three functions (1991), Franke's surface
          (1979), MATLAB's peaks, four of the five functions of Hwang et al. (1994), and the diabetes of Efron (2004).
Command:  python -m experiments second_order
Time:     about three minutes on two CPU cores.
Expected: Levenberg-Marquardt finds at least 8 certified digits from both of NIST's starts in all 24 cases. Eight starts
          of it take to the cost of Adam's best of eight 0.006 of Adam's time on the sine and on Friedman's second
          function, 0.01 on Franke's surface, 0.02 on Friedman's first and third, 0.003 to 0.007 on those of Hwang.
          On peaks eight starts end 12 % above Adam's cost; 32 starts end 18 % below it, and take 0.055 of its time.
          On the diabetes eight starts end above Adam's cost as well.
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.figure import Figure as Picture

import fnn
from experiments.nist import PROBLEMS, Problem, as_network
from experiments.regression_sets import regression_sets
from experiments.report import OURS, Figure, Result, Row, at_least, at_most, holds

LOSS = fnn.losses.squared_error
STARTS = 8  # of each optimizer, in one program
RATES = (0.01, 0.03)  # of Adam, the best of which counts
LONG = {("MGH10", 0): 20_000}  # steps; 2,000 for the others


class Settings(NamedTuple):
    """Sizes: steps of Adam, of L-BFGS and of Levenberg-Marquardt; which of NIST's problems, how many regressions."""

    adam: int = 20_000
    lbfgs: int = 200
    second: int = 300
    problems: tuple[str, ...] = tuple(PROBLEMS)
    sets: int = 99


class Timed(NamedTuple):
    """The cost before each step, and the seconds of the whole run, its program compiled before."""

    costs: np.ndarray
    seconds: float

    def steps_to(self, cost: float) -> int | None:
        """How many steps bring the cost to this; None: they never do."""
        below = np.flatnonzero(self.costs <= cost)
        return int(below[0]) if len(below) else None


def main(settings: Settings) -> Result:
    """Certified digits, then times on regressions with small networks."""
    chosen = {name: rows for i, (name, rows) in enumerate(regression_sets().items()) if i < settings.sets}
    with jax.enable_x64(True):
        digits = {
            (name, start): certified_digits(PROBLEMS[name], start, LONG.get((name, start), 2_000))
            for name in settings.problems
            for start in (0, 1)
        }
        timed = {name: compare(network(hidden), (x, t), settings) for name, (x, t, hidden) in chosen.items()}
    rows_, missed = digit_rows(digits), list[str]()
    numbers: dict[str, Any] = {"digits": digits}
    for name, runs in timed.items():
        best = float(runs["Adam"].costs[-1])
        taken = runs["Levenberg-Marquardt"].steps_to(best)
        share = np.inf if taken is None else seconds_of(name, taken, settings) / runs["Adam"].seconds
        numbers[name] = {"share": share, "steps": taken, "cost": best}
        if taken is None:
            lowest = runs["Levenberg-Marquardt"].costs[-1]
            missed.append(
                f"On {name} eight starts of Levenberg-Marquardt end at {lowest:.3g}, above Adam's {best:.3g}."
            )
        else:
            rows_ += time_rows(name, runs, taken, share)
    reached = len(timed) - len(missed)
    rows_.append(at_least("regressions whose cost by Adam it reaches", min(3, len(timed)), reached))
    return Result(
        "Second order for small networks",
        "How many steps and seconds does second order take to the cost that Adam ends with?",
        rows_,
        [picture({name: timed[name] for name in list(timed)[:3]})],
        [
            "The lowest cost of eight starts counts. Adam has the better of two learning rates. Times are those of "
            "compiled programs with all eight; the steps are the same on every machine.",
        ],
        numbers,
    )


# ---- NIST


def certified_digits(problem: Problem, start: int, steps: int) -> float:
    """Correct digits of the least exact parameter."""
    run = fnn.fit(
        as_network(problem.formula),
        LOSS,
        fnn.optimizers.levenberg_marquardt(tolerance=0),
        problem.rows,
        epochs=steps,
        params={"b": np.array(problem.starts[start], float)},
        reduction="sum",
        progress=False,
    )
    error = np.abs(np.asarray(run.params["b"]) / problem.certified - 1).max()
    return float(min(-np.log10(max(error, 1e-16)), 11.0))


def digit_rows(digits: dict[tuple[str, int], float]) -> list[Row]:
    """A row for each problem and start."""
    return [
        at_least(f"{name}, start {start + 1}: certified digits", 8.0, found) for (name, start), found in digits.items()
    ]


# ---- networks


def network(hidden: int) -> fnn.Layer:
    """One hidden layer."""
    return fnn.serial(fnn.dense(hidden), fnn.tanh, fnn.dense(1))


def compare(net: fnn.Layer, rows: Any, settings: Settings) -> dict[str, Timed]:
    """Adam with the best of its rates, L-BFGS, Levenberg-Marquardt; eight starts each."""
    adam = [run(net, rows, optax.adam(rate), settings.adam) for rate in RATES]
    return {
        "Adam": min(adam, key=lambda timed: timed.costs[-1]),
        "L-BFGS": run(net, rows, optax.lbfgs(), settings.lbfgs),
        "Levenberg-Marquardt": run(net, rows, fnn.optimizers.levenberg_marquardt(), settings.second, 3),
    }


def run(net: fnn.Layer, rows: Any, optimizer: Any, steps: int, repeats: int = 1) -> Timed:
    """Eight starts in one compiled program: the lowest cost at each step, and the shortest time."""
    training, data = fnn.trainer(net, LOSS, optimizer), fnn.Data(fnn.Part(*rows))
    keys = jax.random.split(jax.random.key(0), STARTS)
    start = jax.jit(jax.vmap(lambda key: training.init(key, data)))(keys)
    program = jax.jit(jax.vmap(lambda state: training.run(state, data, steps))).lower(start).compile()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        _, history = jax.block_until_ready(program(start))
        seconds.append(time.perf_counter() - begin)
    lowest = np.fmin.reduce(np.asarray(history.loss), axis=0)
    return Timed(np.fmin.accumulate(lowest), min(seconds))


def seconds_of(name: str, steps: int, settings: Settings) -> float:
    """Seconds of so many steps of Levenberg-Marquardt."""
    with jax.enable_x64(True):
        x, t, hidden = regression_sets()[name]
        return run(network(hidden), (x, t), fnn.optimizers.levenberg_marquardt(), steps, 3).seconds


def time_rows(name: str, runs: dict[str, Timed], taken: int, share: float) -> list[Row]:
    """Steps and seconds to Adam's cost."""
    adam, lbfgs = runs["Adam"], runs["L-BFGS"]
    cost, by_lbfgs = float(adam.costs[-1]), lbfgs.steps_to(float(adam.costs[-1]))
    return [
        holds(
            f"{name}: steps to Adam's cost of {cost:.3g} after {len(adam.costs):,}",
            "Levenberg-Marquardt takes fewer than L-BFGS",
            f"{taken} and {by_lbfgs}",
            "the first number is smaller",
            by_lbfgs is None or taken < by_lbfgs,
            OURS,
        ),
        at_most(f"{name}: Levenberg-Marquardt's time to that cost, of Adam's", 0.05, share),
    ]


def picture(timed: dict[str, dict[str, Timed]]) -> Figure:
    """The cost against steps, and against seconds."""
    figure = Picture(figsize=(9, 3 * len(timed)), layout="constrained")
    axes = figure.subplots(len(timed), 2, squeeze=False)
    for (by_steps, by_seconds), (name, runs) in zip(axes, timed.items(), strict=True):
        for label, found in runs.items():
            steps = np.arange(1, len(found.costs) + 1)
            by_steps.loglog(steps, found.costs, label=label)
            by_seconds.loglog(steps * found.seconds / len(steps), found.costs, label=label)
        by_steps.set(title=name, xlabel="steps", ylabel="cost")
        by_seconds.set(title=name, xlabel="seconds")
        by_steps.legend()
    return Figure("second_order", "The cost of three regressions against steps and against seconds.", figure)
