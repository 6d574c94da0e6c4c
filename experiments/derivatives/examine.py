"""What is proven of a record: its rule by hand against four others, in every regime, in three precisions; and that a
wrong rule would have been found.

By hand against autodiff of the reference, against a complex step and against differences of sixth order through fnn's
own function, normwise: the largest difference over the largest value of the leaf.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.derivatives.plant import planted
from experiments.derivatives.record import Kink, Part, Point
from experiments.derivatives.regimes import QUICK
from fnn.gradients.finite_differences import one_sided_difference
from fnn.gradients.slopes import (
    EXHAUSTIVE_UP_TO,
    RANDOM_DIRECTIONS,
    directional_derivatives,
    directions,
    directions_plan,
)

LIMITS = {"value": 1e-12, "autodiff": 1e-12, "complex_step": 1e-13, "numerical": 1e-10}
HALF_LIMITS = {"float32": 2e-5, "bfloat16": 2e-2}
NOTHING = 1e-300  # where the true leaf is 0 everywhere, by hand must be so to this
SIDE = 1e-6  # at a kink: which side it is, by differences close to it


class Seen(NamedTuple):
    """The worst of all leaves in one regime."""

    value: float  # fnn's function against the reference
    autodiff: float
    complex_step: float  # nan: the function has no complex form
    numerical: float  # nan: too flat, or too near a kink, for differences to see to 1e-11


class Found(NamedTuple):
    """All that was found of one part."""

    part: Part
    seen: dict[str, Seen]  # by regime
    kinks: dict[str, float]  # by place: by hand against the derivative of the chosen side
    halves: dict[str, float]  # by dtype: against float64
    inherent: dict[str, float]  # likewise autodiff's, where by hand is further off than the limit
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
        if self.part.of_the_value and np.isnan(self.seen["random"].numerical):
            failures.append("random, numerical: the differences saw nothing")
        failures += [f"kink {place}: {off:.1e}" for place, off in self.kinks.items() if not off <= SIDE]
        failures += [
            f"{name}: {off:.1e}"
            for name, off in self.halves.items()
            if not off <= max(HALF_LIMITS[name], 1.5 * self.inherent.get(name, 0.0))
        ]
        return failures + [f"not found: {error}" for error in self.missed]


def examine(part: Part) -> Found:
    """Everything that is proven of a part. Run it with x64 enabled."""
    ways = _Ways(part)
    points = {name: make() for name, make in part.regimes.items()}
    seen = {name: ways.look(point) for name, point in points.items()}
    kinks = {f"{kink.where}, {kink.taken}": _at_kink(part, kink) for kink in part.kinks}
    errors = planted(part, ways.rule, points["random"])
    looked = [(point, incoming(part, point)) for name, point in points.items() if name in ("random", "masked rows")]
    truths = [(point, dy, ways.both(*point, dy)[3]) for point, dy in looked]
    missed = tuple(error for error, rule in errors.items() if not _caught(rule, truths))
    return Found(part, seen, kinks, *_halves(ways, points), missed, len(errors))


# ---- four ways


class _Ways:
    """The programs of one part, compiled once for each shape."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.rule = jax.jit(part.rule, compiler_options=QUICK)
        self.autodiff = jax.jit(lambda at, given, dy: jax.vjp(lambda at: part.forward(at, given), at)[1](dy)[0])
        self.both = jax.jit(self._both, compiler_options=QUICK)
        self.along = jax.jit(self._along, compiler_options=QUICK)

    def _both(self, at: Any, given: Any, dy: Any) -> Any:
        """(fnn's value, the reference's, the derivative by hand, that of the reference by autodiff)."""
        y, pull = jax.vjp(lambda at: self.part.reference(at, given), at)
        return self.part.forward(at, given), y, self.part.rule(at, given, dy), pull(dy)[0]

    def _along(self, at: Any, given: Any, dy: Any, by_hand: Any) -> Any:
        long = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(by_hand)])[None]
        point, wanted = jax.tree.map(lambda a: a[None], at), directions_plan(jax.tree.leaves(at), *_most(dy))
        return directional_derivatives(
            lambda at: dy * self.part.forward(at, given), point, long, jnp.zeros_like(long), wanted
        )

    def look(self, point: Point) -> Seen:
        dy = incoming(self.part, point)
        y, expected, by_hand, by_autodiff = self.both(*point, dy)
        along = jax.tree.map(np.asarray, self.along(*point, dy, by_hand))
        counts = dy != 0  # padding comes out as it may
        leaves = [jax.tree.leaves(tree) for tree in (by_hand, by_autodiff)]
        ends = np.cumsum([directions(leaf, *_most(dy)) for leaf in leaves[0]])[:-1]
        exact = _by_leaf(along, leaves[0], ends, _most(dy)[0])
        has_exact = self.part.of_the_value and not np.isnan(along.exact).any()
        return Seen(
            normwise(np.where(counts, y, 0.0), np.where(counts, expected, 0.0)),
            max(map(normwise, *leaves), default=0.0),
            max(_share(off, value) for off, value in exact) if has_exact else float("nan"),
            _sharp(along, ends) if self.part.of_the_value else float("nan"),
        )


def _caught(rule: Any, truths: list[tuple[Point, Any, Any]]) -> bool:
    """Whether a rule fails the comparison with autodiff somewhere."""
    for point, dy, true in truths:
        pairs = zip(jax.tree.leaves(rule(*point, dy)), jax.tree.leaves(true), strict=True)
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


def _by_leaf(along: Any, by_hand: list[Any], ends: Any, most: int) -> list[tuple[Any, Any]]:
    """(by hand less a complex step, what to compare that with) for each leaf.

    Along a random direction much of a leaf may cancel: there it is compared with what is to be expected, too.
    """
    pairs = zip(np.split(along.by_hand - along.exact, ends), np.split(along.exact, ends), by_hand, strict=True)
    usual = [0.5 * float(np.linalg.norm(leaf)) if leaf.size > most else 0.0 for leaf in by_hand]
    return [(off, np.append(value, scale)) for (off, value, _), scale in zip(pairs, usual, strict=True)]


def _most(dy: Any) -> tuple[int, int]:
    """Up to how many numbers of a leaf are looked at one by one, else along how many directions.

    With thousands of rows, which take their time, two directions a leaf must do; autodiff sees every number.
    """
    return (EXHAUSTIVE_UP_TO, RANDOM_DIRECTIONS) if dy.size < 1000 else (0, 2)


def _sharp(along: Any, ends: Any) -> float:
    """By hand against the differences, leaf by leaf, where these know to 1e-11 of the leaf's largest value."""
    worst = float("nan")
    for hand, slope, error, kink in zip(
        *(np.split(column, ends) for column in (along.by_hand, along.numerical, along.error, along.kink)), strict=True
    ):
        scale = np.abs(slope).max(initial=0)
        known = (error <= 1e-11 * scale) & ~(kink <= 1e-2)  # nan: no complex form, which would know
        if scale and known.any():
            worst = np.fmax(worst, (np.abs(hand - slope) / scale)[known].max())
    return float(worst)


def normwise(got: Any, expected: Any) -> float:
    """Largest difference over largest value; where the truth is 0 everywhere, 0 up to 1e-300; inf for nan."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return _share(got - expected, expected)


def _share(off: Any, value: Any) -> float:
    worst, top = float(np.abs(off).max(initial=0)), float(np.abs(value).max(initial=0))
    if not np.isfinite(worst):
        return float("inf")
    return worst / top if top else (0.0 if worst <= NOTHING else float("inf"))


# ---- at a kink


def _at_kink(part: Part, kink: Kink) -> float:
    """By hand, and autodiff of fnn's own function, against the derivative of the side that is taken.

    Normwise; where that is the mean of both sides, against the larger of the two.
    """
    (at, given), dy = kink.point, incoming(part, kink.point)

    @partial(jax.jit, compiler_options=QUICK)
    def both(at: Any) -> Any:
        return part.rule(at, given, dy), jax.vjp(lambda at: part.forward(at, given), at)[1](dy)[0]

    @partial(jax.jit, compiler_options=QUICK)
    def slope(move: Any) -> Any:
        return one_sided_difference(lambda at: (dy * part.forward(at, given)).sum(), at, move, kink.step)

    derivatives = both(at)
    off, top = 0.0, 0.0
    leaves, tree = jax.tree.flatten(at)
    for i, leaf in enumerate(leaves):
        for unit in np.eye(leaf.size).reshape(-1, *leaf.shape):
            move = jax.tree.unflatten(tree, [jnp.asarray(unit if j == i else 0 * x) for j, x in enumerate(leaves)])
            if kink.toward is None:
                sides = [slope(move), -slope(jax.tree.map(jnp.negative, move))]
            else:
                move = jax.tree.map(lambda v, u: v + 0.1 * u, kink.toward, move)
                sides = [slope(move)]
            off = max(off, *(abs(_dot(d, move) - float(np.mean(sides))) for d in derivatives))
            top = max(top, *map(abs, map(float, sides)))
    return off / top if top else off


def _dot(a: Any, b: Any) -> float:
    return sum(float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# ---- in smaller precisions


def _halves(ways: _Ways, points: dict[str, Point]) -> tuple[dict[str, float], dict[str, float]]:
    """The rule in float32 and bfloat16 against float64 at the very same numbers; and autodiff, if that is too far off.

    Ten layers of bfloat16 cost more than the limit whoever differentiates them: then autodiff shows how much.
    """
    regimes = {"float32": [r for r in points if r not in ("4,096 rows", "one row")], "bfloat16": ["random"]}
    worst, inherent = {}, {}
    for name, where in regimes.items():
        worst[name] = max(_in_dtype(ways.part, ways.rule, points[regime], jnp.dtype(name)) for regime in where)
        if worst[name] > HALF_LIMITS[name]:
            inherent[name] = max(_in_dtype(ways.part, ways.autodiff, points[r], jnp.dtype(name)) for r in where)
    return worst, inherent


def _in_dtype(part: Part, rule: Any, point: Point, dtype: Any) -> float:
    def to(dtype: Any) -> Callable[[Any], Any]:
        return lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    small = jax.tree.map(to(dtype), point)
    dy = incoming(part, point).astype(dtype)
    exact = rule(*jax.tree.map(to(jnp.float64), small), dy.astype(jnp.float64))
    got = rule(*small, dy)
    floor = float(jnp.finfo(dtype).tiny) / float(jnp.finfo(dtype).eps)  # what is smaller is 0 in it, or nearly
    return max(
        0.0 if np.abs(np.asarray(b)).max(initial=0) < floor else normwise(a, b)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact), strict=True)
    )
