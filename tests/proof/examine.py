"""What is proven of a record: its rule by hand against four others, in every regime, in three precisions; and that a
wrong rule would have been found.

By hand against autodiff of the reference, against a complex step and against differences of sixth order through fnn's
own function, normwise: the largest difference over the largest value of the leaf.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.differences import one_sided
from fnn.gradient_check import figures, slopes
from tests.proof.plant import planted
from tests.proof.record import Kink, Part, Point

LIMITS = {"value": 1e-12, "autodiff": 1e-12, "complex_step": 1e-13, "numerical": 1e-10}
HALF_LIMITS = {"float32": 2e-5, "bfloat16": 2e-2}
NOTHING = 1e-300  # where the true leaf is 0 everywhere, by hand must be so to this


class Seen(NamedTuple):
    """The worst of all leaves in one regime; `numerical` beyond ten times the differences' own estimated error."""

    value: float  # fnn's function against the reference
    autodiff: float
    complex_step: float  # nan: the function has no complex form
    numerical: float  # nan: too flat, or too near a kink, for differences to see to 1e-10


class Found(NamedTuple):
    """All that was found of one part."""

    part: Part
    seen: dict[str, Seen]  # by regime
    kinks: dict[str, float]  # by place: by hand against the derivative of the chosen side
    halves: dict[str, float]  # by dtype: against float64
    missed: tuple[str, ...]  # planted errors that were not found
    planted: int

    def worst(self, column: str) -> float:
        """Of all regimes; nan where none could tell."""
        known = [getattr(seen, column) for seen in self.seen.values() if not np.isnan(getattr(seen, column))]
        return max(known) if known else float("nan")

    @property
    def wrong(self) -> list[str]:
        """What does not hold, in words."""
        failures = [
            f"{regime}, {column}: {getattr(seen, column):.1e}"
            for regime, seen in self.seen.items()
            for column, limit in LIMITS.items()
            if getattr(seen, column) > limit
        ]
        failures += [f"kink {place}: {off:.1e}" for place, off in self.kinks.items() if not off <= 1e-8]
        failures += [f"{name}: {off:.1e}" for name, off in self.halves.items() if not off <= HALF_LIMITS[name]]
        return failures + [f"not found: {error}" for error in self.missed]


def examine(part: Part) -> Found:
    """Everything that is proven of a part. Run it with x64 enabled."""
    ways = _Ways(part)
    points = {name: make() for name, make in part.regimes.items()}
    seen = {name: ways.look(point) for name, point in points.items()}
    kinks = {f"{kink.where}, {kink.taken}": _at_kink(part, kink) for kink in part.kinks}
    errors = planted(part, ways.rule, points["random"])
    looked = [point for name, point in points.items() if name in ("random", "masked rows")]
    missed = tuple(error for error, rule in errors.items() if not ways.catch(rule, looked))
    return Found(part, seen, kinks, _halves(ways, points), missed, len(errors))


# ---- four ways


class _Ways:
    """The programs of one part, compiled once for each shape."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.both = jax.jit(self._both)
        self.along = jax.jit(self._along)
        self.rule = jax.jit(part.rule)

    def _both(self, at: Any, given: Any, dy: Any) -> Any:
        y, pull = jax.vjp(lambda at: self.part.reference(at, given), at)
        return self.part.forward(at, given), y, self.part.rule(at, given, dy), pull(dy)[0]

    def _along(self, at: Any, given: Any, dy: Any, by_hand: Any) -> Any:
        return slopes(lambda at: dy * self.part.forward(at, given), at, by_hand)

    def look(self, point: Point) -> Seen:
        dy = incoming(self.part, point)
        y, expected, by_hand, by_autodiff = self.both(*point, dy)
        true = jnp.where(dy == 0, 0.0, expected)  # padding comes out as it may
        along = self.along(*point, dy, by_hand)
        found = figures(point.at, by_hand, by_autodiff, along)
        nothing = [not np.any(np.asarray(g)) for g in jax.tree.leaves(by_autodiff)]
        for g, none in zip(jax.tree.leaves(by_hand), nothing, strict=True):
            assert not none or np.abs(np.asarray(g)).max(initial=0) <= NOTHING, "not 0 where the truth is"
        return Seen(
            float(normwise(jnp.where(dy == 0, 0.0, y), true)),
            _worst(found["autodiff"], nothing),
            _worst(found["complex_step"], nothing),
            _sharp(along),
        )


    def catch(self, rule: Any, points: list[Point]) -> bool:
        """Whether a rule fails the comparison with autodiff somewhere."""
        for point in points:
            dy = incoming(self.part, point)
            true, got = self.both(*point, dy)[3], rule(*point, dy)
            pairs = zip(jax.tree.leaves(got), jax.tree.leaves(true), strict=True)
            if any(normwise(a, b) > LIMITS["autodiff"] for a, b in pairs):
                return True
        return False


def incoming(part: Part, point: Point) -> Any:
    """The derivative by the outputs: random numbers, 0 for padding."""
    y = jax.eval_shape(part.forward, *point)
    dy = jnp.asarray(np.random.default_rng([7, *y.shape]).uniform(0.5, 1.5, y.shape) * _signs(y.shape))
    mask = point.given.get("mask")
    if mask is None or not y.shape:
        return dy
    return jnp.where(mask.reshape(-1, *[1] * (dy.ndim - 1)), dy, 0.0)


def _signs(shape: Any) -> Any:
    return np.where(np.random.default_rng([8, *shape]).uniform(size=shape) < 0.4, -1.0, 1.0)


def _worst(column: Any, nothing: list[bool]) -> float:
    """Of the leaves that are not 0 everywhere."""
    column = np.asarray(column)[~np.asarray(nothing, bool)]
    return float(column.max(initial=0.0))


def _sharp(along: Any) -> float:
    """By hand against the differences where these know to 1e-11 of their largest value, beyond their own error."""
    hand, slope, error, kink = map(np.asarray, (along.by_hand, along.numerical, along.error, along.kink))
    scale = np.abs(slope).max(initial=0)
    known = (error <= 1e-11 * scale) & (kink > 1e-2)
    if not scale or not known.any():
        return float("nan")
    return float((np.abs(hand - slope) / scale)[known].max())


def normwise(got: Any, expected: Any) -> float:
    """Largest difference over largest value; where the truth is 0 everywhere, the difference as it is; inf for nan."""
    off = float(np.abs(np.asarray(got, np.float64) - np.asarray(expected, np.float64)).max(initial=0))
    top = float(np.abs(np.asarray(expected, np.float64)).max(initial=0))
    return (off / top if top else off) if np.isfinite(off) else float("inf")


# ---- at a kink


def _at_kink(part: Part, kink: Kink) -> float:
    """By hand, and autodiff of fnn's own function, against the derivative of the side that is taken."""
    (at, given), dy = kink.point, incoming(part, kink.point)
    by_hand = part.rule(at, given, dy)
    by_autodiff = jax.vjp(lambda at: part.forward(at, given), at)[1](dy)[0]
    cost = jax.jit(lambda at: (dy * part.forward(at, given)).sum())
    expected, got, same = [], [], []
    leaves, tree = jax.tree.flatten(at)
    for i, leaf in enumerate(leaves):
        for j in range(leaf.size):
            unit = [jnp.zeros_like(other) for other in leaves]
            unit[i] = unit[i].ravel().at[j].set(1.0).reshape(leaf.shape)
            move = jax.tree.unflatten(tree, unit)
            if kink.toward is None:
                slope = (one_sided(cost, at, move) - one_sided(cost, at, jax.tree.map(jnp.negative, move))) / 2
            else:
                move = jax.tree.map(lambda v, u: v + 0.1 * u, kink.toward, move)
                slope = one_sided(cost, at, move)
            expected.append(float(slope))
            got.append(_dot(by_hand, move))
            same.append(_dot(by_autodiff, move))
    return max(normwise(got, expected), normwise(same, expected))


def _dot(a: Any, b: Any) -> float:
    return sum(float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# ---- in smaller precisions


def _halves(ways: _Ways, points: dict[str, Point]) -> dict[str, float]:
    """The rule in float32 and bfloat16 against float64 at the very same numbers."""
    worst = {}
    regimes = {"float32": [r for r in points if "4,096" not in r], "bfloat16": ["random"]}
    for name, where in regimes.items():
        off = [_in_dtype(ways, points[regime], jnp.dtype(name)) for regime in where]
        worst[name] = max(off)
    return worst


def _in_dtype(ways: _Ways, point: Point, dtype: Any) -> float:
    def to(dtype: Any) -> Callable[[Any], Any]:
        return lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    small = jax.tree.map(to(dtype), point)
    dy = incoming(ways.part, point).astype(dtype)
    exact = ways.rule(*jax.tree.map(to(jnp.float64), small), dy.astype(jnp.float64))
    got = ways.rule(*small, dy)
    floor = float(jnp.finfo(dtype).tiny) / float(jnp.finfo(dtype).eps)  # what is smaller is 0 in it, or nearly
    return max(
        0.0 if np.abs(np.asarray(b)).max(initial=0) < floor else normwise(a, b)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True)
    )
