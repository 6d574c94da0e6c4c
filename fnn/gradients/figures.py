"""The figures of a check of derivatives, as arrays with one number per leaf; and what they are worth."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn.gradients.slopes import EXHAUSTIVE_UP_TO, DirectionalDerivatives, DirectionPlan
from fnn.types import Array

AGREE = {8: (1e-12, 1e-12, 1e-9), 4: (2e-5, 2e-5, 2e-2)}  # limits of the three, by bytes
MATRIX = 100_000  # numbers of a matrix with a row per leaf
NARROW = 2.5  # limits where a narrower dtype is used inside: so many times its eps
NOISE = 8  # so many times what rounding was seen to do is still rounding
COARSE = 0.1  # where the limit is more than this of a derivative, nothing can be said about it
TINY = {8: 1e-270, 4: 1e-20}  # below it, by bytes, a complex step underflows


class Samples(NamedTuple):
    """The derivative at each point as a long vector, all leaves in one: (points, numbers) arrays."""

    by_hand: Array
    by_autodiff: Array
    noise: Array  # how far rounding alone moves either of them


class Judgement(NamedTuple):
    """What one way has to say of each leaf."""

    off: Array  # the largest difference over the largest value; nan where it does not count
    counts: Array
    wrong: Array


def leaf_statistics(
    leaves: list[Any], sampled: Samples, wanted: DirectionPlan, along: DirectionalDerivatives, eps: float
) -> dict[str, Array]:
    """What the table shows, one number per leaf. `eps`: of the narrowest dtype inside, whose constants are rounded."""
    limits = tuple(max(limit, NARROW * eps) for limit in AGREE[sampled.by_hand.dtype.itemsize])
    auto, shown = _compare_autodiff([leaf.size for leaf in leaves], sampled, limits[0])
    exact, numerical, crossed = _compare_function(leaves, sampled, wanted, along, limits)
    judged = auto.counts | exact.counts | numerical.counts
    wrong = auto.wrong | exact.wrong | numerical.wrong
    here = np.asarray(wanted.point) == 0
    kink = _LeafSegments(wanted.leaf[here], len(leaves)).least(along.kink[here])
    vanishes = shown.pop("vanishes")
    return shown | {
        "autodiff": auto.off,
        "complex_step": exact.off,
        "numerical": numerical.off,
        "kink": kink,
        "vanishes": vanishes & ~wrong,
        "crossed": crossed,
        "judged": judged,
        "ok": ~wrong,
    }


# ---- by hand against autodiff, every number of every leaf


def _compare_autodiff(sizes: list[int], sampled: Samples, agree: float) -> tuple[Judgement, dict[str, Array]]:
    """All leaves as one long vector: a handful of kernels, whatever the network."""
    each = _LeafSegments(np.repeat(np.arange(len(sizes)), sizes), len(sizes))
    hand, auto, noise = sampled
    apart = jnp.where(jnp.isfinite(hand - auto), jnp.abs(hand - auto), jnp.inf)
    off, top = each.largest(apart), each.largest(jnp.abs(auto))
    rounding = NOISE * each.largest(noise)
    known = ~each.any(~jnp.isfinite(auto))
    spoilt = known & ~jnp.isfinite(off)  # by hand is no number, where autodiff has one
    limit = agree * top + rounding + _size_elsewhere(top)
    wrong = spoilt | (known & (off > limit))
    sharp = known & (limit <= COARSE * top)
    worst = jnp.argmax(jnp.where(known, off / jnp.where(limit > 0, limit, 1.0), -1.0), 0)  # the point, for each leaf
    share = off / jnp.where(top > 0, top, 1.0)
    counted = jnp.where(sharp | wrong, share, -jnp.inf).max(0)
    judged = Judgement(jnp.where(jnp.isfinite(counted) | (counted > 0), counted, jnp.nan), sharp.any(0), wrong.any(0))
    size = each.largest(jnp.where(jnp.isfinite(hand), jnp.abs(hand), jnp.inf))
    zero = known & (jnp.maximum(size, top) <= rounding)
    leaf = jnp.arange(len(sizes))
    shown = _worst_number(sizes, each, hand[worst[each.of], _places(hand)], auto[worst[each.of], _places(hand)])
    return judged, shown | {
        "rounding": (rounding / NOISE / jnp.where(top > 0, top, 1.0))[worst, leaf],
        "vanishes": zero.all(0),
    }


def _size_elsewhere(size: Array) -> Array:
    """What rounding can make of a derivative that vanishes at one point, estimated from its size at the others.

    Where an output differs from its target by a few ulps, a derivative is a power of that difference. Then two right
    ways to compute it have no digit in common, and three roundings need not show by how much. (points, leaves).
    """
    finite = jnp.where(jnp.isfinite(size), size, 0.0)
    return NOISE * float(jnp.finfo(size.dtype).eps) * jnp.broadcast_to(finite.max(0), size.shape)


def _places(vectors: Array) -> Array:
    return jnp.arange(vectors.shape[-1], dtype=jnp.int32)


def _worst_number(sizes: list[int], each: "_LeafSegments", hand: Array, auto: Array) -> dict[str, Array]:
    """Where in its leaf by hand and autodiff are furthest apart, what they are there, and by what factor overall."""
    apart = jnp.where(jnp.isfinite(hand - auto), jnp.abs(hand - auto), jnp.inf)
    worst = each.first(apart == each.largest(apart)[each.of])
    top = each.largest(jnp.abs(auto))
    unit = jnp.where((top > 0) & jnp.isfinite(top), top, 1.0)[each.of]  # so that no square underflows
    size = each.total(jnp.square(auto / unit))
    factor = jnp.where(size > 0, each.total(hand / unit * (auto / unit)) / jnp.where(size > 0, size, 1.0), jnp.nan)
    return {
        "worst": worst - jnp.asarray(np.cumsum([0, *sizes[:-1]]), worst.dtype),
        "by_hand": hand[worst],
        "by_autodiff": auto[worst],
        "factor": factor,
        "remainder": each.normwise(hand - factor[each.of] * auto, auto),
    }


# ---- by hand against the function itself, along directions


def _compare_function(
    leaves: list[Any], sampled: Samples, wanted: DirectionPlan, along: DirectionalDerivatives, limits: tuple[float, ...]
) -> tuple[Judgement, Judgement, Array]:
    """(What a complex step says, what differences say, where no difference counts since a kink is too near).

    A complex step says that by hand is wrong unless differences contradict it; differences alone say so only where
    there is no complex step: they may have crossed a kink that nobody saw.
    """
    dtype = along.by_hand.dtype
    count = len(sampled.by_hand)
    each = _LeafSegments(wanted.point * len(leaves) + wanted.leaf, count * len(leaves))  # of each point
    size = _norms([leaf.size for leaf in leaves], sampled.by_hand)
    many = np.asarray([leaf.size > EXHAUSTIVE_UP_TO for leaf in leaves])[wanted.leaf]
    usual = jnp.where(jnp.asarray(many | wanted.random), 0.5 * size[wanted.point, wanted.leaf], 0.0)
    found = jnp.maximum(jnp.abs(along.by_hand), jnp.where(jnp.isfinite(along.exact), jnp.abs(along.exact), 0))
    top = each.largest(jnp.where(jnp.isfinite(found), jnp.maximum(found, usual), 0))[each.of]
    seen = jnp.isfinite(along.error) & jnp.isfinite(along.numerical)
    top_seen = jnp.maximum(top, each.largest(jnp.where(seen, jnp.abs(along.numerical), 0))[each.of])
    rounding = NOISE * along.noise + _size_elsewhere(size)[wanted.point, wanted.leaf]
    eps = float(jnp.finfo(dtype).eps)

    beside = along.kink <= 100 * eps * along.scale  # on which side of it is a matter of rounding
    exact_known = jnp.isfinite(along.exact) & ~beside & (top > TINY[dtype.itemsize])
    exact_limit = limits[1] * top + rounding
    numerical_limit = limits[2] * top_seen + 10 * along.error + rounding
    known = seen & (10 * along.error <= COARSE * top_seen)
    against = known & (jnp.abs(along.exact - along.numerical) > numerical_limit)
    off_exact, off = jnp.abs(along.by_hand - along.exact), jnp.abs(along.by_hand - along.numerical)
    exact_wrong = exact_known & ~against & ~(off_exact <= exact_limit)
    wrong = known & ~exact_known & ~beside & ~(off <= numerical_limit)

    order = np.argsort(wanted.leaf, kind="stable")  # those of a leaf together, whatever the point
    leaf = _LeafSegments(wanted.leaf[order], len(leaves))
    top, top_seen = (jnp.where(v > 0, v, 1.0) for v in (top, top_seen))
    sharp = exact_known & (exact_limit <= COARSE * top)
    complex_step = _judge(leaf, *(v[order] for v in (off_exact / top, sharp, exact_wrong)))
    numerical = _judge(leaf, *(v[order] for v in (off / top_seen, known & (rounding <= COARSE * top_seen), wrong)))
    crossed = ~leaf.any((jnp.isfinite(along.error) & (wanted.point == 0))[order])
    return complex_step, numerical, crossed


def _judge(each: "_LeafSegments", off: Array, counts: Array, wrong: Array) -> Judgement:
    known = each.any(counts | wrong)
    largest = each.largest(jnp.where(counts | wrong, jnp.where(jnp.isnan(off), jnp.inf, off), -jnp.inf))
    return Judgement(jnp.where(known, largest, jnp.nan), each.any(counts), each.any(wrong))


def _norms(sizes: list[int], vectors: Array) -> Array:
    """The length of each leaf at each point."""
    each = _LeafSegments(np.repeat(np.arange(len(sizes)), sizes), len(sizes))

    top = each.largest(jnp.abs(vectors))
    unit = jnp.where((top > 0) & jnp.isfinite(top), top, 1.0)
    return unit * jnp.sqrt(each.total(jnp.square(vectors / unit[..., each.of])))


class _LeafSegments:
    """Reductions of long vectors (the last axis), leaf by leaf."""

    def __init__(self, of: np.ndarray, leaves: int) -> None:
        self.of = np.asarray(of)  # the leaf that each number belongs to, in order
        ends = np.searchsorted(self.of, np.arange(leaves + 1))
        self.spans = [slice(*span) for span in pairwise(ends)]
        longest = int(np.diff(ends).max(initial=0))
        # as rows of one matrix, which is quick to compile; a leaf at a time where that would take too much memory
        self.rows = np.minimum(ends[:-1, None] + np.arange(longest), len(self.of) - 1)
        self.real = np.arange(longest) < np.diff(ends)[:, None]

    def per_leaf(self, values: Array, reduce: Callable[..., Array], none: float) -> Array:
        if self.rows.size <= MATRIX:
            return reduce(jnp.where(self.real, values[..., self.rows], none), axis=-1)
        return jnp.stack([reduce(values[..., span], axis=-1, initial=none) for span in self.spans], -1)

    def largest(self, values: Array) -> Array:
        return self.per_leaf(values, jnp.max, -jnp.inf)

    def least(self, values: Array) -> Array:
        return self.per_leaf(values, jnp.min, jnp.inf)

    def total(self, values: Array) -> Array:
        return self.per_leaf(values, jnp.sum, 0.0)

    def any(self, values: Array) -> Array:
        return self.per_leaf(values, jnp.any, False)

    def first(self, chosen: Array) -> Array:
        """The place in the vector of the first that is chosen of each leaf."""
        places = jnp.where(chosen, jnp.arange(len(self.of), dtype=jnp.int32), len(self.of) - 1)
        return self.per_leaf(places, jnp.min, len(self.of) - 1)

    def normwise(self, difference: Array, value: Array) -> Array:
        """Largest difference over largest value; the difference itself where all values are 0; inf for nan."""
        known = jnp.isfinite(difference) & jnp.isfinite(value)
        top, scale = self.largest(jnp.where(known, jnp.abs(difference), jnp.inf)), self.largest(jnp.abs(value))
        return top / jnp.where(scale > 0, scale, 1.0)
