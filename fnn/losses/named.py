"""Losses of networks with several outputs, and of targets some of which are missing."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.arguments import array_of, as_array, describe_thing, describe_value, finite, scalar
from fnn.factories import factory, origin
from fnn.losses.reduction import row_weights, stop_uncounted
from fnn.losses.transforms import as_loss, scale_values
from fnn.types import Array, HasShape, Loss, LossLike, Numbers, Scalar, ShapeError, TargetCheck, Tree

Term = tuple[Scalar, LossLike] | tuple[Scalar, LossLike, str]  # coefficient, loss, and which target holds weights


@factory
def masked(loss: LossLike, missing: float | None = None) -> Loss:
    """A loss for targets some of which are missing: 0 for a row whose target is missing, and so is its derivative.

    A row is missing where any number of its target is. The mean over a batch goes over all its rows, those whose target
    is missing too: they weigh nothing in the sum.

    Args:
        loss: the loss of the rows that have a target.
        missing: what stands for a target that is missing: None for nan, or a number, such as -1 for class numbers.

    >>> import fnn, jax.numpy as jnp
    >>> loss = fnn.losses.masked(fnn.losses.squared_error)
    >>> outputs, targets = jnp.array([[1.0], [2.0]]), jnp.array([[jnp.nan], [5.0]])
    >>> print(loss, loss(outputs, targets), loss.grad(outputs, targets).ravel())
    masked(squared_error) [0. 9.] [ 0. -6.]
    """
    inner, stands = as_loss(loss), missing_number("masked", missing)

    def split_missing(outputs: Numbers, targets: Numbers) -> tuple[Array, Array, Array]:
        """Which rows are missing; outputs, those of these rows as constants; targets, with 0 in their place."""
        y, t = as_array("masked", outputs, "outputs"), as_array("masked", targets, "real targets")
        if y.ndim == 0 or y.shape[:1] != t.shape[:1]:
            wanted, hint = "one target per row of the outputs", "Pair them row by row."
            raise ShapeError(f"masked: expected {wanted}, got {t.shape} for {y.shape}. {hint}")
        absent = is_missing(t, stands)
        known = jnp.where(_beside(absent, y), lax.stop_gradient(y), y)
        return absent, known, fill_missing(t, absent)

    def value(outputs: Numbers, targets: Numbers) -> Array:
        absent, y, t = split_missing(outputs, targets)
        return jnp.where(absent, 0.0, inner.value(y, t))

    def grad(outputs: Numbers, targets: Numbers) -> Array:
        absent, y, t = split_missing(outputs, targets)
        return jnp.where(_beside(absent, y), 0.0, inner.grad(y, t))

    def residuals(outputs: Numbers, targets: Numbers) -> Array:
        absent, y, t = split_missing(outputs, targets)
        made: Array = inner.residuals(y, t)  # type: ignore[misc]
        return jnp.where(_beside(absent, made), 0.0, made)

    of_squares = None if inner.residuals is None else residuals
    check = check_known(inner.check, stands)
    return Loss("masked", value, grad, check, inner.targets, None, inner.outputs, of_squares, stands)


def missing_number(name: str, missing: object) -> Any:
    """What stands for a target that is missing: nan or a number."""
    if missing is None or (isinstance(missing, float) and math.isnan(missing)):
        return math.nan
    return finite(name, "a missing of nan or a number", missing, f"Write {name}(…, missing=-1).")


def is_missing(t: Any, stands: Any) -> Any:
    """Whether the target of a row is missing, `(rows,)`: any number of it. Of arrays of NumPy and of JAX."""
    if isinstance(stands, float) and math.isnan(stands):
        each = t != t
    else:
        each = t == (stands if isinstance(t, np.ndarray) else jnp.asarray(stands, t.dtype))
    return each.reshape(t.shape[0], -1).any(1)


def fill_missing(t: Array, absent: Array) -> Array:
    """Targets with 0 where they are missing."""
    return jnp.where(_beside(absent, t), jnp.zeros((), t.dtype), t)


def check_known(check: TargetCheck | None, stands: Any) -> TargetCheck | None:
    """A check of the targets that are not missing."""
    if check is None:
        return None

    def check_targets(outputs: HasShape, targets: np.ndarray) -> None:
        absent = is_missing(targets, stands)
        if not absent.all():
            known = targets[int(np.argmin(absent))]
            check(outputs, np.where(_beside(absent, targets), known, targets))

    return check_targets


def _beside(rows: Any, a: Any) -> Any:
    """One thing a row, with axes of 1 behind, as many axes as `a` has."""
    return rows.reshape(-1, *[1] * (a.ndim - 1))


@factory
def joint(**terms: Term) -> Loss:
    """A loss per named output: `Σ_k c_k w_k loss_k(y_k, t_k)` per row, of outputs `y` and targets `t` that are dicts.

    The derivative is a dict, `c_k w_k ∂loss_k/∂y_k` for each output. With a coefficient or a weight of 0 a loss counts
    0, also where it is infinite.

    Args:
        terms: by the name of the output, which is that of its target: a pair (coefficient, loss), or a triple
            (coefficient, loss, name) where the target of that name holds the weights `w_k` of the rows, `(rows,)`, at
            least 0; 0 is a mask. Coefficients are at least 0 and may be traced. For targets that are missing put
            `masked` around the loss.

    >>> import fnn, jax.numpy as jnp
    >>> loss = fnn.losses.joint(price=(1.0, fnn.losses.squared_error), kind=(0.5, fnn.losses.absolute_error))
    >>> y, t = {"price": jnp.array([[2.0]]), "kind": jnp.array([[1.0]])}, {"price": jnp.zeros((1, 1)), "kind": 3.0}
    >>> t["kind"] = jnp.array([[3.0]])
    >>> print(loss, loss(y, t), loss.grad(y, t)["kind"])
    joint(price=(1.0, squared_error), kind=(0.5, absolute_error)) [5.] [[-0.5]]
    """
    own = _terms(terms)
    wanted = [name for term, (_, _, weight) in own.items() for name in (term, weight) if name is not None]

    def each(outputs: Tree, targets: Tree) -> dict[str, tuple[Any, Any, Any]]:
        """Outputs, targets and weights by name."""
        _check_names("outputs", outputs, own)
        _check_names("targets", targets, wanted)
        return {
            name: (outputs[name], targets[name], weight and targets[weight]) for name, (_, _, weight) in own.items()
        }

    def value(outputs: Tree, targets: Tree) -> Array:
        values = []
        for name, (y, t, w) in each(outputs, targets).items():
            coefficient, loss, _ = own[name]
            row = _call_by_name(name, loss.value, stop_uncounted(y, w), t)
            row = array_of(f"loss of {name}", row, "one number per row")
            values.append(scale_values(coefficient, row if w is None else _weigh(w, row)))
        return functools.reduce(jnp.add, values)

    def grad(outputs: Tree, targets: Tree) -> Tree:
        made = {}
        for name, (y, t, w) in each(outputs, targets).items():
            coefficient, loss, _ = own[name]
            by = loss.grad(y, t)
            made[name] = scale_values(coefficient, by if w is None else _weigh(w, by))
        return made

    def check(outputs: Tree, targets: Tree) -> None:
        for name, (y, t, w) in each(outputs, targets).items():
            if w is not None:
                _check_weights(f'targets["{own[name][2]}"]', np.asarray(w))
            _check_named(name, own[name][1], y, t)

    def residuals(outputs: Tree, targets: Tree) -> Array:
        made = []
        for name, (y, t, w) in each(outputs, targets).items():
            coefficient, loss, _ = own[name]
            rows: Array = loss.residuals(stop_uncounted(y, w), t)  # type: ignore[misc]
            rows = rows.reshape(rows.shape[0], -1)
            rows = rows if w is None else _weigh(jnp.sqrt(jnp.asarray(w)), rows)
            made.append(jnp.sqrt(jnp.asarray(coefficient, rows.dtype)) * rows)
        return jnp.concatenate(made, -1)

    losses = {name: loss for name, (_, loss, _) in own.items()}
    of_squares = None if any(loss.residuals is None for loss in losses.values()) else residuals
    gaps = {name: loss.missing for name, loss in losses.items() if loss.missing is not None}
    return Loss("joint", value, grad, check, residuals=of_squares, missing=gaps or None)


def named_losses(loss: Loss) -> dict[str, Loss]:
    """The losses that a joint one is made of, by the names of the outputs; of another loss none.

    >>> import fnn
    >>> from fnn.losses.named import named_losses
    >>> named_losses(fnn.losses.joint(price=(1.0, fnn.losses.squared_error)))
    {'price': squared_error}
    """
    call = origin(loss)
    if call is None or call.factory is not joint:
        return {}
    return {name: as_loss(term[1]) for name, term in dict(call.arguments)["terms"]}


def _terms(terms: dict[str, Any]) -> dict[str, tuple[Scalar, Loss, str | None]]:
    """Coefficient, loss and the target with weights (or None), by the name of the output."""
    hint = "Write joint(price=(1.0, losses.squared_error), …)."
    if not terms:
        raise TypeError(f"joint: expected a term per output, got none. {hint}")
    made: dict[str, tuple[Scalar, Loss, str | None]] = {}
    for name, term in terms.items():
        if not isinstance(term, tuple) or len(term) not in (2, 3) or (len(term) == 3 and not isinstance(term[2], str)):
            raise TypeError(f"joint: expected (coefficient, loss) for {name!r}, got {describe_value(term)}. {hint}")
        coefficient = scalar("joint", "a coefficient", term[0], "Pass 0.0 for an output that is not to train")
        made[name] = coefficient, as_loss(term[1]), term[2] if len(term) == 3 else None
    return made


def _check_names(what: str, tree: object, names: Any) -> None:
    """Raise where outputs or targets are no dict of these names."""
    if isinstance(tree, dict) and set(tree) == set(names):
        return
    got = f"those named {', '.join(map(str, tree))}" if isinstance(tree, dict) else describe_thing(tree)
    missing = [name for name in names if not isinstance(tree, dict) or name not in tree]
    hint = f"Give joint a term for each of the {what}, under its name."
    if missing:
        hint = f"Pass {what} named {', '.join(missing)} too, or leave the terms of that name out."
    if not isinstance(tree, dict):
        hint = "End the network with fnn.parallel(name=…)." if what == "outputs" else "Pass a dict of targets."
    raise ShapeError(f"joint: expected {what} named {', '.join(names)}, got {got}. {hint}")


def _weigh(weight: Any, values: Array) -> Array:
    """`w · values`, one weight a row; 0 where the weight is 0, whatever the values."""
    w = _beside(row_weights(weight, values.shape[0], "joint: a weight per target"), values)
    return jnp.where(w > 0, values * w.astype(values.dtype), jnp.zeros((), values.dtype))


def _check_weights(name: str, weight: np.ndarray) -> None:
    if weight.ndim != 1:
        raise ShapeError(f"{name}: expected one weight per row, got shape {weight.shape}. Pass np.ravel(weights).")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        hint = "Use 0 to leave the target out."
        raise ValueError(f"{name}: expected weights of at least 0, got {weight[row]} in row {row}. {hint}")


def _check_named(name: str, loss: Loss, outputs: Any, targets: Any) -> None:
    """Check the values of the targets of one output; an error says which."""
    if loss.check is not None:
        _call_by_name(name, loss.check, outputs, targets)


def _call_by_name(name: str, function: Callable[..., Any], outputs: Any, targets: Any) -> Any:
    """What a function of one output and its target returns; an error says of which."""
    try:
        return function(outputs, targets)
    except (ShapeError, ValueError, TypeError) as error:
        raise type(error)(f'targets["{name}"]: {error}') from None
