"""Is a derivative right? By hand, by autodiff, by a complex step and by differences, side by side, leaf by leaf."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import named_arrays
from fnn.batches import row_values
from fnn.complex_step import NotAnalytic, complex_step
from fnn.differences import difference, steps
from fnn.gradients import autodiff, backprop
from fnn.losses import as_loss
from fnn.types import Array, Key, Layer, Params, Penalty, ShapeError, State

LARGE, DIRECTIONS = 256, 16  # a leaf with more numbers than this is checked in so many random directions
AGREE = {8: (1e-12, 1e-12, 1e-9), 4: (2e-5, 2e-5, 2e-2), 2: (2e-2, 2e-2, 0.2)}  # limits of the three, by bytes


class LeafCheck(NamedTuple):
    """How far four derivatives of one leaf disagree: largest difference over largest value."""

    leaf: str
    shape: tuple[int, ...]
    autodiff: float  # by hand against autodiff
    complex_step: float  # by hand against a complex step; nan where the function has no complex form
    numerical: float  # by hand against differences
    kink: float  # how far away the nearest kink is, in units of the leaf; inf: nowhere
    worst: tuple[int, ...]  # where by hand and autodiff are furthest apart
    by_hand: float  # the derivative there, by hand
    by_autodiff: float
    factor: float  # by hand is best described as so many times autodiff
    remainder: float  # and this far from it then
    vanishes: bool  # all of it is rounding, beside the derivatives of the other leaves
    ok: bool

    @property
    def verdict(self) -> str:
        """What is the matter, in words."""
        if self.ok:
            return "0 to rounding" if self.vanishes else "right"
        if np.isfinite(self.by_hand) and not self.autodiff > 1e-3 * max(self.complex_step, self.numerical):
            return "WRONG: by hand and autodiff agree, and the function itself says otherwise"
        if self.by_hand == self.factor == 0:
            return "WRONG: by hand is 0"
        if self.remainder <= 1e-3 * abs(self.factor - 1):
            return f"WRONG: by hand is {_factor(self.factor)} times the derivative"
        return f"WRONG: at {list(self.worst)} by hand {self.by_hand:.6g}, by autodiff {self.by_autodiff:.6g}"


def _factor(factor: float) -> str:
    return f"{factor:.4g}" if abs(factor - 1) > 1e-3 else f"1 {'-' if factor < 1 else '+'} {abs(factor - 1):.1e}"


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found; prints as a table. A pytree of arrays, so it comes out of `jit`, `vmap` and `scan`.

    `ok` says whether all is right (one answer a member under `vmap`); `leaves` has the figures, leaf by leaf.
    """

    figures: dict[str, Any]  # name -> one number a leaf on the last axis
    names: tuple[tuple[str, tuple[int, ...]], ...]  # of the leaves, with their shapes

    @property
    def ok(self) -> Any:
        """Whether every leaf is right."""
        verdict = self.figures["ok"].all(-1)
        return verdict if isinstance(verdict, jax.core.Tracer) or verdict.ndim else bool(verdict)

    @property
    def leaves(self) -> tuple[LeafCheck, ...]:
        """The figures of each leaf, on the host."""
        figures = {name: np.asarray(value) for name, value in self.figures.items()}
        checks = []
        for i, (leaf, shape) in enumerate(self.names):
            row = {name: value[i].item() for name, value in figures.items()}
            row["worst"] = tuple(int(j) for j in np.unravel_index(row["worst"], shape))
            checks.append(LeafCheck(leaf, shape, **row))
        return tuple(checks)

    def __str__(self) -> str:
        head = ("leaf", "shape", "autodiff", "complex step", "differences", "nearest kink", "verdict")
        body = [
            (c.leaf, str(c.shape), *map(_small, (c.autodiff, c.complex_step, c.numerical, c.kink)), c.verdict)
            for c in self.leaves
        ]
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in (head, *body)
        ]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    __repr__ = __str__


jax.tree_util.register_dataclass(GradientCheck, data_fields=["figures"], meta_fields=["names"])


def _small(value: float) -> str:
    return "-" if np.isnan(value) else "none" if np.isinf(value) and value > 0 else f"{value:.1e}"


def _check_shapes(net: Layer, loss: Any, params: Any, state: Any, x: Any, t: Any, key: Any, train: Any) -> None:
    """Derivatives of other shapes than what they are of: a sum over the rows forgotten, say."""

    def by_hand(params: Any, x: Any) -> Any:
        y, _, cache = net.forward(params, state, x, key, train)
        dy = loss.grad(y, t)
        return y, dy, *(net.backward(params, cache, dy) if jnp.shape(dy) == y.shape else (params, x))

    y, dy, dparams, dx = jax.eval_shape(by_hand, params, x)
    mend = "Do look at the formula: which sum over the rows, or which transpose, is missing?"
    if dy.shape != y.shape:
        raise ShapeError(f"loss.grad of {loss}: expected shape {y.shape}, as the outputs, got {dy.shape}. {mend}")
    if jnp.issubdtype(x.dtype, jnp.floating) and dx.shape != x.shape:
        raise ShapeError(f"backward of {net}: expected dx of shape {x.shape}, as x, got {dx.shape}. {mend}")
    theirs, ours = named_arrays.named(params), named_arrays.named(dparams)
    named_arrays.check_alike(f"backward of {net}", "dparams like the parameters", theirs, ours, mend, width=False)


def check_gradients(
    net: Layer,
    loss: Any,
    params: Params,
    state: State,
    x: Any,
    t: Any,
    key: Key = None,
    train: Any = True,
    penalty: Penalty | None = None,
    *,
    weight: Any = None,
    reduction: str = "mean",
    show: bool = True,
) -> GradientCheck:
    """Check the derivatives of a network's cost, those of its layers, its loss and its penalty, on one batch.

    By hand (`fnn.backprop`) against three others, one row a parameter leaf and one for the inputs:

    - autodiff (`fnn.autodiff`), every number of the leaf;
    - a complex step, which knows no rule of differentiation: `Im f(p + ih)/h`, exact to rounding; "-" where the
      function has no complex form (gelu's erf, a `while` loop);
    - central differences of sixth order, of several steps those that agree best.

    The last two along every number of a small leaf, along 16 random directions of a leaf with more than 256; each
    leaf by itself, so that a bias cannot hide behind a weight. All are normwise: the largest difference over the
    largest value of the leaf. Right means, in float64, within 1e-12, 1e-12 and 1e-9 (beyond the differences' own
    estimated error); in float32 within 2e-5, 2e-5 and 2e-2. Set `jax.config.update("jax_enable_x64", True)` for a sharp
    check. Where the nearest kink (relu at 0) is nearer than the smallest step, the differences do not count.

    Args:
        net, loss, params, state, penalty: what is to be checked, your own layers and losses included.
        x, t: a batch of inputs and targets; `weight`: one number a row.
        key, train: as for `net.forward`; the same key draws the same numbers each time.
        reduction: "mean" or "sum".
        show: print the table (never under `jit`, `vmap` or `scan`, where the result is a pytree of arrays).

    Returns:
        `GradientCheck`; `.ok`, and `.leaves` with the figures and the verdict in words: which leaf, by what factor.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (2,))
    >>> x, t = jax.random.normal(jax.random.key(1), (5, 2)), jax.numpy.eye(2)[jax.numpy.array([0, 1, 1, 0, 1])]
    >>> fnn.check_gradients(net, fnn.losses.softmax_cross_entropy, params, state, x, t, show=False).ok
    True
    """
    x, t, loss = jnp.asarray(x), jnp.asarray(t), as_loss(loss)
    if not x.shape[:1] or not x.shape[0]:
        raise ValueError(f"x: expected at least one row, got shape {x.shape}. Do pass a batch.")
    _check_shapes(net, loss, params, state, x, t, key, train)
    if jnp.issubdtype(x.dtype, jnp.floating):
        point, whole = {"params": params, "x": x}, _with_inputs(net)
        penal = None if penalty is None else _of_params(penalty)
    else:
        point, whole, penal = params, net, penalty
    makers = [maker(whole, loss, penal, reduction) for maker in (backprop, autodiff)]

    def costs(p: Any) -> Array:
        """The terms that the cost is the sum of: one a row, and the penalty."""
        y, _, _ = whole.forward(p, state, x, key, train)
        values = row_values("loss", loss, y, t)
        counts = jnp.ones_like(values) if weight is None else jnp.asarray(weight, values.dtype)
        rows = jnp.where(counts > 0, values * counts, 0.0)
        rows = rows / counts.sum() if reduction == "mean" else rows
        return rows if penal is None else jnp.append(rows, penal.value(p))

    @jax.jit  # one program: compiling is what takes the time
    def four_ways(p: Any) -> dict[str, Array]:
        by_hand, by_autodiff = (maker(p, state, x, t, weight, key, train).grads for maker in makers)
        return figures(p, by_hand, by_autodiff, slopes(costs, p, by_hand))

    if not jax.tree.leaves(point):
        raise TypeError(
            f"x: expected floating inputs for a network without parameters, got {x.dtype}. Do convert them to floats."
        )
    names = tuple((_name(path), leaf.shape) for path, leaf in jax.tree.leaves_with_path(point))
    result = GradientCheck(four_ways(point), names)
    if show and not any(isinstance(f, jax.core.Tracer) for f in result.figures.values()):
        print(result)
    return result


# ---- the figures, as arrays with one number a leaf


class Slopes(NamedTuple):
    """Along each of the directions that are tried."""

    by_hand: Array
    exact: Array  # by a complex step
    kink: Array  # how far it is to the nearest
    numerical: Array
    error: Array  # of `numerical`, as estimated


def slopes(
    costs: Callable[[Any], Array], point: Any, by_hand: Any, most: int = LARGE, tries: int = DIRECTIONS
) -> Slopes:
    """The derivative of the sum of `costs` along directions in each leaf, one after another, in three ways.

    Along every number of a leaf that has at most `most` of them, else along so many random directions (`tries`).
    """
    leaves = jax.tree.leaves(point)

    def along(i: Array, k: Array) -> Slopes:
        moves = [_direction(leaf, k, most) * (i == j).astype(leaf.dtype) for j, leaf in enumerate(leaves)]
        direction = jax.tree.unflatten(jax.tree.structure(point), moves)
        hand = reduce(jnp.add, [jnp.vdot(d, g) for d, g in zip(moves, jax.tree.leaves(by_hand), strict=True)])
        return Slopes(hand, *_complex_step(costs, point, direction), *difference(costs, point, direction))

    counts = [directions(leaf, most, tries) for leaf in leaves]
    number = jnp.asarray(np.concatenate([np.arange(n) for n in counts]), jnp.int32)
    return lax.map(lambda ik: along(*ik), (_of_leaf(counts), number))


def figures(point: Any, by_hand: Any, by_autodiff: Any, along: Slopes) -> dict[str, Array]:
    """What the table shows, one number a leaf."""
    leaves = jax.tree.leaves(point)
    dtype = jnp.result_type(*leaves)
    each = _Leaves(_of_leaf([directions(leaf) for leaf in leaves]), len(leaves))
    straddles = along.kink <= 3 * steps(dtype)[-1]  # even the smallest step: such differences do not count
    off = jnp.where(straddles, 0.0, jnp.abs(along.by_hand - along.numerical))
    beyond = each.normwise(jnp.where(straddles, 0.0, jnp.maximum(off - 10 * along.error, 0.0)), along.numerical)
    exact = each.normwise(along.by_hand - along.exact, along.exact)
    found = _by_hand_and_autodiff(by_hand, by_autodiff) | {
        "complex_step": jnp.where(jnp.isnan(along.exact).any(), jnp.nan, exact),
        "numerical": each.normwise(off, along.numerical),
        "kink": -each.largest(-along.kink),
    }
    limits = AGREE[dtype.itemsize]
    right = (found["autodiff"] <= limits[0]) & (beyond <= limits[2])
    right &= jnp.isnan(found["complex_step"]) | (found["complex_step"] <= limits[1])
    # nothing but rounding, as the bias before a batch_norm has it: there is no largest value to compare with
    rounding = 100 * jnp.finfo(dtype).eps * found.pop("top").max()
    vanishes = (found.pop("size") <= rounding) & ~(each.largest(jnp.abs(along.exact)) > rounding)
    return found | {"vanishes": vanishes & ~right, "ok": right | vanishes}


def directions(leaf: Array, most: int = LARGE, tries: int = DIRECTIONS) -> int:
    """How many directions a leaf is looked at along."""
    return leaf.size if leaf.size <= most else tries


def _of_leaf(counts: list[int]) -> Array:
    return jnp.asarray(np.repeat(np.arange(len(counts)), counts), jnp.int32)


def _by_hand_and_autodiff(by_hand: Any, by_autodiff: Any) -> dict[str, Array]:
    """Every number of every leaf, all leaves as one long vector: a handful of kernels, whatever the network."""
    leaves = jax.tree.leaves(by_hand)
    sizes = [leaf.size for leaf in leaves]
    each = _Leaves(_of_leaf(sizes), len(leaves))
    hand, auto = (jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(tree)]) for tree in (by_hand, by_autodiff))
    apart = jnp.where(jnp.isfinite(hand - auto), jnp.abs(hand - auto), jnp.inf)
    place = jnp.arange(hand.size, dtype=jnp.int32)
    worst = -each.largest(jnp.where(apart == each.largest(apart)[each.of], -place, -hand.size))  # the first of them
    size = each.total(auto * auto)
    factor = jnp.where(size > 0, each.total(hand * auto) / jnp.where(size > 0, size, 1.0), jnp.nan)
    return {
        "autodiff": each.normwise(hand - auto, auto),
        "worst": worst - jnp.asarray(np.cumsum([0, *sizes[:-1]]), worst.dtype),
        "by_hand": hand[worst],
        "by_autodiff": auto[worst],
        "factor": factor,
        "remainder": each.normwise(hand - factor[each.of] * auto, auto),
        "top": each.largest(jnp.abs(auto)),
        "size": each.largest(jnp.maximum(jnp.abs(auto), jnp.where(jnp.isfinite(hand), jnp.abs(hand), jnp.inf))),
    }


class _Leaves(NamedTuple):
    """Reductions of a long vector, leaf by leaf."""

    of: Array  # the leaf that each number belongs to
    leaves: int

    def largest(self, values: Array) -> Array:
        return jax.ops.segment_max(values, self.of, self.leaves)

    def total(self, values: Array) -> Array:
        return jax.ops.segment_sum(values, self.of, self.leaves)

    def normwise(self, difference: Array, value: Array) -> Array:
        """Largest difference over largest value; the difference itself where all values are 0; inf for nan."""
        known = jnp.isfinite(difference) & jnp.isfinite(value)
        top, scale = self.largest(jnp.where(known, jnp.abs(difference), jnp.inf)), self.largest(jnp.abs(value))
        return top / jnp.where(scale > 0, scale, 1.0)


def _direction(leaf: Array, k: Array, most: int) -> Array:
    """Unit direction `k` of a small leaf; of a large one a random direction, each number of it in [-1, 1]."""
    place = jnp.arange(leaf.size, dtype=jnp.int32)
    if leaf.size <= most:
        return (place == k).astype(leaf.dtype).reshape(leaf.shape)
    # scrambled by an odd multiplier and shifts: as good as random here, and nothing to compile
    bits = (place.astype(jnp.uint32) + k.astype(jnp.uint32) * jnp.uint32(leaf.size)) * jnp.uint32(2654435761)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(2246822519)
    return ((bits ^ (bits >> 13)).astype(leaf.dtype) / 2.0**31 - 1.0).reshape(leaf.shape)


def _complex_step(costs: Callable[[Any], Array], point: Any, direction: Any) -> tuple[Array, Array]:
    try:
        found = complex_step(costs, point, direction)
    except NotAnalytic:
        dtype = jnp.result_type(*jax.tree.leaves(point))
        return jnp.full((), jnp.nan, dtype), jnp.full((), jnp.inf, dtype)
    return found.slope.sum(), found.kink


# ---- the inputs among the parameters


def _with_inputs(net: Layer) -> Layer:
    """The network with its inputs among the parameters, so that the derivative by them is checked as well."""

    def forward(params: Any, state: State, x: Array, key: Key, train: Any) -> Any:
        return net.forward(params["params"], state, params["x"], key, train)

    def backward(params: Any, cache: Any, dy: Array) -> Any:
        dparams, dx = net.backward(params["params"], cache, dy)
        return {"params": dparams, "x": dx}, dx

    return Layer(net.spec, net.init, forward, backward)


def _of_params(penalty: Penalty) -> Penalty:
    def grad(point: Any) -> Any:
        return {"params": penalty.grad(point["params"]), "x": jnp.zeros_like(point["x"])}

    return Penalty(penalty.spec, lambda point: penalty.value(point["params"]), grad)


def _name(path: Any) -> str:
    parts = [str(getattr(p, "key", getattr(p, "idx", p))) for p in path]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] == "params" else parts)
