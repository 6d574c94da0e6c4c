"""What a check of derivatives found: the figures of each leaf, a verdict in words, and the table of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.runs import markup
from fnn.types import Array

HEAD = "leaf", "shape", "autodiff", "complex step", "differences", "nearest kink", "verdict"


class LeafCheck(NamedTuple):
    """How far four derivatives of one leaf disagree: largest difference over largest value, the worst of all points.

    nan for a way that cannot judge the leaf.
    """

    leaf: str
    shape: tuple[int, ...]
    autodiff: float  # by hand against autodiff
    complex_step: float  # by hand against a complex step; nan where the function has no complex form
    numerical: float  # by hand against differences; nan where every step crosses a kink, or rounding is all they see
    kink: float  # how far away the nearest kink is, in units of the leaf; inf: nowhere; nan: nobody knows
    worst: tuple[int, ...]  # where by hand and autodiff are furthest apart
    by_hand: float  # the derivative there, by hand
    by_autodiff: float
    factor: float  # by hand is best described as so many times autodiff
    remainder: float  # and this far from it then
    rounding: float  # what rounding alone does to the leaf, over its largest value
    vanishes: bool  # all of it is rounding, at every point
    crossed: bool  # the differences do not count at the given point, since every step crosses a kink
    judged: bool  # at least one of the three could tell right from wrong
    ok: bool  # none of the three says that it is wrong
    has_rules: bool = True  # by hand; without them autodiff stands in their place

    @property
    def verdict(self) -> str:
        """The matter in words.

        - "right": by hand agrees with each of the three that can judge.
        - "right: no rules by hand": the network has none; autodiff agrees with each of the two that can judge.
        - "0 to rounding": the derivative vanishes, and all that is computed of it is rounding.
        - "too coarse to tell": rounding is more than a tenth of the derivative.
        - "not judged: not finite": there are no numbers to compare.
        - "WRONG: …": one of the three says so beyond what rounding explains, and the others do not contradict it.
        """
        if self.ok and self.vanishes:
            return "0 to rounding"
        if self.ok and self.judged:
            return "right" if self.has_rules else "right: no rules by hand"
        if self.ok:
            finite = np.isfinite(self.by_hand) and np.isfinite(self.by_autodiff)
            return "too coarse to tell" if finite else "not judged: not finite"
        if not self.has_rules:
            return "WRONG: there are no rules by hand, and the function itself says otherwise than autodiff"
        if np.isfinite(self.by_hand) and not self.autodiff > 1e-3 * np.nanmax([0, self.complex_step, self.numerical]):
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

    `ok` says that nothing is WRONG (one answer per member under `vmap`); `leaves` has the figures, leaf by leaf.
    """

    figures: dict[str, Any]  # name -> one number per leaf on the last axis
    names: tuple[tuple[str, tuple[int, ...]], ...]  # of the leaves, with their shapes
    points: int = 1  # how many the derivatives were compared at
    by_hand: bool = True  # whether the network has rules by hand; else autodiff stands in their place

    @property
    def ok(self) -> bool | Array:
        """Whether no leaf is WRONG. A leaf that nothing can judge is not; the last line of the table names it."""
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
            check = LeafCheck(leaf, shape, **row, has_rules=self.by_hand)
            checks.append(check if self.by_hand else _without_rules(check))
        return tuple(checks)

    def __str__(self) -> str:
        leaves = self.leaves
        rows = HEAD, *map(_cells, leaves)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in rows]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, _summary(leaves, self.points)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        leaves = self.leaves
        return markup.table(map(_cells, leaves), HEAD, _summary(leaves, self.points))


jax.tree_util.register_dataclass(GradientCheck, data_fields=["figures"], meta_fields=["names", "points", "by_hand"])


def _without_rules(check: LeafCheck) -> LeafCheck:
    """The figures where autodiff stood in the place of rules by hand: that it agrees with itself says nothing."""
    judged = not (np.isnan(check.complex_step) and np.isnan(check.numerical))
    return check._replace(autodiff=float("nan"), judged=judged)


def _cells(leaf: LeafCheck) -> list[str]:
    """A line of the table."""
    return [leaf.leaf, str(leaf.shape), *_figures(leaf), leaf.verdict]


def _figures(leaf: LeafCheck) -> list[str]:
    numerical = "kink" if leaf.crossed and np.isnan(leaf.numerical) else _small(leaf.numerical)
    return [_small(leaf.autodiff), _small(leaf.complex_step), numerical, _small(leaf.kink)]


def _small(value: float) -> str:
    return "-" if np.isnan(value) else "none" if np.isinf(value) and value > 0 else f"{value:.1e}"


def _summary(leaves: tuple[LeafCheck, ...], points: int) -> str:
    """What was judged, by what, and what was not."""
    wrong = sum(not c.ok for c in leaves)
    judges = {
        "autodiff": sum(not np.isnan(c.autodiff) for c in leaves),
        "a complex step": sum(not np.isnan(c.complex_step) for c in leaves),
        "differences": sum(not np.isnan(c.numerical) for c in leaves),
    }
    near = f" and at {points - 1} near it" if points > 1 else ""
    said = f"{wrong or 'none'} of {len(leaves)} WRONG; judged by " + ", ".join(f"{k} {n}" for k, n in judges.items())
    silent = [f"{c.leaf} ({c.verdict})" for c in leaves if not c.judged and c.ok and not c.vanishes]
    kinks = sum(c.crossed for c in leaves)
    by_kinks = f" ({kinks} too near a kink at the given point)" if kinks else ""
    by_kinks += "" if all(c.has_rules for c in leaves) else "; no rules by hand, autodiff was judged"
    return f"{said}{by_kinks}; at the given point{near}. Not judged: {', '.join(silent) or 'none'}."
