"""Learning rates that change from step to step. Source documents 2 and 3.

A schedule is a function from a step, counted from 0, to a learning rate, as optax's are, and stands wherever optax
takes one: `optax.sgd(fnn.schedules.exponential_decay(0.5, 10, 0.9))`. Steps may be numbers or whole arrays, as for a
picture. What a schedule is made of may be traced: `lambda s: optax.sgd(fnn.schedules.linear_decay(s["lr"], 0, 300))`.

optax has near relatives. These here keep the documents' boundaries, are precise to float32 down to the last steps (in
optax `1 - step/steps` and `1 + cos` cancel there), take traced numbers, and raise instead of going on with a constant.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations.limits import nan_or_1
from fnn.arguments import as_array, call, describe_value, flag, function, is_deleted, scalar
from fnn.types import Array, Numbers, Record, Scalar, ShapeError

Schedule = Callable[[Numbers], Numbers]


def exponential_decay(initial: Scalar, decay_steps: Scalar, decay_rate: Scalar, staircase: bool = False) -> Schedule:
    """`initial · decay_rate^(step / decay_steps)`; with `staircase` the exponent is rounded down. Source document 3.

    As `optax.exponential_decay`, but that it is an error where optax goes on with a constant (`decay_steps <= 0`).

    Args:
        initial: learning rate of step 0, at least 0.
        decay_steps: steps in which it is multiplied by `decay_rate` once, above 0.
        decay_rate: above 0; below 1 to decay.
        staircase: multiply at once, at every `decay_steps`-th step: first at step = decay_steps.

    Raises:
        ValueError, TypeError: a number is out of range, or is none.

    >>> import fnn
    >>> smooth = fnn.schedules.exponential_decay(0.5, decay_steps=10, decay_rate=0.9)
    >>> stairs = fnn.schedules.exponential_decay(0.5, decay_steps=10, decay_rate=0.9, staircase=True)
    >>> print(f"{smooth(5):.6f} {stairs(9):.6f} {stairs(10):.6f}")
    0.474342 0.500000 0.450000
    """
    name = "exponential_decay"
    initial = _rate(name, initial)
    decay_steps = _steps(name, decay_steps)
    decay_rate = scalar(name, "a decay_rate", decay_rate, "Pass 1 for no decay", positive=True)
    staircase = flag("staircase", staircase, name)

    def schedule(step: Numbers) -> Array:
        step = _number(step)
        exponent = jnp.floor_divide(step, _float(decay_steps)) if staircase else step / _float(decay_steps)
        # double precision where the rate is known: its rounding to float32 would grow with the exponent
        known = isinstance(decay_rate, (int, float))
        logarithm = _float(math.log(decay_rate)) if known else jnp.log(_float(decay_rate))
        return _float(initial) * jnp.exp(exponent * logarithm)

    return schedule


def piecewise_constant(boundaries: Sequence[Scalar], values: Sequence[Scalar]) -> Schedule:
    """`values[0]` for `step <= boundaries[0]`, `values[1]` for `boundaries[0] < step <= boundaries[1]`, and so on.

    `values[-1]` after the last boundary. Source document 3. So the value changes AFTER the step at the boundary;
    `optax.piecewise_constant_schedule` changes one step earlier, at it, and takes factors instead of values.

    Args:
        boundaries: steps at which a value is used for the last time, increasing, each at least 0.
        values: learning rates, each at least 0; one more than boundaries.

    Raises:
        ValueError, TypeError: the lengths do not fit, boundaries do not increase, a number is out of range.

    >>> import fnn
    >>> lr = fnn.schedules.piecewise_constant(boundaries=[100, 200, 300], values=[0.1, 0.05, 0.025, 0.001])
    >>> print(*[lr(step) for step in (0, 100, 101, 200, 201, 300, 301, 399)])
    0.1 0.1 0.05 0.05 0.025 0.025 0.001 0.001
    """
    name = "piecewise_constant"
    ends = [scalar(name, "boundaries", b, "Count steps from 0") for b in _items(name, "boundaries", boundaries)]
    rates = [_rate(name, value) for value in _items(name, "values", values)]
    if len(rates) != len(ends) + 1:
        raise ValueError(
            f"{name}: expected one value more than boundaries, got {len(ends)} boundaries and {len(rates)} values. "
            "Give a value for before, between and after the boundaries."
        )
    known = [b for b in ends if isinstance(b, (int, float))]
    if any(a >= b for a, b in pairwise(known)):
        raise ValueError(f"{name}: expected increasing boundaries, got {known}. Sort them, values alike.")

    def schedule(step: Numbers) -> Array:
        step = _number(step)
        lr = jnp.full(step.shape, _float(rates[0]))
        for end, rate in zip(ends, rates[1:], strict=True):
            lr = jnp.where(step > _float(end), _float(rate), lr)
        return lr * nan_or_1(step)

    return schedule


def linear_decay(initial: Scalar, final: Scalar, steps: Scalar) -> Schedule:
    """`initial + (final - initial) · step / steps` up to `step = steps`, `final` from then on. Source document 2.

    Source document 2's update of `0.02/300` per iteration is `linear_decay(0.02, 0.0, 300)`: 0 from step 300 on. As
    `optax.linear_schedule`.

    Args:
        initial, final: learning rates of step 0 and of step `steps`, at least 0; final may be the larger.
        steps: above 0.

    Raises:
        ValueError, TypeError: a number is out of range, or is none.

    >>> import fnn
    >>> lr = fnn.schedules.linear_decay(0.02, 0.0, 300)
    >>> print(lr(0), lr(150), lr(300), lr(400))
    0.02 0.01 0.0 0.0
    """
    name = "linear_decay"
    initial, final, steps = _rate(name, initial), _rate(name, final), _steps(name, steps)

    def schedule(step: Numbers) -> Array:
        done, left = _parts(step, steps)
        return _float(initial) * left + _float(final) * done

    return schedule


def cosine_decay(initial: Scalar, steps: Scalar, final: Scalar = 0.0) -> Schedule:
    """`final + (initial - final) · (1 + cos(π step / steps)) / 2`, `final` from `step = steps` on.

    Loshchilov & Hutter (2017), without restarts. As `optax.cosine_decay_schedule`, whose `alpha` is `final / initial`.

    Args:
        initial, final: learning rates of step 0 and of step `steps`, at least 0.
        steps: above 0.

    Raises:
        ValueError, TypeError: a number is out of range, or is none.

    >>> import fnn
    >>> lr = fnn.schedules.cosine_decay(0.1, 100)
    >>> print(*[f"{lr(step):.6f}" for step in (0, 50, 100, 200)])
    0.100000 0.050000 0.000000 0.000000
    """
    name = "cosine_decay"
    initial, final, steps = _rate(name, initial), _rate(name, final), _steps(name, steps)

    def schedule(step: Numbers) -> Array:
        done, left = _parts(step, steps)
        quarter = _float(math.pi / 2)  # (1 + cos 2a) / 2 = cos² a = sin² (π/2 - a), which does not cancel
        return _float(initial) * jnp.sin(quarter * left) ** 2 + _float(final) * jnp.sin(quarter * done) ** 2

    return schedule


def warm_up(schedule: Schedule | Scalar, steps: Scalar, start: Scalar = 0.0) -> Schedule:
    """From `start` in a straight line to `schedule(0)`, reached at `step = steps`; then `schedule(step - steps)`.

    So the schedule behind it begins its own count at 0 when the warm-up ends, as in `optax.join_schedules`. With
    `start=0` the first step, step 0, moves nothing.

    Args:
        schedule: what comes after: a schedule, or a number for a constant.
        steps: steps of warming up, above 0.
        start: learning rate of step 0, at least 0.

    Raises:
        ValueError, TypeError: a number is out of range, or is none.

    >>> import fnn
    >>> lr = fnn.schedules.warm_up(fnn.schedules.cosine_decay(0.1, 100), 10)
    >>> print(*[f"{lr(step):.6f}" for step in (0, 5, 10, 60, 110)])
    0.000000 0.050000 0.100000 0.050000 0.000000
    """
    name = "warm_up"
    after, start, steps = as_schedule(name, schedule), _rate(name, start), _steps(name, steps)

    def whole(step: Numbers) -> Array:
        done, left = _parts(step, steps)
        later = jnp.maximum(jnp.asarray(step) - steps if isinstance(steps, int) else _number(step) - _float(steps), 0)
        rising = _float(start) * left + _float(after(0)) * done
        return jnp.where(left <= 0.0, _float(after(later)), rising)

    return whole


def as_schedule(name: str, rate: object) -> Schedule:
    """What may stand where a learning rate is wanted: a schedule, or a number for a constant one."""
    if callable(rate) and not isinstance(rate, Record):
        hint = "Pass a number, or one of fnn.schedules."
        given = function(name, rate, 1, "a learning rate or a function of the step", hint)

        def schedule(step: Numbers) -> Numbers:
            made = as_array(name, call(name, given, step), "a learning rate from the schedule")
            if made.shape != np.shape(step):
                wanted, got = f"one learning rate per step, shape {np.shape(step)}", made.shape
                raise ShapeError(f"{name}: expected {wanted}, got {got}. Return as many numbers as there are steps.")
            return made

        return schedule
    number = _rate(name, rate)
    return lambda step: number


def _rate(name: str, value: object) -> Scalar:
    return scalar(name, "a learning rate", value, "Pass a small number, such as 0.1")


def _steps(name: str, value: object) -> Scalar:
    return scalar(name, "a number of steps", value, "Pass how many steps it takes", positive=True)


def _items(name: str, what: str, values: object) -> list[Any]:
    """A list of numbers, from any sequence or one-dimensional array."""
    if (
        isinstance(values, (str, bytes, dict, set, type))
        or is_deleted(values)
        or not hasattr(values, "__iter__")
        or getattr(values, "ndim", 1) != 1
    ):
        raise TypeError(f"{name}: expected a list of {what}, got {describe_value(values)}. Write {what}=[…].")
    return list(values)


def _float(number: Numbers) -> Array:
    """In the default precision, in which learning rates are computed."""
    return jnp.asarray(number, jnp.result_type(float))


def _number(step: Numbers) -> Array:
    """Steps as floats; exact up to 2^24."""
    given = as_array("schedule", step, "a step")
    if not isinstance(given, jax.core.Tracer) and np.any(np.less(given, 0)):
        raise ValueError(f"schedule: expected a step of at least 0, got {np.min(given)}. Count steps from 0.")
    return _float(given)


def _parts(step: Numbers, steps: Scalar) -> tuple[Array, Array]:
    """Which part of the way is done, and which is left, each from 0 to 1 and each precise near 0."""
    steps = _float(steps)
    done = jnp.minimum(_number(step), steps)
    return done / steps, (steps - done) / steps
