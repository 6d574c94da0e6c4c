"""Linear regression: the smallest network there is, one weight.

Question: does gradient descent on the squared error find the weight of `y = x w` that the closed form gives?
Source:   D2's series, part 1 (named there): `y = x w`, squared-error cost, gradient descent. The data are ours:
          x uniform in [0, 1), t = 2x + noise N(0, 0.2²); the three learning rates as well.
Command:  python -m experiments linear_regression
Time:     about 2 seconds on two CPU cores.
Expected: with learning rates 0.1, 1.5 and 3.2 the weight goes to Σxt/Σx²: slowly, fast, and from side to side. Each
          step multiplies its distance from there by 1 - lr · (2/N) Σx².
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure as Picture
from sklearn.linear_model import LinearRegression

import fnn
from experiments.report import OURS, Figure, Result, Row, at_most, holds
from fnn import plots

SLOPE, NOISE = 2.0, 0.2  # of the data
LEARNING_RATES = (0.1, 1.5, 3.2)
BEST = 1  # which of them finds the weight fastest
ROUNDING = 1e-15  # of a cost: differences below it mean nothing


class Settings(NamedTuple):
    """Sizes; all ours."""

    points: int = 20
    steps: int = 40


class Path(NamedTuple):
    """A descent, or one a learning rate, along a leading axis of every array."""

    weights: Any  # before the first step, then after each
    costs: Any


def main(settings: Settings) -> Result:
    """Descend at three learning rates; compare with what is known in closed form."""
    x, t = data(settings.points)
    with jax.enable_x64(True):
        rows = fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(t)))
        by_hand, by_autodiff = (descents(rows, settings.steps, gradient) for gradient in (fnn.backprop, fnn.autodiff))
    formula = np.stack([by_formula(x, t, rate, settings.steps) for rate in LEARNING_RATES])
    best = float((x * t).sum() / (x * x).sum())
    return Result(
        title="Linear regression",
        question="Does gradient descent find the weight of y = x w that the closed form gives?",
        rows=rows_of(x, t, best, by_hand, by_autodiff, formula),
        figures=figures(x, t, best, by_hand),
        notes=[
            f"{settings.points} rows, t = {SLOPE:g} x + noise N(0, {NOISE:g}²); the cost is the mean of (x w - t)².",
            "Its derivative is (2/N) Σ x (x w - t), its second derivative h = (2/N) Σ x² wherever w is: a parabola. "
            f"So a step multiplies the distance by 1 - lr h; from lr = 2/h = {2 / curvature(x):.2f} on it would grow.",
        ],
        numbers={"best": best, "weights": by_hand.weights, "costs": by_hand.costs, "x": x, "t": t},
    )


def data(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Points about a line through the origin."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (points, 1))
    return x, SLOPE * x + NOISE * rng.standard_normal((points, 1))


def curvature(x: np.ndarray) -> float:
    """The second derivative of the cost, `(2/N) Σ x²`."""
    return float(2 * np.mean(x * x))


# ---- the descent


def descents(rows: fnn.Data, steps: int, gradient: Any) -> Path:
    """One descent a learning rate from w = 0; all of them are one compiled program."""
    net = fnn.serial(fnn.dense(1, bias=False, weight_init=0.0))
    loss = fnn.losses.squared_error
    training = fnn.trainer(net, loss, lambda s: optax.sgd(s["lr"]), gradient=gradient)

    def one_step(state: Any, _: Any) -> Any:
        after, history = training.run(state, rows, 1)
        return after, (state.params[0]["w"][0, 0], history.loss[0])

    def one_descent(rate: Any) -> Path:
        start = training.init(jax.random.key(0), rows, {"lr": rate})
        return Path(*jax.lax.scan(one_step, start, length=steps + 1)[1])

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one_descent))(jnp.asarray(LEARNING_RATES)))


def by_formula(x: np.ndarray, t: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """`w ← w - lr (2/N) Σ x (x w - t)` in a plain loop: the weights, before the first step and after each."""
    weights = [0.0]
    for _ in range(steps):
        weights.append(weights[-1] - rate * 2 * np.mean(x * (x * weights[-1] - t)))
    return np.array(weights)


def cost(x: np.ndarray, t: np.ndarray, w: Any) -> np.ndarray:
    """`(1/N) Σ (x w - t)²` at each of many weights."""
    return np.square(x * np.asarray(w) - t).mean(0)


# ---- what is reported


def rows_of(
    x: np.ndarray, t: np.ndarray, best: float, by_hand: Path, by_autodiff: Path, formula: np.ndarray
) -> list[Row]:
    """The end of the descent, each of its steps, and the line itself."""
    steps = by_hand.weights.shape[1] - 1
    last, rate = float(by_hand.weights[BEST, -1]), LEARNING_RATES[BEST]
    factors = 1 - np.array(LEARNING_RATES)[:, None] * curvature(x)
    theory = best * (1 - factors ** np.arange(steps + 1))
    fitted = float(LinearRegression(fit_intercept=False).fit(x, t).coef_[0, 0])
    deviation = NOISE / float(np.sqrt((x * x).sum()))
    falling = bool((np.diff(by_hand.costs, axis=1) <= ROUNDING).all())
    return [
        at_most(f"w after {steps} steps at learning rate {rate:g} against Σxt/Σx² = {best:.6f}", 1e-9,
                abs(last - best), OURS),
        at_most("w after as many steps against sklearn's LinearRegression", 1e-9, abs(last - fitted), OURS),
        at_most("All weights on the way, three rates, against the derivative (2/N) Σ x (x w - t) in NumPy", 1e-12,
                apart(by_hand.weights, formula), OURS),
        at_most("The same against w* (1 - (1 - lr h)^k) after k steps", 1e-12, apart(by_hand.weights, theory), OURS),
        at_most("The same by fnn.backprop against fnn.autodiff", 1e-12,
                apart(by_hand.weights, by_autodiff.weights), OURS),
        holds("The cost, three rates", "never rises", "never rises" if falling else "rises",
              f"at no step by more than rounding, {ROUNDING:g}", falling, OURS),
        at_most(f"Distance of w from the slope of the data, {SLOPE:g}, in standard errors", 3,
                abs(last - SLOPE) / deviation, OURS),
    ]  # fmt: skip


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference."""
    return float(np.abs(a - b).max())


def figures(x: np.ndarray, t: np.ndarray, best: float, path: Path) -> list[Figure]:
    """The data with the line, the cost over the weight, and the cost over time."""
    return [
        Figure("The data and the fit", "The dashed line is what the data were drawn about.", fit_picture(x, t, best)),
        Figure("The cost against iteration", "Mean over the rows, above the lowest that any weight has.",
               plots.curves({f"learning rate {rate:g}": above(costs, cost(x, t, [best]))
                             for rate, costs in zip(LEARNING_RATES, path.costs, strict=True)},
                            xlabel="iteration", ylabel="cost above its minimum (mean squared error)", log=True)),
        Figure("The cost over the weight",
               "The first steps at each learning rate: too short, all but right at once, from side to side.",
               steps_picture(x, t, best, path)),
    ]  # fmt: skip


def above(costs: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """How far the costs are above the lowest one, as long as that is more than rounding."""
    return np.where(costs - lowest > ROUNDING, costs - lowest, np.nan)


def fit_picture(x: np.ndarray, t: np.ndarray, best: float) -> Picture:
    """The rows and two lines."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    ends = np.array([0.0, 1.0])
    ax.plot(x, t, "o", color=plots.LINE_COLOURS[0], markersize=5, label="rows (x, t)")
    ax.plot(ends, SLOPE * ends, "--", color=plots.LINE_COLOURS[5], label=f"t = {SLOPE:g} x")
    ax.plot(ends, best * ends, color=plots.LINE_COLOURS[1], label=f"fit, y = {best:.3f} x")
    ax.set(xlabel="input x", ylabel="target t, output y")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return picture


def steps_picture(x: np.ndarray, t: np.ndarray, best: float, path: Path, most: int = 6) -> Picture:
    """The parabola once a learning rate, with the weights that the descent visits."""
    picture = Picture(figsize=(11, 3.6), layout="constrained")
    axes = picture.subplots(1, len(LEARNING_RATES), sharey=True)
    reach = 1.15 * np.abs(path.weights - best).max()
    w = np.linspace(best - reach, best + reach, 200)
    for i, (ax, rate) in enumerate(zip(axes, LEARNING_RATES, strict=True)):
        visited = path.weights[i, : most + 1]
        ax.plot(w, cost(x, t, w), color=plots.LINE_COLOURS[0], label="cost")
        steps = f"{most} steps, learning rate {rate:g}"
        ax.plot(visited, cost(x, t, visited), "o-", color=plots.LINE_COLOURS[1], linewidth=1, markersize=4, label=steps)
        ax.axvline(best, color=plots.INK, linewidth=0.8, linestyle=":", label="closed form")
        ax.set(xlabel="weight w")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="small", loc="upper center")
    axes[0].set_ylabel("cost (mean squared error)")
    return picture
