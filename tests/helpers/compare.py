"""How the tests compare numbers, and what they ask of a message."""

import re
from decimal import Decimal
from typing import Any

import jax
import numpy as np


def close(got: Any, expected: Any, rtol: float = 1e-12, atol: float = 1e-300) -> None:
    """Every element within `rtol` of its own size."""
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=atol)


def printed(got: Any, published: str) -> None:
    """Float32 numbers within 2e-7 relative of the published ones, or one unit of their last printed digit."""
    got = np.asarray(got)
    assert got.dtype == np.float32
    for number, text in zip(got.ravel(), published.split(), strict=True):
        unit = 10.0 ** Decimal(text).as_tuple().exponent if "." in text else 0.0
        assert number == float(text) or abs(number - float(text)) <= max(2e-7 * abs(float(text)), unit), (
            number,
            text,
        )


def normwise(got: Any, expected: Any) -> float:
    """Largest difference over largest value, the worst leaf of a pytree."""

    def leaf(a: Any, b: Any) -> float:
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
        return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), np.finfo(np.float64).tiny))

    return max(jax.tree.leaves(jax.tree.map(leaf, got, expected)), default=0.0)


def has_hint(message: str) -> bool:
    """Whether a sentence that says what to do follows what an error got: "x: expected 1, got 2. Pass 1." """
    return re.search(r" got .*[.?)\n] ?[A-Z][a-z]+:? \S", message, re.DOTALL) is not None
