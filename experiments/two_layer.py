"""Two layers: the network from scratch.

Question: does plain gradient descent teach `y = σ(W2 σ(W1 x))` four rows of bits, and does its loss fall at every step?
Source:   D0 (two-layer network): sigmoid in both layers, no biases, sum of squared errors, 1,500 iterations.
          Its table of data is a picture there; the rows, the 4 hidden units and the step size 1 are the classic ones.
Command:  python -m experiments two_layer
Time:     about 6 seconds on two CPU cores.
Expected: the loss of every one of 200 seeds falls at all 1,500 steps; 195 seeds or more end within 0.05 of the truth.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure as Picture

import fnn
from experiments.report import IN_WORDS, OURS, Figure, Result, Row, at_least, at_most, holds
from fnn import plots

X = np.array([[0.0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
T = np.array([[0.0], [1], [1], [0]])
HIDDEN, STEP, NEAR = 4, 1.0, 0.05  # hidden units; the step size; how near the truth counts
SHOWN = 0  # the seed whose predictions the table has


class Settings(NamedTuple):
    """Sizes; the iterations are D0's, the seeds are ours."""

    seeds: int = 200
    iterations: int = 1_500


class Runs(NamedTuple):
    """A training run, or as many as there are seeds, along a leading axis of every array."""

    start: Any  # the parameters before the first step
    end: Any  # and after the last
    losses: Any  # before each step
    predictions: Any  # after the last step, one per row


def main(settings: Settings) -> Result:
    """All seeds, and one of them again by hand."""
    with jax.enable_x64(True):
        keys = jax.vmap(jax.random.key)(jnp.arange(settings.seeds))
        program = jax.jit(jax.vmap(one_run, in_axes=(0, None)))
        runs = jax.tree.map(np.asarray, program(keys, settings.iterations))
    runs = runs._replace(losses=runs.losses[:, : settings.iterations])
    losses = np.column_stack([runs.losses, np.square(runs.predictions - T[:, 0]).sum(1)])
    by_hand = from_scratch(runs.start[0]["w"][SHOWN], runs.start[2]["w"][SHOWN], settings.iterations)

    monotone = np.asarray((np.diff(losses, axis=1) < 0).all(1))
    errors = np.abs(runs.predictions - T[:, 0]).max(1)
    apart = float(np.abs(by_hand / losses[SHOWN] - 1).max())
    return Result(
        title="Two layers from scratch",
        question="Does plain gradient descent teach a two-layer network four rows of bits?",
        rows=rows(monotone, errors, runs.predictions[SHOWN], apart, settings),
        figures=figures(losses, runs.predictions),
        notes=[
            "W1 is (3, 4) and W2 is (4, 1), all weights uniform in [0, 1); no biases, but the last input is always 1.",
            "The loss is Σ (t - y)² over the four rows. All seeds are one vmapped program, in float64.",
            f"The worst of the {settings.seeds} seeds ends {errors.max():.3f} from the truth.",
        ],
        numbers={"losses": losses, "predictions": runs.predictions, "errors": errors, "monotone": monotone}
        | {"by_hand": by_hand},
    )  # fmt: skip


def network() -> fnn.Layer:
    """3-4-1, `σ(W2 σ(W1 x))`."""
    uniform = jax.nn.initializers.uniform(1.0)  # in [0, 1)
    first, second = (fnn.dense(n, bias=False, weight_init=uniform) for n in (HIDDEN, 1))
    return fnn.serial(first, fnn.sigmoid, second, fnn.sigmoid)


def one_run(key: Any, iterations: Any) -> Runs:
    """Full-batch descent on the sum of squared errors, as a pure function."""
    net, rows = network(), fnn.Data(fnn.Part(jnp.asarray(X), jnp.asarray(T)))
    training = fnn.trainer(net, fnn.losses.squared_error, optax.sgd(STEP), reduction="sum")
    start = training.init(key, rows)
    end, history = training.run(start, rows, iterations)
    y, _, _ = net.forward(end.params, end.state, rows.train.x, None, False)
    return Runs(start.params, end.params, history.loss, y[:, 0])


def from_scratch(w1: np.ndarray, w2: np.ndarray, iterations: int) -> np.ndarray:
    """The same run in plain NumPy, by the chain rule written out: its losses, before the first step and after each."""
    losses = []
    for _ in range(iterations + 1):
        h = 1 / (1 + np.exp(-X @ w1))
        y = 1 / (1 + np.exp(-h @ w2))
        losses.append(np.square(T - y).sum())
        dz2 = 2 * (y - T) * y * (1 - y)
        dz1 = dz2 @ w2.T * h * (1 - h)
        w1, w2 = w1 - STEP * X.T @ dz1, w2 - STEP * h.T @ dz2
    return np.array(losses)


# ---- what is reported


def rows(monotone: np.ndarray, errors: np.ndarray, shown: np.ndarray, apart: float, settings: Settings) -> list[Row]:
    """The two claims over all seeds, the table of predictions of one, and the run by hand."""
    seeds, falling, end = len(monotone), int(monotone.sum()), f"after {settings.iterations:,} iterations"
    predictions = [
        holds(f"Prediction for {x.astype(int).tolist()} {end}, seed {SHOWN}", f"converged to the truth, {t:.0f}",
              f"{y:.4f}", f"within {NEAR} of {t:.0f}", abs(y - t) <= NEAR, IN_WORDS)
        for x, t, y in zip(X, T[:, 0], shown, strict=True)
    ]  # fmt: skip
    return [
        holds(f"Seeds of {seeds} whose loss falls monotonically", "the loss falls monotonically", f"{falling}",
              f"at every one of {settings.iterations:,} steps, in all seeds", falling == seeds, IN_WORDS),
        *predictions,
        at_least(f"Seeds of {seeds} with all predictions within {NEAR} of the truth {end}", 39 * seeds // 40,
                 int((errors <= NEAR).sum()), OURS),
        at_most(f"Losses of seed {SHOWN} against the chain rule written out in NumPy, relative", 1e-9, apart),
    ]  # fmt: skip


def figures(losses: np.ndarray, predictions: np.ndarray) -> list[Figure]:
    """The curve of the loss, and where the predictions end."""
    iterations = f"{losses.shape[1] - 1:,} iterations"
    return [
        Figure("The loss", f"Sum of squared errors over the four rows; {len(losses)} seeds, one line each.",
               loss_curves(losses)),
        Figure(f"The predictions after {iterations}",
               f"A dot a seed, spread sideways at random; the band is within {NEAR} of the truth.",
               ends(predictions)),
    ]  # fmt: skip


def loss_curves(losses: np.ndarray) -> Picture:
    """One thin line a seed, one of them thick."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    lines = ax.plot(losses.T, color=plots.LINE_COLOURS[0], linewidth=0.6, alpha=0.3)
    lines[0].set_label("one line a seed")
    ax.plot(losses[SHOWN], color=plots.LINE_COLOURS[1], linewidth=1.8, label=f"seed {SHOWN}")
    ax.set(xlabel="iteration", ylabel="loss (sum of squared errors)", yscale="log")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="lower left")
    return picture


def ends(predictions: np.ndarray) -> Picture:
    """Every seed's last predictions, row by row."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    sideways = np.random.default_rng(0).uniform(-0.25, 0.25, len(predictions))
    for i, (truth, y) in enumerate(zip(T[:, 0], predictions.T, strict=True)):
        first = i == 0
        ax.fill_between(
            [i - 0.35, i + 0.35],
            truth - NEAR,
            truth + NEAR,
            color=plots.LINE_COLOURS[2],
            alpha=0.25,
            linewidth=0,
            label=f"within {NEAR} of the truth" if first else None,
        )
        ax.plot([i - 0.35, i + 0.35], [truth, truth], color=plots.INK, label="truth" if first else None)
        ax.plot(i + sideways, y, ".", color=plots.LINE_COLOURS[0], markersize=4, alpha=0.5,
                label="prediction, a dot a seed" if first else None)  # fmt: skip
    ax.set(xlabel="row x", ylabel="prediction y", ylim=(-0.08, 1.08))
    ax.set_xticks(range(len(X)), [str(x.astype(int).tolist()) for x in X])
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="center")
    return picture
