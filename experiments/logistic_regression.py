"""Logistic regression: one neuron that tells two classes apart.

Question: does gradient descent on the cross-entropy find the weights of the highest likelihood, with derivative y - t?
Source:   D2's series, parts 1b (the logistic function, its derivative) and 2 (probability output, cross-entropy from
          maximum likelihood), named and summarised there. The data are ours: two round clusters that overlap.
Command:  python -m experiments logistic_regression
Time:     about 6 seconds on two CPU cores.
Expected: the weights agree with scikit-learn's LogisticRegression without penalty; the cost is minus the logarithm
          of the likelihood; its derivative by the logit is y - t.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure as Picture
from scipy.stats import bernoulli
from sklearn.linear_model import LogisticRegression

import fnn
from experiments.report import IN_WORDS, OURS, Figure, Result, Row, at_most, holds
from fnn import plots

CENTRES, DEVIATION = ((-1.0, 0.0), (1.0, 0.0)), 1.2  # of the two classes: they overlap
LEARNING_RATE = 1.0
START = (-3.0, -2.0)  # far off, so that the surface shows the way
NAMES = ("class 0, t = 0", "class 1, t = 1")


class Settings(NamedTuple):
    """Sizes; all ours."""

    points: int = 60  # a class
    steps: int = 600
    grid: int = 120


class Descent(NamedTuple):
    """The weights `(steps + 1, 2)` and the mean cost, before the first step and then after each."""

    weights: np.ndarray
    costs: np.ndarray


def main(settings: Settings) -> Result:
    """Descend, then compare with what is known of the minimum."""
    x, t = data(settings.points)
    path = descend(x, t, settings.steps)
    reference = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, t).coef_[0]
    wrong = int(((x @ path.weights[-1] > 0) != t).sum())
    return Result(
        title="Logistic regression",
        question="Does gradient descent on the cross-entropy find the weights of the highest likelihood?",
        rows=function_rows() + likelihood_rows(x, t, path, reference),
        figures=figures(x, t, path, settings),
        notes=[
            f"Two classes of {settings.points} rows each, N((∓1, 0), {DEVIATION}²). No bias, so the cost is a surface "
            "over two weights; the boundary goes through the origin.",
            f"They overlap: {wrong} of {len(t)} rows are on the wrong side. Were they separable, the weights would "
            "grow for ever.",
            "scikit-learn minimises the same cost by another method (L-BFGS).",
        ],
        numbers={"weights": path.weights, "costs": path.costs, "reference": reference, "wrong": wrong, "x": x, "t": t},
    )  # fmt: skip


def data(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Two clusters in the plane, and their class numbers."""
    rng = np.random.default_rng(0)
    x = np.concatenate([centre + DEVIATION * rng.standard_normal((points, 2)) for centre in CENTRES])
    return x, np.repeat([0, 1], points)


def network() -> fnn.Layer:
    """One neuron: two weights. It ends in the logit: the loss has the logistic function in it."""
    return fnn.serial(fnn.dense(1, bias=False))


def descend(x: np.ndarray, t: np.ndarray, steps: int) -> Descent:
    """Full-batch descent in float64 by the derivatives by hand, one compiled program."""
    with jax.enable_x64(True):
        rows = fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(t[:, None], float)))
        start = ({"w": jnp.asarray(START)[:, None]},)
        optimizer = optax.sgd(LEARNING_RATE)
        training = fnn.trainer(network(), fnn.losses.sigmoid_cross_entropy, optimizer, gradient=fnn.backprop)

        def one_step(state: Any, _: Any) -> Any:
            after, history = training.run(state, rows, 1)
            return after, (state.params[0]["w"][:, 0], history.loss[0])

        state = training.init(jax.random.key(0), rows, params=start)
        _, (weights, costs) = jax.jit(lambda state: jax.lax.scan(one_step, state, length=steps + 1))(state)
        return Descent(np.asarray(weights), np.asarray(costs))


# ---- what is reported


def function_rows() -> list[Row]:
    """The logistic function, and the derivative of the cross-entropy by the logit, on a grid of logits."""
    z = np.linspace(-8, 8, 321)
    y = 1 / (1 + np.exp(-z))
    rows = []
    with jax.enable_x64(True):
        slope = np.asarray(fnn.sigmoid.derivative(jnp.asarray(z)))
        rows.append(at_most("Derivative of the logistic function against y (1 - y)", 1e-12,
                            apart(slope, y * (1 - y)), IN_WORDS))  # fmt: skip
        for target in (0.0, 1.0):
            logits, t = jnp.asarray(z)[:, None], jnp.full((len(z), 1), target)
            by_hand = fnn.losses.sigmoid_cross_entropy.grad(logits, t)
            by_autodiff = jax.grad(lambda z, t=t: fnn.losses.sigmoid_cross_entropy(z, t).sum())(logits)
            furthest = max(apart(np.asarray(g)[:, 0], y - target) for g in (by_hand, by_autodiff))
            rows.append(at_most(f"Derivative of the cross-entropy by the logit against y - t, t = {target:.0f}, "
                                "by hand and by autodiff", 1e-12, furthest, IN_WORDS))  # fmt: skip
    return rows


def likelihood_rows(x: np.ndarray, t: np.ndarray, path: Descent, reference: np.ndarray) -> list[Row]:
    """The end of the descent: is the likelihood the highest there is?"""
    last, steps = path.weights[-1], len(path.weights) - 1
    y = 1 / (1 + np.exp(-(x @ last)))
    likelihood = -bernoulli.logpmf(t, y).sum()
    falling = bool((np.diff(path.costs) <= 1e-15).all())
    difference = float(np.linalg.norm(last - reference) / np.linalg.norm(reference))
    return [
        at_most("Sum of the cross-entropies against -log of the likelihood (SciPy's Bernoulli), relative", 1e-12,
                abs(float(path.costs[-1]) * len(t) / likelihood - 1), IN_WORDS),
        at_most(f"Weights after {steps} steps against sklearn's LogisticRegression, relative", 1e-4, difference, OURS),
        at_most("Derivative of the mean cost there, (1/N) Xᵀ (y - t), largest number", 1e-6,
                float(np.abs(x.T @ (y - t) / len(t)).max()), OURS),
        holds("The cost", "never rises", "never rises" if falling else "rises",
              "at no step by more than rounding, 1e-15", falling, OURS),
    ]  # fmt: skip


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference."""
    return float(np.abs(a - b).max())


def mean_cost(x: np.ndarray, t: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The mean cross-entropy at weights `(..., 2)`: `log(1 + e^z) - t z`."""
    z = w @ x.T
    return (np.logaddexp(0, z) - t * z).mean(-1)


# ---- pictures


def figures(x: np.ndarray, t: np.ndarray, path: Descent, settings: Settings) -> list[Figure]:
    """The functions, the surface, the boundary."""
    return [
        Figure("The logistic function and the cross-entropy",
               "Left: the output and its derivative, highest at 0. Right: what a row costs, for either target.",
               functions()),
        Figure("The cost over the weights", "Along the steps to the lowest point. It is convex: there is only one.",
               surface(x, t, path, settings.grid)),
        Figure("The decision boundary", "The shade is the probability of class 1, the line where it is ½.",
               boundary(x, t, path.weights[-1], settings.grid)),
    ]  # fmt: skip


def functions() -> Picture:
    """Part 1b's picture, and the two branches of the cost."""
    picture = Picture(figsize=(11, 3.8), layout="constrained")
    left, right = picture.subplots(1, 2)
    z, p = np.linspace(-6, 6, 241), np.linspace(0.005, 0.995, 199)
    left.plot(z, fnn.sigmoid(z), color=plots.LINE_COLOURS[0], label="y = σ(z)")
    left.plot(z, fnn.sigmoid.derivative(jnp.asarray(z)), color=plots.LINE_COLOURS[1], label="dy/dz = y (1 - y)")
    left.set(xlabel="logit z", ylabel="output y, slope dy/dz")
    for target, colour in ((0, plots.CLASS_COLOURS[0]), (1, plots.CLASS_COLOURS[1])):
        costs = fnn.losses.binary_cross_entropy(jnp.asarray(p)[:, None], jnp.full((len(p), 1), float(target)))
        formula = "-log y" if target else "-log(1 - y)"
        right.plot(p, costs, color=colour, label=f"t = {target}: {formula}")
    right.set(xlabel="output y, the probability of class 1", ylabel="cross-entropy (nats)")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="small")
    return picture


def surface(x: np.ndarray, t: np.ndarray, path: Descent, grid: int) -> Picture:
    """The mean cost as contours, with the descent on them."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    first, second = np.linspace(-4, 4, grid), np.linspace(-3, 3, grid)
    costs = mean_cost(x, t, np.stack(np.meshgrid(first, second), -1))
    shown = ax.contourf(first, second, costs, levels=20, cmap="Greys", alpha=0.7)
    ax.plot(
        *path.weights.T, ".-", color=plots.LINE_COLOURS[1], linewidth=1, markersize=4, label="descent, a dot a step"
    )
    ax.plot(*path.weights[-1], "*", color=plots.LINE_COLOURS[0], markersize=11, label="end")
    ax.set(xlabel="weight $w_1$", ylabel="weight $w_2$")
    picture.colorbar(shown, label="cost (nats, mean over the rows)")
    ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return picture


def boundary(x: np.ndarray, t: np.ndarray, w: np.ndarray, grid: int) -> Picture:
    """The rows, the probability and the line."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    ticks = np.linspace(-4.5, 4.5, grid)
    z = np.stack(np.meshgrid(ticks, ticks), -1) @ w
    shown = ax.contourf(ticks, ticks, 1 / (1 + np.exp(-z)), levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.45)
    ax.contour(ticks, ticks, z, levels=[0], colors=[plots.INK], linewidths=1.2)
    ax.plot([], [], color=plots.INK, linewidth=1.2, label="boundary")
    picture.colorbar(shown, label="probability of class 1")
    plots.classes(x, t, names=NAMES, ax=ax)
    return picture
