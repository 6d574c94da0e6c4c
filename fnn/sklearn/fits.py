"""Fits that a study has done, which estimators take in place of training."""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from fnn.runs import Run
from fnn.sklearn.plans import Plan


class Fitted(NamedTuple):
    """A fit that a study has done."""

    parameters: Mapping[str, Any]  # of the estimator
    plan: Plan
    run: Run

    def is_of(self, attributes: Mapping[str, Any], x: object, y: object, sample_weight: object) -> bool:
        """Whether it is the fit of an estimator with these attributes to these rows, seen without planning it."""
        rows = self.plan.rows
        return (
            sample_weight is None
            and _equal_arrays(x, rows.x)
            and _equal_arrays(y, rows.y)
            and all(_surely_equal(value, attributes.get(name)) for name, value in self.parameters.items())
        )

    def fits_plan(self, plan: Plan) -> bool:
        """Whether it may stand for a fit of this plan."""
        return (self.plan.settings, len(self.plan.rows.y)) == (plan.settings, len(plan.rows.y))


def _equal_arrays(passed: object, planned: np.ndarray) -> bool:
    same = type(passed) is np.ndarray and passed.dtype == planned.dtype
    return same and np.array_equal(passed, planned)  # type: ignore[arg-type]


def _surely_equal(one: object, other: object) -> bool:
    """Whether two parameters are equal; False where a comparison may not tell."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_surely_equal, one, other))
    return one is other or (type(one) is type(other) and isinstance(one, (bool, int, float, str)) and one == other)


# in the order in which they are asked for
_fits: ContextVar[Iterator[Fitted | None] | None] = ContextVar("fits", default=None)


@contextlib.contextmanager
def use_fits(fits: Iterator[Fitted | None]) -> Iterator[None]:
    """Let estimators that are fitted in this block take these fits, one after another, in place of training."""
    token = _fits.set(fits)
    try:
        yield
    finally:
        _fits.reset(token)


def next_fit() -> Fitted | None:
    """The fit that a study has done for the estimator that is fitted now, if it has."""
    fits = _fits.get()
    return None if fits is None else next(fits, None)
