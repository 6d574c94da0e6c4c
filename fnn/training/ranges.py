"""Settings out of their range, found on the host before anything compiles.

In a program settings are traced, so that `dropout(s["rate"])` cannot look at the rate. Here the functions of settings
are called with the numbers themselves, and the factories in them raise as they do without a study.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optax

from fnn.training.config import takes_settings
from fnn.types import Layer, Loss, Penalty, ShapeError

EVERY = 256  # points that are tried one by one; of more, those with the least and the largest of each setting, and some


def check_ranges(parts: Sequence[Any], points: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> None:
    """Raise for the first point with which a part of a study's runs cannot be made.

    Args:
        parts: network, loss, optimizer and penalty; those are tried that are functions of the settings.
        points: what is in `over`, plain numbers.
        shared: settings that all have.

    Raises:
        ValueError: a number is out of its range; with the point and what the factory says.

    >>> import fnn, optax
    >>> from fnn.training.ranges import check_ranges
    >>> net = lambda s: fnn.serial(fnn.dropout(s["rate"]), fnn.dense(1))
    >>> parts = net, fnn.losses.squared_error, optax.sgd(0.1), None
    >>> check_ranges(parts, [{"rate": 0.1}, {"rate": 1.5}], {})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: over[1], {'rate': 1.5}: dropout: expected a rate below 1, got 1.5. ...
    """
    for place in _try(points) if any(_functions_of_settings(parts)) else ():
        point = points[place]
        try:
            check_settings(parts, {**shared, **point})
        except ValueError as error:
            kind = ShapeError if isinstance(error, ShapeError) else ValueError
            raise kind(f"over[{place}], {dict(point)}: {error}") from None


def check_settings(parts: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """Make the parts that are functions of the settings from these numbers: a ValueError says which is out of range.

    Other errors may be due to plain numbers in the place of traced arrays; what is wrong anyway raises when traced.
    """
    for make in _functions_of_settings(parts):
        try:
            make(settings)
        except ValueError:
            raise
        except Exception:
            continue


def _functions_of_settings(parts: Sequence[Any]) -> Iterator[Callable[..., Any]]:
    made = (Layer, Loss, Penalty, optax.GradientTransformation, type(None))
    for part in parts:
        if not isinstance(part, made) and callable(part) and not getattr(part, "is_factory", False):
            try:
                takes = takes_settings(part)
            except (ValueError, TypeError):  # it has no signature
                continue
            if takes:
                yield part


def _try(points: Sequence[Mapping[str, Any]]) -> list[int]:
    """The places of the points to try, in order: a range has two ends, so that the extremes of many stand for all."""
    if len(points) <= EVERY:
        return list(range(len(points)))
    tried = set(range(0, len(points), -(-len(points) // EVERY)))
    for name in points[0]:
        values = [point[name] for point in points]
        tried |= {values.index(min(values)), values.index(max(values))}
    return sorted(tried)
