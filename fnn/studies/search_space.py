"""Which settings a sweep tries: a grid, points drawn at random, or a list; on the host.

Random points find a good one sooner than a grid where few of the settings matter: Bergstra & Bengio 2012.
"""

import itertools
import math
import re
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import arguments
from fnn.types import Record

Point = dict[str, int | float]
TRACED_INTEGERS = ("seed", "patience")  # whole numbers that change no shape


class Distribution(NamedTuple):
    """Numbers to draw from, as `uniform` and `log_uniform` make them."""

    low: float
    high: float
    logarithmic: bool

    def __repr__(self) -> str:
        return f"{'log_' if self.logarithmic else ''}uniform({self.low}, {self.high})"


@arguments.explain_call
def uniform(low: float, high: float) -> Distribution:
    """Numbers from `low` to `high`, any as likely as any other, for `draws`; density `1/(high - low)`.

    Raises a ValueError or a TypeError where they are not two finite numbers, the lower one first.

    >>> import fnn
    >>> fnn.uniform(0, 0.5)
    uniform(0.0, 0.5)
    """
    return _range("uniform", low, high)


@arguments.explain_call
def log_uniform(low: float, high: float) -> Distribution:
    """Numbers from `low` to `high`, any order of magnitude as likely as any other; density `1/(x log(high/low))`.

    For learning rates and coefficients of penalties, in `draws`.
    Raises a ValueError or a TypeError where they are not two finite numbers above 0, the lower one first.

    >>> import fnn
    >>> fnn.log_uniform(1e-4, 1)
    log_uniform(0.0001, 1.0)
    """
    return _range("log_uniform", low, high)


@arguments.explain_call
def grid(over: dict[str, Any]) -> list[Point]:
    """Every combination of the values; the last name varies fastest.

    Args:
        over: name -> the values to try, a list or an array of finite numbers. Integers stay `int`, others `float`.

    Raises:
        ValueError, TypeError: `over` is no such dict; says which name, which value.

    >>> import fnn
    >>> fnn.grid({"width": [8, 16], "l2": [0.0, 1e-3]})[:2]
    [{'width': 8, 'l2': 0.0}, {'width': 8, 'l2': 0.001}]
    """
    _check_names("over", over)
    values = [_values(f"over[{name!r}]", given) for name, given in over.items()]
    return [dict(zip(over, point, strict=True)) for point in itertools.product(*values)]


@arguments.explain_call
def draws(count: int, key: int = 0, **ranges: Any) -> list[Point]:
    """Points drawn at random, each setting by itself: `draws(20, lr=log_uniform(1e-4, 1), width=[16, 32, 64])`.

    Point i is the same whatever the `count`, and a setting's numbers are the same whatever other settings there are:
    to ask for more points, or for one more setting, keeps what has been tried.

    Args:
        count: how many points, at least 1.
        key: a seed, an integer of at least 0.
        ranges: for each setting `uniform(low, high)`, `log_uniform(low, high)`, or a list or an array of numbers to
            choose from, each as likely as the others.

    Raises:
        ValueError, TypeError: an argument is none of these; says which.

    >>> import fnn
    >>> for point in fnn.draws(3, key=2, lr=fnn.log_uniform(1e-4, 1), width=[16, 32, 64]):
    ...     print(f"{point['lr']:.5f} {point['width']}")
    0.59280 32
    0.02674 16
    0.27335 64
    """
    count, key = arguments.whole_number("count", count, 1), arguments.whole_number("key", key, 0)
    if not ranges:
        raise ValueError("draws: expected at least one setting, got none. Write draws(20, lr=uniform(0, 1)).")
    for name, given in ranges.items():
        if isinstance(given, tuple) and not isinstance(given, Distribution):  # the ends of a range, or two choices?
            got = f"a tuple {arguments.describe_value(given)}"
            raise TypeError(f"{name}: expected a range or a list, got {got}. Write uniform(…) or [...].")
    known = {name: given if isinstance(given, Distribution) else _values(name, given) for name, given in ranges.items()}
    return [{name: _draw(given, key, i, name) for name, given in known.items()} for i in range(count)]


def as_points(over: Any) -> list[Point]:
    """The points that a sweep tries: `grid(over)` of a dict; a list of dicts, such as `draws` gives, as it is.

    Raises:
        ValueError, TypeError: `over` is neither, or points differ in their names; says which point.

    >>> from fnn.studies.search_space import as_points
    >>> as_points({"lr": [0.1, 0.2]})
    [{'lr': 0.1}, {'lr': 0.2}]
    >>> as_points([{"lr": 0.1, "l2": 0.0}, {"lr": 0.2, "l2": 1e-3}])
    [{'lr': 0.1, 'l2': 0.0}, {'lr': 0.2, 'l2': 0.001}]
    """
    if isinstance(over, dict):
        return grid(over)
    if not isinstance(over, (list, tuple)) or isinstance(over, Distribution):
        got = type(over).__name__
        raise TypeError(f"over: expected a dict of lists or a list of dicts, got {got}. Write {{'lr': [0.1, 0.2]}}.")
    if not over:
        raise ValueError("over: expected at least one point, got an empty list. Write [{'lr': 0.1}].")
    for i, point in enumerate(over):
        _check_names(f"over[{i}]", point)
        if set(point) != set(over[0]):
            wanted = f"the names of the first point, {list(over[0])}"
            raise ValueError(f"over[{i}]: expected {wanted}, got {list(point)}. Give all points the same names.")
    return [{name: _number(f"over[{i}][{name!r}]", v) for name, v in point.items()} for i, point in enumerate(over)]


def split_traced(points: list[Point]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the settings that one program can take as arguments, and of those that may change its shapes.

    Where all values are integers (width, depth, batch_size) a setting is static: each value needs a program of its
    own. One float among them makes it traced. "seed" and "patience" are whole numbers but no sizes: traced.

    >>> from fnn.studies.search_space import grid, split_traced
    >>> split_traced(grid({"lr": [0.1, 1], "width": [8, 16], "seed": [0, 1, 2]}))
    (('lr', 'seed'), ('width',))
    """
    points = as_points(points)
    whole = {name for name in points[0] if all(isinstance(point[name], int) for point in points)}
    static = tuple(name for name in points[0] if name in whole and name not in TRACED_INTEGERS)
    return tuple(name for name in points[0] if name not in static), static


def _draw(given: Any, key: int, i: int, name: str) -> int | float:
    """One number, from a generator that is seeded by what it may depend on."""
    u = np.random.default_rng((key, i, zlib.crc32(name.encode()))).random()  # in [0, 1)
    if not isinstance(given, Distribution):
        number: int | float = given[int(u * len(given))]
        return number
    low, high, logarithmic = given
    ends = (math.log(low), math.log(high)) if logarithmic else (low, high)
    drawn = (1 - u) * ends[0] + u * ends[1]
    return min(max(math.exp(drawn) if logarithmic else drawn, low), high)  # rounding may step over an end


def _range(name: str, low: Any, high: Any) -> Distribution:
    low, high = float(_number("low", low)), float(_number("high", high))
    if name == "log_uniform" and low <= 0:
        raise ValueError(f"log_uniform: expected low above 0, got {low}. Write log_uniform(1e-4, 1).")
    if not low < high:
        raise ValueError(f"{name}: expected low below high, got {low} and {high}. Swap or widen them.")
    return Distribution(low, high, name == "log_uniform")


def _check_names(name: str, value: Any) -> None:
    """A dict with at least one setting, whose names are strings."""
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected a dict of settings, got {type(value).__name__}. Write {{'lr': …}}.")
    if not value:
        raise ValueError(f"{name}: expected at least one setting, got an empty dict. Write {{'lr': …}}.")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name}: expected names of settings, got {arguments.describe_thing(key)}. Write strings.")


def _values(name: str, given: Any) -> list[int | float]:
    """The numbers of a list or an array."""
    if isinstance(given, Distribution):  # a tuple of numbers too
        raise TypeError(f"{name}: expected a list of numbers, got {given}. Use it in draws(…).")
    array = isinstance(given, jax.Array) or hasattr(given, "__array__")
    values = arguments.as_numpy(name, given, "a list of numbers").tolist() if array else given
    if not isinstance(values, (list, tuple, range)):
        got = arguments.describe_thing(given)
        raise TypeError(f"{name}: expected a list of numbers, got {got}. Write [0.1].")
    if not len(values):
        raise ValueError(f"{name}: expected at least one value, got an empty list. Leave the setting out.")
    return [_number(f"{name}[{i}]", v) for i, v in enumerate(values)]


def _number(name: str, value: Any) -> int | float:
    """A finite Python number: NumPy's and JAX's become `int` or `float`."""
    hint, value = "Pass an int or a float.", bool(value) if isinstance(value, np.bool_) else value
    choice = isinstance(value, (bool, Record)) or callable(value)
    choice = choice or (isinstance(value, str) and not _is_number(value))
    if choice and "[" in name:
        hint = f"Number the choices, and look them up: over={{…: [0, 1]}} and [a, b][s[{_setting(name)}]]."
    number: Any = arguments.real_number(name, "a number", value, hint)
    if isinstance(number, jax.core.Tracer):
        raise TypeError(f"{name}: expected a number, got {arguments.describe_thing(value)}. {hint}")
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {number}. Choose another.")
    known: int | float = number
    return known


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _setting(name: str) -> str:
    """The setting that `over['lr'][0]` or `over[0]['lr']` is of, quoted."""
    return next((part for part in re.findall(r"\[(.*?)\]", name) if part[0] in "'\""), repr(name.partition("[")[0]))
