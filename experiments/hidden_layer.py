"""A hidden layer: what one neuron cannot separate, and more than two classes.

Question: does one hidden unit separate a class that lies between two halves of the other, which no threshold can?
          And is the derivative of the softmax cross-entropy really y - t?
Source:   D2's series, parts 3 (a hidden layer) and 3b (softmax, its derivative for i = j and i ≠ j, its cross-entropy),
          named and summarised there. The data are ours; the hidden unit `exp(-z²)` is the user's own activation (D4).
Command:  python -m experiments hidden_layer
Time:     about 7 seconds on two CPU cores.
Expected: the hidden unit has nearly all rows right for about nine seeds in ten, for all that start with a positive
          output weight; logistic regression at most about two thirds. The softmax's derivatives are y_i (1 - y_i) and
          -y_i y_j. Learning rate and momentum were chosen on seeds 100 to 299 (182 of 200); 0 to 99 are reported.
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

CENTRES, DEVIATION = (-2.0, 0.0, 2.0), 0.4  # the middle one is class 1, both others are class 0
LEARNING_RATE, MOMENTUM = 0.5, 0.9
SHOWN = 0  # the seed that the pictures show
NAMES = ("outer, t = 0", "inner, t = 1")

bump = fnn.elementwise("bump", lambda z: jnp.exp(-z * z), lambda z: -2 * z * jnp.exp(-z * z))


class Settings(NamedTuple):
    """Sizes; all ours."""

    seeds: int = 100
    points: int = 20  # a cluster
    iterations: int = 500


class Runs(NamedTuple):
    """A training run, or as many as there are seeds, along a leading axis of every array."""

    start: Any  # the parameters before the first step
    params: Any
    costs: Any  # before each step
    outputs: Any  # the probability of class 1 for each row


def main(settings: Settings) -> Result:
    """Train with the hidden unit and without it on the same rows; then the softmax."""
    x, t = (np.stack(parts) for parts in zip(*(data(i, settings.points) for i in range(settings.seeds)), strict=True))
    with_unit, without = (train(hidden, x, t, settings.iterations) for hidden in (True, False))
    right, right_without = (((run.outputs > 0.5) == t).mean((1, 2)) * 100 for run in (with_unit, without))
    hidden = np.asarray(bump(x * with_unit.params[0]["w"]))
    best = np.array([best_threshold(x[i, :, 0], t[i, :, 0]) for i in range(len(x))])
    rising = with_unit.start[2]["w"][:, 0, 0] > 0
    return Result(
        title="A hidden layer, and softmax",
        question="Does one hidden unit separate what no threshold can, and are the softmax's derivatives right?",
        rows=unit_rows(x, t) + training_rows(right, rising, right_without, best) + softmax_rows(),
        figures=figures(x[SHOWN], t[SHOWN], hidden[SHOWN], with_unit, without),
        notes=[
            f"{3 * settings.points} numbers: {settings.points} of class 1 about 0, as many of class 0 about -2 and "
            f"about 2, with standard deviation {DEVIATION:g}. Each seed has rows and starting weights of its own.",
            "The hidden unit is exp(-z²), handed over with its derivative -2 z exp(-z²) by `fnn.elementwise`; "
            "it is high where z is near 0, so a single unit can pick out the middle.",
            f"{int((right < 95).sum())} of {settings.seeds} seeds end in a local minimum. Where the output weight "
            "starts negative, descent can flatten the hidden unit (w = 0, h = 1 everywhere) before that weight has "
            "changed its sign; from then on every row gets the same probability, ⅓.",
        ],
        numbers={"right": right, "right_without": right_without, "best": best, "rising": rising}
        | {"costs": with_unit.costs, "params": with_unit.params, "x": x, "t": t},
    )  # fmt: skip


def data(seed: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Three clusters on a line."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([centre + DEVIATION * rng.standard_normal((points, 1)) for centre in CENTRES])
    return x.astype(np.float32), np.repeat(np.array([0, 1, 0], np.float32), points)[:, None]


def network(hidden: bool) -> fnn.Layer:
    """One neuron; with one hidden unit before it, or with none. It ends in the logit."""
    return fnn.serial(fnn.dense(1, bias=False), bump, fnn.dense(1)) if hidden else fnn.serial(fnn.dense(1))


def train(hidden: bool, x: np.ndarray, t: np.ndarray, iterations: int) -> Runs:
    """One run a seed; all of them are one compiled program."""
    net, optimizer = network(hidden), optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    training = fnn.trainer(net, fnn.losses.sigmoid_cross_entropy, optimizer, gradient=fnn.backprop)

    def one_run(key: Any, x: Any, t: Any) -> Runs:
        rows = fnn.Data(fnn.Part(x, t))
        start = training.init(key, rows)
        end, history = training.run(start, rows, iterations)
        z, _, _ = net.forward(end.params, end.state, x, None, False)
        return Runs(start.params, end.params, history.loss, fnn.sigmoid(z))

    keys = jax.vmap(jax.random.key)(jnp.arange(len(x)))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one_run))(keys, x, t))


def best_threshold(values: np.ndarray, t: np.ndarray) -> float:
    """The largest share of rows, in %, that any threshold on a number per row can have right, either side up."""
    ordered = t[np.argsort(values)]
    below = np.concatenate([[0], np.cumsum(ordered)])  # rows of class 1 below each threshold
    right = below + (len(t) - t.sum()) - (np.arange(len(t) + 1) - below)  # class 1 below, class 0 above
    return float(100 * max(right.max(), len(t) - right.min()) / len(t))


# ---- what is reported


def unit_rows(x: np.ndarray, t: np.ndarray) -> list[Row]:
    """The user's own activation: is its derivative right?"""
    with jax.enable_x64(True):
        net = network(True)
        params, state, _ = net.init(jax.random.key(SHOWN), (1,))
        rows = jnp.asarray(x[SHOWN], float), jnp.asarray(t[SHOWN], float)
        check = fnn.check_gradients(net, fnn.losses.sigmoid_cross_entropy, params, state, *rows, show=False)
    found = "right" if check.ok else "wrong"
    return [holds("Derivatives of the network with the user's own unit exp(-z²)", "right", found,
                  "by hand, by autodiff and by differences: fnn.check_gradients", bool(check.ok), OURS)]  # fmt: skip


def training_rows(right: np.ndarray, rising: np.ndarray, right_without: np.ndarray, best: np.ndarray) -> list[Row]:
    """With and without the hidden unit; `rising` says which seeds start with a positive output weight."""
    seeds, apart = len(right), right >= 95
    return [
        holds("Best threshold on the input, % of the rows right", "not separable", f"at most {best.max():.1f}",
              f"under 100 for all of {seeds} seeds (every threshold tried)", best.max() < 100, OURS),
        at_most(f"Logistic regression, best of {seeds} seeds, % of the rows right", 75,
                float(right_without.max()), OURS),
        at_least(f"With the hidden unit, seeds of {seeds} with at least 95 % of the rows right", 9 * seeds // 10,
                 int(apart.sum()), OURS),
        at_least(f"Of the {rising.sum()} seeds whose output weight starts positive, as many", int(rising.sum()),
                 int(apart[rising].sum()), OURS),
    ]  # fmt: skip


def softmax_rows() -> list[Row]:
    """Part 3b, on random logits."""
    rng = np.random.default_rng(0)
    z, t = 3 * rng.standard_normal((50, 4)), np.eye(4)[rng.integers(4, size=50)]
    y = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    same, other = y * (1 - y), -y[:, :, None] * y[:, None, :]
    off = ~np.eye(4, dtype=bool)
    loss = fnn.losses.softmax_cross_entropy
    with jax.enable_x64(True):
        by_hand = np.asarray(fnn.softmax.derivative(jnp.asarray(z)))
        by_autodiff = np.asarray(jax.vmap(jax.jacobian(fnn.softmax.value))(jnp.asarray(z)))
        by_logits = np.asarray(loss.grad(jnp.asarray(z), jnp.asarray(t)))
        logits_autodiff = np.asarray(jax.grad(lambda z: loss(z, t).sum())(jnp.asarray(z)))
    diagonal = max(apart(np.diagonal(d, axis1=1, axis2=2), same) for d in (by_hand, by_autodiff))
    rest = max(apart(d[:, off], other[:, off]) for d in (by_hand, by_autodiff))
    logits = max(apart(d, y - t) for d in (by_logits, logits_autodiff))
    return [
        at_most("Softmax, derivative of output i by logit i against y_i (1 - y_i)", 1e-12, diagonal, IN_WORDS),
        at_most("Softmax, derivative of output i by logit j against -y_i y_j", 1e-12, rest, IN_WORDS),
        at_most("Softmax cross-entropy, derivative by the logits against y - t", 1e-12, logits, IN_WORDS),
    ]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference."""
    return float(np.abs(a - b).max())


# ---- pictures


def figures(x: np.ndarray, t: np.ndarray, hidden: np.ndarray, with_unit: Runs, without: Runs) -> list[Figure]:
    """The rows, what the hidden unit makes of them, the cost, and the softmax."""
    seed = f"Seed {SHOWN}."
    return [
        Figure("Probability of the inner class", f"{seed} One neuron can only rise or fall; a hidden unit does both.",
               probabilities(x, t, with_unit, without)),
        Figure("What the hidden unit makes of the rows", f"{seed} The input across, the output h of the "
               "hidden unit upwards: a threshold on h separates them, none on x does.",
               projection(x, t, hidden, with_unit)),
        Figure("The cost", f"Mean over the rows; {seed[:-1].lower()}, both networks.",
               plots.curves({"with the hidden unit": with_unit.costs[SHOWN], "without": without.costs[SHOWN]},
                            xlabel="iteration", ylabel="cost (nats, mean over the rows)", log=True)),
        Figure("The softmax and its derivatives", "Three classes, logits (z, 0, 0). Output 1 rises with its own "
               "logit; the others fall by as much in all.", softmax_picture()),
    ]  # fmt: skip


def probabilities(x: np.ndarray, t: np.ndarray, with_unit: Runs, without: Runs) -> Picture:
    """Both networks' outputs over the line of inputs, the rows at their targets."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    line = np.linspace(-3.5, 3.5, 200, dtype=np.float32)[:, None]
    for hidden, runs, name in ((True, with_unit, "with the hidden unit"), (False, without, "without")):
        params = jax.tree.map(lambda leaf: leaf[SHOWN], runs.params)
        z, _, _ = network(hidden).forward(params, ((), (), ()) if hidden else ((),), jnp.asarray(line), None, False)
        colour = plots.LINE_COLOURS[0 if hidden else 5]
        ax.plot(line, fnn.sigmoid(z), "-" if hidden else "--", color=colour, label=name)
    for label in (0, 1):
        mine = x[t == label]
        ax.plot(
            mine, np.full(len(mine), label), "|", color=plots.CLASS_COLOURS[label], markersize=12, label=NAMES[label]
        )
    ax.set(xlabel="input x", ylabel="probability of the inner class")
    return finished(picture, ax)


def projection(x: np.ndarray, t: np.ndarray, hidden: np.ndarray, runs: Runs) -> Picture:
    """The rows over the input, at the height of the hidden unit's output."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    first, last = (jax.tree.map(lambda leaf: leaf[SHOWN], runs.params[i]) for i in (0, 2))
    line = np.linspace(-3.5, 3.5, 200)
    ax.plot(line, bump(line * first["w"][0]), color="#bbbbbb", label="hidden unit, exp(-(w x)²)")
    for label in (0, 1):
        mine, colour = t == label, plots.CLASS_COLOURS[label]
        ax.plot(x[mine], hidden[mine], "o", color=colour, markeredgecolor="white", label=NAMES[label])
    threshold = float(-last["b"][0] / last["w"][0, 0])
    ax.axhline(threshold, color=plots.INK, linewidth=1, linestyle=":", label="where the output neuron has ½")
    ax.set(xlabel="input x", ylabel="hidden output h")
    return finished(picture, ax)


def softmax_picture() -> Picture:
    """The three outputs, and the derivatives by the first logit."""
    picture = Picture(figsize=(11, 3.8), layout="constrained")
    left, right = picture.subplots(1, 2)
    z = np.linspace(-6, 6, 241)
    logits = np.stack([z, np.zeros_like(z), np.zeros_like(z)], 1)
    y, slopes = np.asarray(fnn.softmax(logits)), np.asarray(fnn.softmax.derivative(jnp.asarray(logits)))
    left.plot(z, y[:, 0], color=plots.LINE_COLOURS[0], label="$y_1$")
    left.plot(z, y[:, 1], color=plots.LINE_COLOURS[1], label="$y_2 = y_3$")
    left.set(xlabel="logit $z_1$", ylabel="output y (probability)")
    right.plot(z, slopes[:, 0, 0], color=plots.LINE_COLOURS[0], label="i = j: $dy_1/dz_1 = y_1 (1 - y_1)$")
    right.plot(z, slopes[:, 1, 0], color=plots.LINE_COLOURS[1], label="i ≠ j: $dy_2/dz_1 = -y_2 y_1$")
    right.set(xlabel="logit $z_1$", ylabel="derivative by $z_1$")
    finished(picture, left)
    return finished(picture, right)


def finished(picture: Picture, ax: Any) -> Picture:
    """A legend and quiet axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return picture
