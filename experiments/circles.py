"""Two circles: back-propagation by hand, gradient checking, momentum.

Question: are D2's vectorised derivatives right, and does its 2-3-2 network learn to tell a ring from its centre?
Source:   D2 (part 4 of the series): data, network, table of derivatives, gradient check, momentum, four pictures.
Command:  python -m experiments circles
Time:     about 12 seconds on two CPU cores.
Expected: all 17 derivatives pass the gradient check; with momentum all 100 rows are right after 300 iterations for
          about 190 of 200 seeds; plain descent at the same learning rate has not left its starting plateau by then.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure as Picture
from scipy.optimize import linprog
from sklearn.datasets import make_circles

import fnn
from experiments.report import IN_WORDS, OURS, PUBLISHED, Figure, Result, Row, at_least, at_most, holds
from fnn import plots

LEARNING_RATE, MOMENTUM = 0.02, 0.9
ROWS, SHOWN = 100, 1  # rows of data; the seed that the pictures show
PATIENCE = 10  # plain descent is also tried with so many times the iterations
NAMES = ("outer ring", "inner cluster")


class Settings(NamedTuple):
    """Sizes; the defaults are D2's, the seeds are ours, two or more."""

    seeds: int = 200
    iterations: int = 300
    grid: int = 200


class Runs(NamedTuple):
    """A training run, or as many as there are seeds, along a leading axis of every array."""

    params: Any
    state: Any
    costs: Any  # before the first step, then after each
    last_cost: Any
    right: Any  # rows classified correctly in the end


def main(settings: Settings) -> Result:
    """Everything D2 claims, and our checks of it."""
    x, t = (np.stack(parts) for parts in zip(*map(data, range(settings.seeds)), strict=True))
    momentum, plain = train(x, t, settings.iterations, MOMENTUM), train(x, t, settings.iterations, 0.0)
    late, patient = train(x, t, 2 * settings.iterations, MOMENTUM), train(x, t, PATIENCE * settings.iterations, 0.0)
    hidden = np.stack([hidden_outputs(member(momentum, i).params, x[i]) for i in range(settings.seeds)])

    table_error, accepted, parameters = check_derivatives(*data(SHOWN))
    rows = derivative_rows(table_error, accepted, parameters)
    rows += training_rows(momentum, plain, settings)
    rows += separation_rows(x, hidden, t)
    return Result(
        title="Two circles",
        question="Are the vectorised derivatives right, and does a 2-3-2 network learn to tell a ring from its centre?",
        rows=rows,
        figures=figures(x[SHOWN], t[SHOWN], momentum, plain, patient, hidden[SHOWN], settings),
        notes=notes(momentum, late, patient, settings),
        numbers={"table_error": table_error, "accepted": accepted, "parameters": parameters} | momentum._asdict(),
    )


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """D2's rows: an outer ring, label 0, around an inner cluster, label 1; targets one-hot."""
    x, labels = make_circles(n_samples=ROWS, shuffle=False, factor=0.3, noise=0.1, random_state=seed)
    return x.astype(np.float32), np.eye(2, dtype=np.float32)[labels]


def network(deviation: float) -> fnn.Layer:
    """2-3-2, weights and biases drawn N(0, deviation²). It ends in logits: the loss has the softmax in it."""
    first, second = (fnn.dense(n, weight_init=deviation, bias_init=deviation) for n in (3, 2))
    return fnn.serial(first, fnn.sigmoid, second)


# ---- the derivatives


def check_derivatives(x: Any, t: Any) -> tuple[float, int, int]:
    """At weights drawn N(0, 1): how far `fnn.backprop` is from D2's table, how many derivatives the check accepts."""
    with jax.enable_x64(True):  # a difference of 1e-4 has no digits left in float32
        x, t = jnp.asarray(x, jnp.float64), jnp.asarray(t, jnp.float64)
        net, loss = network(1.0), fnn.losses.softmax_cross_entropy
        params, state = jax.jit(lambda key: net.init(key, (2,))[:2])(jax.random.key(SHOWN))
        gradient = fnn.backprop(net, loss, reduction="sum")

        def cost(params: Any) -> jax.Array:
            return loss(net.forward(params, state, x, None, False)[0], t).sum()

        by_backprop = jax.jit(lambda params: gradient(params, state, x, t).grads)(params)
        by_differences = fnn.numerical_gradient(cost, params, order=2, step=1e-4)
        by_table = table_of_d2(np.asarray(x), np.asarray(t), jax.tree.map(np.asarray, params))

    backprop, differences, table = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g)]) for g in (by_backprop, by_differences, by_table)
    )
    accepted = int(np.isclose(differences, backprop).sum())
    return float(np.abs(backprop - table).max() / np.abs(table).max()), accepted, backprop.size


def table_of_d2(x: np.ndarray, t: np.ndarray, params: Any) -> Any:
    """D2's table, literally, in NumPy; arranged as the network's parameters are."""
    (wh, bh), (wo, bo) = ((params[i]["w"], params[i]["b"]) for i in (0, 2))
    h = 1 / (1 + np.exp(-(x @ wh + bh)))
    z = np.exp(h @ wo + bo)
    y = z / z.sum(1, keepdims=True)
    eo = y - t
    jwo = h.T @ eo
    jbo = eo.sum(0)
    eh = h * (1 - h) * (eo @ wo.T)
    jwh = x.T @ eh
    jbh = eh.sum(0)
    return ({"w": jwh, "b": jbh}, (), {"w": jwo, "b": jbo})


# ---- the training


def train(x: np.ndarray, t: np.ndarray, iterations: int, momentum: float) -> Runs:
    """One run a seed, of data and of weights alike; all of them are one compiled program."""
    keys = jax.vmap(jax.random.key)(jnp.arange(len(x)))
    runs = jax.tree.map(np.asarray, all_runs(keys, x, t, iterations, momentum))
    return runs._replace(costs=np.column_stack([runs.costs[:, :iterations], runs.last_cost]))


def one_run(key: Any, x: Any, t: Any, iterations: Any, momentum: Any) -> Runs:
    """Full-batch descent on the sum of the rows' losses, as a pure function. Its `costs` are those before each step."""
    net, loss, rows = network(0.1), fnn.losses.softmax_cross_entropy, fnn.Data(fnn.Part(x, t))
    training = fnn.trainer(net, loss, lambda s: optax.sgd(LEARNING_RATE, momentum=s["momentum"]), reduction="sum")
    end, history = training.run(training.init(key, rows, {"momentum": momentum}), rows, iterations)
    z, _, _ = net.forward(end.params, end.state, x, None, False)
    right = (jnp.round(fnn.softmax(z)) == t).all(1).sum()
    return Runs(end.params, end.state, history.loss, loss(z, t).sum(), right)


# one program for any number of iterations, with momentum or without: both are arguments of it
all_runs = jax.jit(jax.vmap(one_run, in_axes=(0, 0, 0, None, None)))


def member(runs: Runs, i: int) -> Runs:
    """One of the runs."""
    return jax.tree.map(lambda leaf: leaf[i], runs)


def hidden_outputs(params: Any, x: Any) -> np.ndarray:
    """Where the hidden layer puts the rows: `σ(x Wh + bh)`, three numbers per row."""
    return np.asarray(fnn.sigmoid(x @ params[0]["w"] + params[0]["b"]))


def separable(points: np.ndarray, t: np.ndarray) -> bool:
    """Whether a line, or a plane, has each class on a side of its own: is `s (points·n + d) ≥ 1` feasible?"""
    sides = np.where(t[:, 1] > t[:, 0], 1.0, -1.0)[:, None]
    unknowns = np.column_stack([points, np.ones(len(points))]).astype(float)
    bound = -np.ones(len(points))
    return linprog(np.zeros(unknowns.shape[1]), -sides * unknowns, bound, bounds=(None, None)).status == 0


def plane_of(params: Any) -> tuple[np.ndarray, float]:
    """Where both logits are equal: the output layer's own plane in the hidden space, `(normal, offset)`."""
    w, b = params[2]["w"], params[2]["b"]
    return w[:, 1] - w[:, 0], float(b[1] - b[0])


# ---- what is reported


def derivative_rows(table_error: float, accepted: int, parameters: int) -> list[Row]:
    """The derivatives."""
    found = "No gradient errors found" if accepted == parameters else f"{parameters - accepted} gradient errors found"
    criterion = f"np.isclose accepts {accepted} of {parameters}, step 1e-4"
    return [
        holds("Gradient check, central differences, float64", "No gradient errors found", found, criterion,
              accepted == parameters, PUBLISHED),
        at_most("fnn.backprop against D2's table, relative difference", 1e-12, table_error),
    ]  # fmt: skip


def training_rows(momentum: Runs, plain: Runs, settings: Settings) -> list[Row]:
    """The end of training."""
    costs, end = momentum.costs[SHOWN], momentum.last_cost
    share = 9 * settings.seeds // 10
    tenth = int((end < momentum.costs[:, 0] / 10).sum())
    ahead = int((end < plain.last_cost).sum())
    after = f"after {settings.iterations} iterations"
    return [
        holds(f"Rows right {after}, seed {SHOWN}", f"all {ROWS}", f"{momentum.right[SHOWN]}",
              f"equal to {ROWS}", momentum.right[SHOWN] == ROWS),
        at_least(f"Seeds of {settings.seeds} with all rows right {after}", share,
                 int((momentum.right == ROWS).sum())),
        holds("Values in the list of costs", f"{settings.iterations + 1}", f"{len(costs)}", "equal",
              len(costs) == settings.iterations + 1, PUBLISHED),
        at_most(f"Last cost over first, seed {SHOWN}", 0.1, float(costs[-1] / costs[0])),
        at_least(f"Seeds of {settings.seeds} with a last cost under 1/10 of the first", share, tenth),
        holds(f"Seeds of {settings.seeds} where momentum beats plain descent", "momentum is better",
              f"{ahead}", f"at least {share}", ahead >= share, IN_WORDS),
    ]  # fmt: skip


def separation_rows(x: np.ndarray, hidden: np.ndarray, t: np.ndarray) -> list[Row]:
    """Why it works: what no line can separate, a plane in the hidden space does."""
    before, after = separable(x[SHOWN], t[SHOWN]), separable(hidden[SHOWN], t[SHOWN])
    every = sum(map(separable, hidden, t))
    words = {True: "separable", False: "not separable"}
    return [
        holds(f"By a line in the inputs, seed {SHOWN}", words[False], words[before],
              "no line exists (linear programme)", not before, IN_WORDS),
        holds(f"By a plane in the hidden space, seed {SHOWN}", words[True], words[after],
              "a plane exists (linear programme)", after, OURS),
        at_least(f"Seeds of {len(t)} with such a plane", 9 * len(t) // 10, every),
    ]  # fmt: skip


def notes(momentum: Runs, late: Runs, patient: Runs, settings: Settings) -> list[str]:
    """What the table cannot say."""
    right, then, in_the_end = (int((runs.right == ROWS).sum()) for runs in (momentum, late, patient))
    return [
        f"With momentum {right} of {settings.seeds} seeds have all rows right after {settings.iterations} iterations, "
        f"and {then} after {2 * settings.iterations}. What holds them up is the plateau at 100 ln 2 = 69.3, where "
        "every row gets probability ½ for both classes.",
        "D2 expects plain descent to end in a local minimum. What holds it up here is that plateau, and it is no "
        f"minimum: after {PATIENCE * settings.iterations:,} iterations plain descent has all rows right for "
        f"{in_the_end} of {settings.seeds} seeds. Momentum 0.9 adds up about ten steps, and leaves ten times sooner.",
        "The learning-rate update that D2 sets up, 0.02/300 an iteration, is not applied there, nor here.",
    ]


def figures(
    x: np.ndarray, t: np.ndarray, momentum: Runs, plain: Runs, patient: Runs, hidden: np.ndarray, settings: Settings
) -> list[Figure]:
    """D2's four pictures, and one of all seeds."""
    run = member(momentum, SHOWN)
    both = {"momentum 0.9": momentum.costs[SHOWN], "plain descent": plain.costs[SHOWN]}
    return [
        Figure("The two classes", "An outer ring around an inner cluster; no line separates them.",
               plots.classes(x, t, names=NAMES)),
        Figure("Decrease of the cost", f"Sum over the {ROWS} rows. Same start, same learning rate {LEARNING_RATE}.",
               plots.curves(both, xlabel="iteration", ylabel="cost (nats, summed over the rows)")),
        Figure("Decision boundary", f"On a grid of {settings.grid} × {settings.grid} points over [-2, 2]².",
               plots.decision_boundary(network(0.1), run, x, t, grid=settings.grid, names=NAMES)),
        Figure("Projection onto the hidden layer",
               "Each row's three hidden outputs, and the plane on which both logits are equal.",
               plots.hidden_space(hidden, t, plane=plane_of(run.params), names=NAMES)),
        Figure(f"The cost of all {settings.seeds} seeds",
               f"Plain descent is given {PATIENCE} times the iterations, and needs them.",
               all_costs(momentum, patient)),
    ]  # fmt: skip


def all_costs(momentum: Runs, patient: Runs) -> Picture:
    """One thin line a seed: momentum on the left, plain descent, over more iterations, on the right."""
    picture = Picture(figsize=(11, 3.8), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True)
    for ax, runs, name in ((left, momentum, "momentum 0.9"), (right, patient, "plain descent")):
        lines = ax.plot(runs.costs.T, color=plots.LINE_COLOURS[0], linewidth=0.7, alpha=0.35)
        lines[0].set_label(f"{name}, one line a seed")
        ax.set(xlabel="iteration", yscale="log")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="small", loc="lower left")
    left.set_ylabel("cost (nats, summed over the rows)")
    return picture
