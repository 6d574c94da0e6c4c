"""What is recorded of a part: its function, its rule by hand, a reference, where to look, how it could be wrong."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Tree = Any


class Point(NamedTuple):
    """Where a part is looked at: what it is differentiated by, and what else it is given (targets, mask, key)."""

    at: dict[str, Tree]
    given: dict[str, Tree]


class Kink(NamedTuple):
    """A place where the derivatives of two pieces meet, and which of them is taken; `docs/kinks.md` has them all.

    The derivative there is that of the piece which `toward` leads into; None: the mean of what lies on either side.
    """

    where: str
    taken: str
    point: Point
    toward: dict[str, Tree] | None
    step: float = 1e-3  # of the differences there


class Part(NamedTuple):
    """One record. Functions of `(at, given)`; the rule by hand also of `dy`, the derivative by the outputs."""

    kind: str
    name: str  # the public name that it proves
    title: str  # how it was made
    forward: Callable[[Tree, Tree], Any]
    rule: Callable[[Tree, Tree, Any], Tree]  # by hand, `dy` to a tree like `at`
    reference: Callable[[Tree, Tree], Any]  # the textbook's formula, which shares no code with the rule
    regimes: Mapping[str, Callable[[], Point]]
    mistakes: Mapping[str, Callable[[Tree, Tree, Any], Tree]] = {}  # rules with an error of their own kind
    kinks: tuple[Kink, ...] = ()
    of_the_value: bool = True  # whether the rule is the derivative of the value as it stands, nothing held constant
