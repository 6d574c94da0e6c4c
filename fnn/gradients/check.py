"""Is a derivative right? By hand, by autodiff, by a complex step and by differences, side by side, leaf by leaf."""

from __future__ import annotations  # `help` then shows types by their names

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn import arguments
from fnn.arguments import trees
from fnn.arguments.leaves import check_one_row_axis, example_shape, map_floats, named_leaves, row_arrays, with_floats
from fnn.arguments.sparse import as_inputs
from fnn.gradients.cost import autodiff, backprop, scale_and_loss
from fnn.gradients.figures import Samples, leaf_statistics
from fnn.gradients.interpreters.rounding import add_rounding
from fnn.gradients.interpreters.walk import is_float
from fnn.gradients.interpreters.widening import widen
from fnn.gradients.report import GradientCheck
from fnn.gradients.slopes import DirectionPlan, directional_derivatives, directions_plan, pseudo_random
from fnn.kernels.compiler_options import quick_compile_options
from fnn.kernels.matmul import exact_products
from fnn.layers.embedding import check_categories
from fnn.layers.passes import NoRulesByHand, backward_layer, forward_layer
from fnn.layers.sparse import check_columns
from fnn.losses import as_loss
from fnn.losses.reduction import row_values
from fnn.types import (
    Array,
    ArrayLike,
    Cache,
    DType,
    Key,
    Layer,
    Loss,
    LossLike,
    Params,
    Penalty,
    Rows,
    ShapeError,
    State,
    Train,
    Tree,
)

POINTS = 4  # the given one and so many less one near it
ROUNDINGS = 3  # how often the derivative is computed with rounding added
TRIES_NEARBY = 3  # directions per leaf that are tried at the first of the points near the given one


def _check_shapes(
    net: Layer, loss: Loss, params: Params, state: State, x: Array, t: Array, key: Key, train: Train
) -> bool:
    """Derivatives of other shapes than what they are of: a sum over the rows forgotten, say.

    Returns:
        Whether the network has rules by hand.
    """

    def by_hand(params: Params, x: Array) -> tuple[Array, Array, Params, Array]:
        y, _, cache = forward_layer(net, params, state, x, key, train)
        dy = loss.grad(y, t)
        alike = list(map(jnp.shape, jax.tree.leaves(dy))) == list(map(jnp.shape, jax.tree.leaves(y)))
        return y, dy, *(backward_layer(net, params, cache, dy) if alike else (params, x))

    try:
        y, dy, dparams, dx = jax.eval_shape(by_hand, params, x)
    except NoRulesByHand:
        return False
    hint = "Look at the formula: which sum over the rows, or which transpose, is missing?"
    _check_like(f"loss.grad of {loss}", "shape", "as the outputs", y, dy, hint)
    floats, by_floats = (map_floats(lambda a: a, part) for part in (x, dx))
    _check_like(f"backward of {net}", "dx of shape", "as x", floats, by_floats, hint)
    theirs, ours = trees.flatten_named(params), trees.flatten_named(dparams)
    trees.check_same_leaves(f"backward of {net}", "dparams like the parameters", theirs, ours, hint, width=False)
    return True


def _check_like(name: str, what: str, whose: str, expected: Tree, got: Tree, hint: str) -> None:
    """Raise a ShapeError unless derivatives have the shapes of what they are derivatives by."""
    known, found = named_leaves("", expected), named_leaves("", got)
    for leaf in [leaf for leaf in [*known, *found] if known.get(leaf, leaf) is not None]:
        shapes = [getattr(leaves.get(leaf), "shape", None) for leaves in (known, found)]
        if shapes[0] != shapes[1]:
            raise ShapeError(f"{name}{leaf}: expected {what} {shapes[0]}, {whose}, got {shapes[1]}. {hint}")


@arguments.explain_call
def check_gradients(
    net: Layer,
    loss: LossLike,
    params: Params,
    state: State,
    x: ArrayLike | Tree,
    t: ArrayLike | Tree,
    key: Key = None,
    train: Train = True,
    penalty: Penalty | None = None,
    *,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    show: bool = True,
) -> GradientCheck:
    """Check the derivatives of a network's cost, those of its layers, its loss and its penalty, on one batch.

    By hand (`fnn.backprop`) against three others, one row per parameter leaf and one for the inputs:

    - autodiff (`fnn.autodiff`), every number of the leaf;
    - a complex step, which knows no rule of differentiation: `Im f(p + ih)/h`, exact to rounding; "-" where the
      function has no complex form (gelu's erf, a `while` loop);
    - central differences of sixth order. Their steps are measured by the numbers that move; those that cross a kink
      (relu at 0) do not count, and where all of them do the column says "kink". They move what
      `jax.lax.stop_gradient` holds constant: a complex step decides then, and where there is none
      the column says "-".

    All at the given point, and at three points near it: parameters and states 30 % larger or smaller, zeros made
    nonzero, inputs up to 30 % smaller, so that a factor of 1 or a term times 0 hides no mistake (the last two ways at
    one of the three, along three directions per leaf). At the given point the last two go along every number of a
    small leaf, along 16 random directions of a leaf with more than 256; each leaf by itself, so that a bias cannot
    hide behind a weight.

    All are normwise: the largest difference over the largest value of the leaf, the worst of the points. Right means,
    in float64, within 1e-12, 1e-12 and 1e-9; in float32 within 2e-5, 2e-5 and 2e-2; where a narrower dtype is used
    inside (`mixed_precision`), whose formulas are evaluated in the wide one, within 2.5 of its eps (2e-2 for bfloat16).
    Beyond that, what rounding alone does to the terms of the derivative is allowed, eight times as much as it was seen
    to do, and ten times the differences' own estimated error. Set `jax.config.update("jax_enable_x64", True)` for a
    sharp check.

    The verdict on each leaf is one of

    - "right": by hand agrees with all of the three that can judge;
    - "0 to rounding": the derivative vanishes (a bias before a batch_norm);
    - "too coarse to tell", "not judged: not finite": nothing can judge it, and the last line of the table names it;
    - "right: no rules by hand": the network has none (one of Flax, say), and autodiff's are right;
    - "WRONG: …": by hand is not autodiff's; or both agree, a complex step says otherwise, and differences do not
      contradict it; or differences alone say so, where the function has no complex form.

    Args:
        net, loss, params, state, penalty: what is to be checked, your own layers and losses included.
        x, t: a batch of inputs and targets, dicts or tuples of arrays included; `weight`: one number per row.
        key, train: as for `net.forward`; the same key draws the same numbers each time.
        reduction: "mean" or "sum".
        show: print the table (never under `jit`, `vmap` or `scan`, where the result is a pytree of arrays).

    Returns:
        `GradientCheck`; `.ok`, False if a leaf is WRONG, and `.leaves` with the figures and the verdict in words:
        which leaf, by what factor.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (2,))
    >>> x, t = jax.random.normal(jax.random.key(1), (5, 2)), jax.numpy.eye(2)[jax.numpy.array([0, 1, 1, 0, 1])]
    >>> fnn.check_gradients(net, fnn.losses.softmax_cross_entropy, params, state, x, t, show=False).ok
    True
    """
    scale_and_loss(net, loss, penalty, reduction)  # checks them
    x, t, loss = row_arrays("x", as_inputs("x", x)), row_arrays("t", t), as_loss(loss)
    show, train = arguments.flag("show", show), train if isinstance(train, Rows) else arguments.flag("train", train)
    params, state = trees.as_arrays("params", params), trees.as_arrays("state", state, keys=True)
    _check_rows(net, x)
    trees.check_fits_network(net, params, state, example_shape(x), "check_gradients: params")
    key = None if key is None else _as_key(key)
    by_hand = _check_shapes(net, loss, params, state, x, t, key, train)
    floats = map_floats(lambda a: a, x)  # what has a derivative
    inputs = bool(jax.tree.leaves(floats))
    if inputs:
        point, whole = {"params": params, "x": floats}, _add_inputs(net)
        penal = None if penalty is None else _penalty_of_params(penalty)
    else:
        point, whole, penal = params, net, penalty
    if not jax.tree.leaves(point):
        raise TypeError(
            f"x: expected floating inputs for a network without parameters, got {_dtypes(x)}. Convert them to floats."
        )
    makers = [maker(whole, loss, penal, reduction) for maker in (backprop if by_hand else autodiff, autodiff)]
    dtype = max(
        (leaf.dtype for leaf in [*jax.tree.leaves(point), jnp.zeros((), jnp.float32)]), key=lambda d: d.itemsize
    )

    def both(p: Params, state: State) -> tuple[Array, Array]:
        by_hand, by_autodiff = (_long(m(p, state, x, t, weight, key, train).grads, dtype) for m in makers)
        return by_hand, by_autodiff

    costs = _cost_terms(whole, loss, penal, x, t, key, train, weight, reduction)

    def four_ways(p: Params, state: State) -> dict[str, Array]:
        return _figures(both, costs, jax.tree.map(lambda leaf: leaf.astype(dtype), p), p, state, inputs)

    names = tuple((_name(path), leaf.shape) for path, leaf in jax.tree.leaves_with_path(point))
    with exact_products():
        figures = _compile(four_ways)(point, state)
    result = GradientCheck(figures, names, POINTS, by_hand)
    if show and not any(isinstance(f, jax.core.Tracer) for f in result.figures.values()):
        print(result)
    return result


def _check_rows(net: Layer, x: Tree) -> None:
    for name, leaf in named_leaves("x", x).items():
        if not leaf.shape[:1] or not leaf.shape[0]:
            raise ValueError(f"{name}: expected at least one row, got shape {leaf.shape}. Pass a batch.")
    check_one_row_axis("x", x)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x)):
        check_categories(net, "x", x)
        check_columns("x", x, net)


def _dtypes(x: Tree) -> str:
    return ", ".join(str(leaf.dtype) for leaf in jax.tree.leaves(x))


def _as_key(key: Key) -> Key:
    """A key, of the new kind or the old; or a seed."""
    old = isinstance(key, jax.Array) and not arguments.is_deleted(key) and key.dtype == jnp.uint32 and key.ndim == 1
    return key if old or (isinstance(key, jax.core.Tracer) and trees.is_key(key)) else arguments.key(key)


def _cost_terms(
    net: Layer,
    loss: Loss,
    penalty: Penalty | None,
    x: Array,
    t: Array,
    key: Key,
    train: Train,
    weight: ArrayLike | None,
    reduction: str,
) -> Callable[[Params, State], Array]:
    """Return a function of parameters and state: the terms of the cost, one per row, and the penalty."""

    def costs(p: Params, state: State) -> Array:
        y, _, _ = forward_layer(net, p, state, x, key, train)
        values = row_values("loss", loss, y, t)
        counts = jnp.ones_like(values) if weight is None else jnp.asarray(weight, values.dtype)
        rows = jnp.where(counts > 0, values * counts, 0.0)
        rows = rows / counts.sum() if reduction == "mean" else rows
        return rows if penalty is None else jnp.append(rows, penalty.value(p).astype(rows.dtype))

    return costs


def _figures(
    both: Callable[..., tuple[Array, Array]],
    costs: Callable[..., Array],
    wide: Params,
    point: Params,
    state: State,
    inputs: bool,
) -> dict[str, Array]:
    """The figures of all leaves: `both` derivatives against the function `costs` itself, at all points."""
    leaves = jax.tree.leaves(wide)
    dtype = jnp.result_type(*leaves)
    points, states = _points(wide, state, inputs)
    gradients, eps = widen(both, dtype, point, state)
    samples = _sample(gradients, eps > 0, points, states)
    here, near = directions_plan(leaves), directions_plan(leaves, 0, TRIES_NEARBY, 1)
    directions = DirectionPlan(*map(np.concatenate, zip(here, near, strict=True)))
    cost, _ = widen(costs, dtype, point, state)
    along = directional_derivatives(cost, points, samples.by_hand, samples.noise, directions, states)
    return leaf_statistics(leaves, samples, directions, along, eps)


# ---- the points, and the derivative at each


def nearby(tree: Tree, seed: int, move: Callable[[Array, Array], Array]) -> Tree:
    """`tree` with its floats moved at random: `move(numbers, random numbers in [-1, 1))`."""
    leaves, structure = jax.tree.flatten(tree)
    moved = [
        move(leaf, pseudo_random(leaf.size, 1000 * seed + i, leaf.dtype).reshape(leaf.shape))
        if is_float(leaf)
        else leaf
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, moved)


def _both_ways(leaf: Array, random: Array) -> Array:
    """Larger or smaller by up to three tenths, 0 to something of either sign: no factor stays 1, no term stays 0."""
    other = jnp.where(random < 0, -1, 1).astype(leaf.dtype) * (0.1 + 0.2 * jnp.abs(random)) * _usual(leaf)
    return jnp.where(leaf == 0, other, leaf * (1 + 0.3 * random))


def _upwards(leaf: Array, random: Array) -> Array:
    """Likewise, but 0 to something positive: a variance stays one."""
    return jnp.where(leaf == 0, (0.1 + 0.2 * jnp.abs(random)) * _usual(leaf), leaf * (1 + 0.3 * random))


def _inwards(leaf: Array, random: Array) -> Array:
    """Likewise, but never further from 0: a probability stays one."""
    return jnp.where(leaf == 0, (0.1 + 0.2 * jnp.abs(random)) * _usual(leaf), leaf * (1 - 0.3 * jnp.abs(random)))


def _usual(leaf: Array) -> Array:
    """How large the numbers of a leaf are; 1 where all are 0."""
    size = jnp.abs(leaf).mean()
    return jnp.where((size > 0) & jnp.isfinite(size), size, 1.0).astype(leaf.dtype)


def _points(point: Params, state: State, inputs: bool) -> tuple[Any, State]:
    """The given point and those near it, on the first axis."""
    points, states = [point], [state]
    for seed in range(1, POINTS):
        moved = nearby(point, seed, _both_ways)
        points.append({**moved, "x": nearby(point["x"], 100 + seed, _inwards)} if inputs else moved)
        states.append(nearby(state, 200 + seed, _upwards))
    together = lambda *leaves: jnp.stack([*map(jnp.asarray, leaves)])  # noqa: E731
    return jax.tree.map(together, *points), jax.tree.map(together, *states)


def _sample(both: Callable[..., tuple[Array, Array]], narrow: bool, points: Params, states: State) -> Samples:
    """The derivative both ways at each point, and what rounding does to it there.

    Where constants are `narrow`, what it does to the difference of the two: that of constants which both have in
    common is no excuse.
    """

    def at(one: tuple[Params, State]) -> Samples:
        amounts = jnp.asarray([0.0, *[1.0] * ROUNDINGS], jnp.float32)
        seeds = jnp.arange(1 + ROUNDINGS, dtype=jnp.uint32)

        def round_both(a: Array, s: Array) -> tuple[Array, Array]:
            pair: tuple[Array, Array] = add_rounding(partial(both, amount=a, seed=s), a, s)(*one)
            return pair

        hand, auto = lax.map(lambda a: round_both(*a), (amounts, seeds))
        moved = (hand - auto,) if narrow else (hand, auto)
        noise = jnp.stack([jnp.abs(v[1:] - v[0]).max(0) for v in moved]).max(0)
        return Samples(hand[0], auto[0], jnp.where(jnp.isnan(noise), jnp.inf, noise))

    samples: Samples = lax.map(at, (points, states))
    return samples


def _long(tree: Tree, dtype: DType) -> Array:
    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)])


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """One program, compiled in little time, since it runs once; inside of other programs a part of them."""
    inside = isinstance(jnp.add(0, 0), jax.core.Tracer)
    return jax.jit(function) if inside else jax.jit(function, compiler_options=quick_compile_options())


# ---- the inputs among the parameters


def _add_inputs(net: Layer) -> Layer:
    """The network with its inputs among the parameters, so that the derivative by them is checked as well."""

    def forward(params: Params, state: State, x: Tree, key: Key, train: Train) -> tuple[Tree, State, Cache]:
        return forward_layer(net, params["params"], state, with_floats(x, params["x"]), key, train)

    def backward(params: Params, cache: Cache, dy: Tree) -> tuple[Params, Tree]:
        dparams, dx = backward_layer(net, params["params"], cache, dy)
        none = {"is_leaf": lambda leaf: leaf is None}  # of integers, whose derivative nobody asks for
        by_floats = jax.tree.map(lambda a, by: None if a is None else by, params["x"], dx, **none)
        return {"params": dparams, "x": by_floats}, dx

    return Layer(net.spec, net.init, forward, backward)


def _penalty_of_params(penalty: Penalty) -> Penalty:
    def grad(point: Params) -> Params:
        return {"params": penalty.grad(point["params"]), "x": jax.tree.map(jnp.zeros_like, point["x"])}

    return Penalty(penalty.spec, lambda point: penalty.value(point["params"]), grad)


def _name(path: Sequence[object]) -> str:
    parts = [str(getattr(p, "key", getattr(p, "idx", p))) for p in path]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] == "params" else parts)
