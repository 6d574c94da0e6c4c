"""Gradient check: is a derivative right?

Question: do numerical differences confirm the derivatives of networks of several kinds, how large should their step be,
          and is a mistake found?
Source:   D2 (part 4 of the series): central differences with step 1e-4 for every parameter, weights drawn N(0, 1),
          accepted by np.isclose with its defaults: "No gradient errors found". The other networks, the sixth order,
          the steps and the planted mistakes are ours.
Command:  python -m experiments gradient_check
Time:     about 9 seconds on two CPU cores.
Expected: no errors in the right networks; the error falls as the step's 2nd and 6th power until rounding takes over;
          every planted mistake is found, in the parameters that it spoils.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure as Picture

import fnn
from experiments.report import OURS, PUBLISHED, Figure, Result, Row, at_most, holds
from fnn import plots

STEP, RTOL, ATOL = 1e-4, 1e-5, 1e-8  # D2's step; the defaults of np.isclose
ORDERS, PRECISIONS = (2, 6), {"float32": jnp.float32, "float64": jnp.float64}
D2, SUBTLE = "2-3-2, sigmoid, softmax cross-entropy (D2)", "1 % too much for the first weights"


class Settings(NamedTuple):
    """Sizes."""

    points: int = 20  # rows a check
    steps: int = 37  # step sizes in the picture


class Case(NamedTuple):
    """A network to be checked, at weights N(0, 1)."""

    net: fnn.Layer
    loss: fnn.Loss
    features: int
    classes: int | None  # None: the target is one number


class Found(NamedTuple):
    """Every derivative of a case, as one long vector, and whether the two agree."""

    leaves: list[str]  # which array of parameters each belongs to
    by_hand: np.ndarray
    by_differences: np.ndarray  # second order, D2's step
    close: np.ndarray  # what np.isclose says
    sixth: float  # relative difference to differences of sixth order


def main(settings: Settings) -> Result:
    """Right networks, wrong ones, and the error as a function of the step."""
    right = {name: examine(case, settings.points) for name, case in cases().items()}
    planted = {name: spoil(right[D2], case, settings.points) for name, case in mistakes().items()}
    checks = {"right": check(cases()[D2], settings.points), "spoilt": check(mistakes()[SUBTLE], settings.points)}
    steps = np.logspace(-9, 0, settings.steps)
    errors = {
        (order, name): step_errors(right[D2].by_hand, steps, order, dtype, settings.points)
        for order in ORDERS
        for name, dtype in PRECISIONS.items()
    }
    return Result(
        title="Gradient check",
        question="Numerical differences confirm the derivatives, with what step, and is a mistake found?",
        rows=right_rows(right) + planted_rows(planted) + check_rows(checks) + step_rows(steps, errors),
        figures=figures(steps, errors, right[D2], planted, checks),
        notes=[
            "The first network is D2's, with its 17 parameters. All is float64, rows and weights are drawn by seed 0.",
            f"np.isclose accepts a difference of {ATOL:g} + {RTOL:g} times the derivative.",
            "All networks are smooth. Where a row is nearer to a kink (relu at 0) than the step, the difference "
            "of a right network is not its derivative; shift such a row.",
        ],
        numbers={"right": right, "planted": planted, "checks": checks, "steps": steps, "errors": errors},
    )


def cases() -> dict[str, Case]:
    """Networks of several kinds, all smooth."""
    losses, inner = fnn.losses, fnn.residual(fnn.serial(fnn.dense(5), fnn.softplus))
    return {
        D2: Case(fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2)), losses.softmax_cross_entropy, 2, 2),
        "3-4-1, sigmoid twice, squared error (D0)":
            Case(fnn.serial(fnn.dense(4), fnn.sigmoid, fnn.dense(1), fnn.sigmoid), losses.squared_error, 3, None),
        "4-5-5-3, tanh, a residual of softplus, softmax as a layer, cross-entropy":
            Case(fnn.serial(fnn.dense(5), fnn.tanh, inner, fnn.dense(3), fnn.softmax), losses.cross_entropy, 4, 3),
        "3-6-1, silu, sigmoid cross-entropy":
            Case(fnn.serial(fnn.dense(6), fnn.silu, fnn.dense(1)), losses.sigmoid_cross_entropy, 3, None),
    }  # fmt: skip


def mistakes() -> dict[str, Case]:
    """D2's network with one mistake in one rule, each of a kind that happens. The cost itself stays right."""

    def one_row(params: Any, x: Any, dy: Any) -> Any:
        return {"w": x.T @ dy, "b": dy[0]}, dy @ params["w"].T

    def one_percent(params: Any, x: Any, dy: Any) -> Any:
        return {"w": 1.01 * x.T @ dy, "b": dy.sum(0)}, dy @ params["w"].T

    loss = fnn.losses.softmax_cross_entropy
    forgetful = fnn.elementwise("sigmoid", fnn.sigmoid.value, fnn.sigmoid.value)
    targetless = loss._replace(grad=lambda z, t: fnn.softmax.value(z))
    nets = {
        "σ' = σ, not σ (1 - σ)": (fnn.serial(fnn.dense(3), forgetful, fnn.dense(2)), loss),
        "the last bias by one row, not by all": (
            fnn.serial(fnn.dense(3), fnn.sigmoid, wrong(fnn.dense(2), one_row)),
            loss,
        ),
        SUBTLE: (fnn.serial(wrong(fnn.dense(3), one_percent), fnn.sigmoid, fnn.dense(2)), loss),
        "dz = y, not y - t": (fnn.serial(fnn.dense(3), fnn.sigmoid, fnn.dense(2)), targetless),
    }
    return {name: Case(net, loss, 2, 2) for name, (net, loss) in nets.items()}


def wrong(layer: fnn.Layer, backward: Any) -> fnn.Layer:
    """The same layer with another rule for its derivatives."""
    return layer._replace(backward=backward)


# ---- the checks, all in float64


def inputs(case: Case, points: int, dtype: Any = jnp.float64) -> tuple[Any, Any, Any, Any]:
    """Parameters, state, rows and targets for a case, by seed 0."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((points, case.features))
    numbers, labels = rng.uniform(size=(points, 1)), np.arange(points) % (case.classes or 1)
    t = numbers if case.classes is None else np.eye(case.classes)[labels]
    # only the shapes are asked of `init`: drawn here, all numbers are N(0, 1), and nothing is compiled for it
    params, state, _ = jax.eval_shape(lambda key: case.net.init(key, (case.features,)), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), dtype), params)
    return params, state, jnp.asarray(x, dtype), jnp.asarray(t, dtype)


def derivatives(case: Case, params: Any, state: Any, x: Any, t: Any) -> np.ndarray:
    """By the rules by hand, of the sum over the rows, as one vector."""
    gradient = fnn.backprop(case.net, case.loss, reduction="sum")
    return np.asarray(ravel_pytree(jax.jit(lambda params: gradient(params, state, x, t).grads)(params))[0])


def differences(case: Case, params: Any, state: Any, x: Any, t: Any) -> Any:
    """Likewise by numerical differences, as a function of their order and step."""
    vector, tree_of = ravel_pytree(params)

    def cost(vector: Any) -> Any:
        return case.loss(case.net.forward(tree_of(vector), state, x, None, False)[0], t).sum()

    return lambda order, step: fnn.numerical_gradient(cost, vector, order=order, step=step)


def examine(case: Case, points: int) -> Found:
    """Every derivative by hand against numerical differences."""
    with jax.enable_x64(True):
        point = inputs(case, points)
        by_hand, by_differences = derivatives(case, *point), differences(case, *point)
        second, sixth = np.asarray(by_differences(2, STEP)), np.asarray(by_differences(6, None))
    leaves = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree.leaves_with_path(point[0])
        for _ in range(leaf.size)
    ]
    return Found(leaves, by_hand, second, np.isclose(second, by_hand), relative(sixth, by_hand))


def spoil(found: Found, case: Case, points: int) -> Found:
    """The same with the derivatives by hand of a mistaken network; the cost, so the differences, are the same."""
    with jax.enable_x64(True):
        by_hand = derivatives(case, *inputs(case, points))
    return found._replace(by_hand=by_hand, close=np.isclose(found.by_differences, by_hand))


def check(case: Case, points: int) -> Any:
    """What a user would call."""
    with jax.enable_x64(True):
        return fnn.check_gradients(case.net, case.loss, *inputs(case, points), reduction="sum", show=False)


def step_errors(exact: np.ndarray, steps: np.ndarray, order: int, dtype: Any, points: int) -> np.ndarray:
    """How far D2's derivatives are from differences with each step; one program, the step is an argument of it."""
    case = cases()[D2]
    with jax.enable_x64(True):
        by_differences = differences(case, *inputs(case, points, dtype))
        every = jax.jit(jax.vmap(lambda step: by_differences(order, step)))(jnp.asarray(steps, dtype))
    return np.array([relative(np.asarray(gradient), exact) for gradient in every])


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


# ---- what is reported


def right_rows(right: dict[str, Found]) -> list[Row]:
    """The networks that are as they should be. Only D2's own has a published verdict."""
    rows = []
    for name, found in right.items():
        errors, parameters = int((~found.close).sum()), len(found.close)
        rows.append(holds(f"Network {name}", "No gradient errors found", f"{errors or 'No'} gradient errors found",
                          f"np.isclose accepts all {parameters}, order 2, step {STEP:g}", errors == 0,
                          PUBLISHED if name == D2 else OURS))  # fmt: skip
    worst = max(found.sixth for found in right.values())
    rows.append(at_most("Differences of order 6 against fnn.backprop, worst of these, relative", 1e-9, worst))
    return rows


def planted_rows(planted: dict[str, Found]) -> list[Row]:
    """The mistakes, each of which must be found."""
    rows = []
    for name, found in planted.items():
        errors, leaves = int((~found.close).sum()), spoilt(found)
        seen = f"{errors} errors, in {', '.join(leaves)}" if errors else "No gradient errors found"
        rows.append(
            holds(f"Planted mistake: {name}", "found", seen, "np.isclose rejects at least one", errors > 0, OURS)
        )
    return rows


def spoilt(found: Found) -> list[str]:
    """The arrays of parameters in which there is an error."""
    return sorted({leaf for leaf, close in zip(found.leaves, found.close, strict=True) if not close})


def check_rows(checks: dict[str, Any]) -> list[Row]:
    """The function for users, on a right network and on one with a mistake of 1 %."""
    wrong_leaves = [leaf.leaf for leaf in checks["spoilt"].leaves if not leaf.ok]
    return [
        holds("fnn.check_gradients of D2's network", "right", "right" if checks["right"].ok else "WRONG",
              "every leaf, the inputs too", checks["right"].ok, OURS),
        holds(f"fnn.check_gradients, planted: {SUBTLE}", "WRONG in 0.w alone",
              f"WRONG in {', '.join(wrong_leaves)}" if wrong_leaves else "right", "no other leaf",
              wrong_leaves == ["0.w"], OURS),
    ]  # fmt: skip


def step_rows(steps: np.ndarray, errors: dict[tuple[int, str], np.ndarray]) -> list[Row]:
    """The error against the step, float64: which power it falls with, and how far."""
    rows = []
    for order, bound in zip(ORDERS, (1e-9, 1e-12), strict=True):
        error = errors[order, "float64"]
        slope = power(steps, error)
        rows += [
            holds(f"Power of the step that the error goes with, order {order}", f"{order}", f"{slope:.3f}",
                  "within 0.1, where truncation rules", abs(slope - order) < 0.1, OURS),
            at_most(f"Smallest error over all steps, order {order}, float64", bound, float(error.min())),
        ]  # fmt: skip
    return rows


def power(steps: np.ndarray, errors: np.ndarray) -> float:
    """The slope in a log-log picture right of the minimum, where the error is small but far above rounding."""
    ruled = (steps > steps[errors.argmin()]) & (errors > 100 * errors.min()) & (errors < 1e-6)
    return float(np.polyfit(np.log(steps[ruled]), np.log(errors[ruled]), 1)[0])


# ---- pictures


def figures(
    steps: np.ndarray,
    errors: dict[tuple[int, str], np.ndarray],
    right: Found,
    planted: dict[str, Found],
    checks: dict[str, Any],
) -> list[Figure]:
    """The error against the step, each derivative, and the table that a user sees."""
    return [
        Figure("Error against step size",
               "D2's network. To the right truncation rules, to the left rounding. The dotted line is D2's step.",
               step_picture(steps, errors)),
        Figure("Each derivative of D2's network",
               "How far it is from its difference, in units of what np.isclose accepts: above the line is an error.",
               error_picture(right, planted)),
        Figure("What fnn.check_gradients prints", f"First D2's network, then the same with a mistake: {SUBTLE}.",
               printed_tables(checks)),
    ]  # fmt: skip


def step_picture(steps: np.ndarray, errors: dict[tuple[int, str], np.ndarray]) -> Picture:
    """Both orders in both precisions, log-log."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    for (order, name), error in errors.items():
        colour = plots.LINE_COLOURS[ORDERS.index(order)]
        ax.plot(steps, error, "-" if name == "float64" else "--", color=colour, label=f"order {order}, {name}")
    ax.axvline(STEP, color=plots.INK, linewidth=0.8, linestyle=":", label=f"step {STEP:g}")
    ax.set(xlabel="step ε", ylabel="largest error over largest derivative", xscale="log", yscale="log")
    return finished(picture, ax)


def error_picture(right: Found, planted: dict[str, Found]) -> Picture:
    """One column a parameter, one marker a network."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    columns = np.arange(len(right.leaves))
    for i, (name, found) in enumerate({"right": right, **planted}.items()):
        difference = np.abs(found.by_differences - found.by_hand)
        units = difference / (ATOL + RTOL * np.abs(found.by_hand))
        # the others lie on the right ones
        size, fill = (4, "full") if i else (9, "none")
        colour = plots.LINE_COLOURS[i]
        ax.plot(columns, units, "ov^sD"[i], color=colour, markersize=size, fillstyle=fill, label=name)
    ax.axhline(1, color=plots.INK, linewidth=0.8, linestyle=":", label="what np.isclose accepts")
    starts = [right.leaves.index(leaf) for leaf in dict.fromkeys(right.leaves)]
    ax.set_xticks(starts, ["layer {}\n{}".format(*right.leaves[i].split(".")) for i in starts])
    ax.set(xlabel="parameter (one column a number)", ylabel="difference / accepted difference", yscale="log")
    return finished(picture, ax)


def printed_tables(checks: dict[str, Any]) -> list[str]:
    """The two tables as they are printed, without what was judged by what, which is wide."""
    return ["\n".join(str(one).splitlines()[:-2]) for one in checks.values()]


def finished(picture: Picture, ax: Any) -> Picture:
    """A legend above the axes, and quiet axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return picture
