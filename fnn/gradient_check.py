"""Is a derivative right? By hand, by autodiff and by numerical differences, side by side, leaf by leaf."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.batches import row_values, weighted_sum
from fnn.gradients import autodiff, backprop
from fnn.losses import as_loss
from fnn.types import Array, Key, Layer, Params, Penalty, State

# central differences: offsets, weights, and the power of eps that balances truncation against rounding
_STENCILS = {2: ((1,), (1 / 2,), 1 / 3), 6: ((1, 2, 3), (3 / 4, -3 / 20, 1 / 60), 1 / 7)}
LARGE = 256  # a leaf with more numbers than this is checked in as many random directions
AGREE = {8: (1e-12, 1e-8), 4: (2e-5, 2e-2), 2: (2e-2, 0.2)}  # by hand against autodiff, against differences; by bytes


class LeafCheck(NamedTuple):
    """How far three derivatives of one leaf disagree: largest difference over largest value."""

    leaf: str
    shape: tuple[int, ...]
    autodiff: float  # by hand against autodiff
    numerical: float  # by hand against numerical differences
    ok: bool


class GradientCheck(NamedTuple):
    """What `check_gradients` found; prints as a table."""

    leaves: tuple[LeafCheck, ...]
    ok: bool

    def __str__(self) -> str:
        head = ("leaf", "shape", "by hand - autodiff", "by hand - numerical", "verdict")
        body = [
            (c.leaf, str(c.shape), f"{c.autodiff:.1e}", f"{c.numerical:.1e}", "right" if c.ok else "WRONG")
            for c in self.leaves
        ]
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in (head, *body)
        ]
        return "\n".join([lines[0], "-" * sum(widths, 2 * len(widths) - 2), *lines[1:]])


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
    """Check the derivatives of a network's cost, those of its layers and of its loss, on one batch.

    By hand (`fnn.backprop`) against autodiff (`fnn.autodiff`) and against central differences of sixth order, one row
    a parameter leaf and one for the inputs. Normwise: the largest difference over the largest value of the leaf.
    Right means: in float64 1e-12 from autodiff and 1e-8 from the differences, in float32 2e-5 and 2e-2. Set
    `jax.config.update("jax_enable_x64", True)` for a sharp check. Where a row of `x` sits at a kink (relu at 0), the
    numerical difference is not the derivative; shift it.

    Args:
        net, loss, params, state, penalty: what is to be checked, your own layers and losses included.
        x, t: a batch of inputs and targets; `weight`: one number a row.
        key, train: as for `net.forward`; the same key draws the same numbers each time.
        reduction: "mean" or "sum".
        show: print the table.

    Returns:
        `GradientCheck(leaves, ok)`.

    >>> import fnn, jax
    >>> net = fnn.serial(fnn.dense(3), fnn.tanh, fnn.dense(2))
    >>> params, state, _ = net.init(jax.random.key(0), (2,))
    >>> x, t = jax.random.normal(jax.random.key(1), (5, 2)), jax.numpy.eye(2)[jax.numpy.array([0, 1, 1, 0, 1])]
    >>> fnn.check_gradients(net, fnn.losses.softmax_cross_entropy, params, state, x, t, show=False).ok
    True
    """
    x = jnp.asarray(x)
    whole = _with_inputs(net)
    point = {"params": params, "x": x}
    if not jnp.issubdtype(x.dtype, jnp.floating):
        point.pop("x")
        whole = net
        point = params
    penal = penalty if penalty is None or whole is net else _of_params(penalty)

    loss = as_loss(loss)
    leaves = jax.tree.leaves_with_path(point)
    directions = [_directions(leaf.shape, leaf.dtype) for _, leaf in leaves]

    def cost(p: Any) -> Array:
        y, _, _ = whole.forward(p, state, x, key, train)
        total, count = weighted_sum(row_values("loss", loss, y, t), weight)
        value = total / count if reduction == "mean" else total
        return value if penal is None else value + penal.value(p)

    def three_ways(p: Any) -> Any:  # one program: compiling is what takes the time
        grads = [
            maker(whole, loss, penal, reduction)(p, state, x, t, weight, key, train).grads
            for maker in (backprop, autodiff)
        ]
        return *map(jax.tree.leaves, grads), [_differences(cost, p, i, d, 6, None) for i, d in enumerate(directions)]

    checks = []
    for (path, leaf), d, *three in zip(leaves, directions, *jax.jit(three_ways)(point), strict=True):
        hand, auto, numerical = map(np.asarray, three)
        far, near = _normwise(hand - auto, auto), _normwise(_project(hand, d) - numerical, numerical)
        limits = AGREE[leaf.dtype.itemsize]
        checks.append(LeafCheck(_name(path), leaf.shape, far, near, bool(far <= limits[0] and near <= limits[1])))
    result = GradientCheck(tuple(checks), all(c.ok for c in checks))
    if show:
        print(result)
    return result


def numerical_gradient(
    function: Callable[[Params], Array], params: Params, *, order: int = 6, step: float | None = None
) -> Params:
    """The derivative of a scalar function by central differences, for every single number of a pytree.

    `order=2` is `(f(p+ε) - f(p-ε))/2ε`, document D2's; `order=6` has six points and a far smaller error.

    Args:
        function: a pytree of floating arrays to a scalar.
        params: where.
        order: 2 or 6.
        step: ε; by default several are tried, and the one is taken that agrees best with its neighbour.

    >>> import fnn, jax.numpy as jnp
    >>> print(fnn.numerical_gradient(lambda p: (p["w"] ** 2).sum(), {"w": jnp.array([1.0, -3.0])})["w"].round(2))
    [ 2. -6.]
    """
    if order not in _STENCILS:
        raise ValueError(f"order: expected 2 or 6, got {order}. Do choose one of them.")
    leaves, tree = jax.tree.flatten(params)
    units = [jnp.eye(leaf.size, dtype=leaf.dtype).reshape(-1, *leaf.shape) for leaf in leaves]
    each = jax.jit(lambda p: [_differences(function, p, i, d, order, step) for i, d in enumerate(units)])
    grads = each(params)
    return jax.tree.unflatten(tree, [g.reshape(leaf.shape) for g, leaf in zip(grads, leaves, strict=True)])


def _differences(
    function: Callable[[Any], Array], point: Any, i: int, directions: Array, order: int, step: float | None
) -> Array:
    """The derivatives of `function` along each direction in leaf `i`.

    Without a given step, five are tried, each a quarter of the one before: of two neighbours that agree best, the
    smaller. So a function that bends sharply is followed, and rounding does not take over where it is flat.
    """
    leaves, tree = jax.tree.flatten(point)
    dtype = leaves[i].dtype
    offsets, factors, power = _STENCILS[order]
    steps = [step] if step is not None else [float(jnp.finfo(dtype).eps) ** power / 4**k for k in range(5)]

    def moved(direction: Array, by: Array) -> Array:
        return function(jax.tree.unflatten(tree, [*leaves[:i], leaves[i] + by * direction, *leaves[i + 1 :]]))

    def along(direction: Array) -> Array:
        by = jnp.asarray([[s * o * h for o in offsets for s in (1, -1)] for h in steps], dtype)
        values = jax.vmap(jax.vmap(lambda b: moved(direction, b)))(by)
        slopes = (values[:, ::2] - values[:, 1::2]) @ jnp.asarray(factors, values.dtype)
        slopes = slopes / jnp.asarray(steps, values.dtype)
        return slopes[0] if len(steps) == 1 else slopes[1:][jnp.argmin(jnp.abs(jnp.diff(slopes)))]

    return jax.lax.map(along, directions)


def _directions(shape: tuple[int, ...], dtype: Any) -> Array:
    """The unit directions of a leaf, or random ones of length 1 where it is large."""
    size = int(np.prod(shape))
    if size <= LARGE:
        return jnp.eye(size, dtype=dtype).reshape(-1, *shape)
    d = np.random.default_rng(size).standard_normal((LARGE, size))
    return jnp.asarray(d / np.linalg.norm(d, axis=1, keepdims=True), dtype).reshape(-1, *shape)


def _project(gradient: np.ndarray, directions: Array) -> np.ndarray:
    return np.asarray(directions).reshape(len(directions), -1) @ gradient.reshape(-1)


def _normwise(difference: Any, value: Any) -> float:
    """Largest difference over largest value; not a number counts as infinitely wrong."""
    top, scale = (
        float(np.max(np.abs(np.asarray(difference)), initial=0)),
        float(np.max(np.abs(np.asarray(value)), initial=0)),
    )
    if not np.isfinite(top) or not np.isfinite(scale):
        return float("inf")
    return top / scale if scale else top


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
