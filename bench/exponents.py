"""How a cost grows with a size: the exponent of the power law that fits best."""

from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """`e` of `cost = c size^e`, by least squares of the logarithms.

    Raises:
        ValueError: fewer than two sizes, or numbers that are not above 0.

    >>> round(exponent([1, 10, 100], [3.0, 30.0, 300.0]), 6)
    1.0
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError(
            f"exponent: expected as many costs as sizes, two at least, all above 0, "
            f"got {list(sizes)} and {list(costs)}. Measure at more sizes."
        )
    return float(np.polynomial.polynomial.polyfit(np.log(sizes), np.log(costs), 1)[1])
