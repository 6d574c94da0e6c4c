"""Metrics of numbers: root mean squared error, coefficient of determination."""

from typing import Any

import jax.numpy as jnp

from fnn.factories import factory
from fnn.inference.metrics.inputs import columns
from fnn.losses.aggregation import SumMetric, weigh
from fnn.types import Array

Moments = dict[str, Any]  # arrays of JAX, or of NumPy where an evaluation adds them up


@factory
def rmse() -> SumMetric:
    """Root mean squared error, `sqrt(Σ_i w_i (y_i - t_i)² / Σ_i w_i)`; of several columns the mean of theirs.

    Outputs and targets have one shape, `(batch, …)`.

    >>> import fnn
    >>> print(fnn.metrics.rmse()([[1.0], [5.0]], [[1.0], [3.0]]).round(4))
    1.4142
    """

    def sums(outputs: Array, targets: Array, weight: Array) -> dict[str, Array]:
        y, t = columns("rmse", outputs, targets)
        return {"error": weigh((y - t) ** 2, weight), "weight": weight.sum()}

    def figure(total: dict[str, Array]) -> Array:
        return jnp.sqrt(total["error"] / total["weight"]).mean()

    return SumMetric(None, sums, figure, "min")


@factory
def r2() -> SumMetric:
    """Coefficient of determination, `1 - Σ_i w_i (y_i - t_i)² / Σ_i w_i (t_i - mean)²`; of several columns their mean.

    Outputs and targets have one shape, `(batch, …)`. Where the targets of a column are all the same, also where there
    is one row, it is 1 if the outputs equal them, else 0. The sum in the denominator is collected around the mean
    (Chan, Golub & LeVeque 1983), so targets far from 0 lose no digits.

    >>> import fnn
    >>> print(fnn.metrics.r2()([[1.0], [2.0], [4.0]], [[1.0], [2.0], [3.0]]))
    0.5
    """

    def sums(outputs: Array, targets: Array, weight: Array) -> Moments:
        y, t = columns("r2", outputs, targets)
        total = weight.sum()
        share = jnp.where(weight > 0, weight, 0.0) / jnp.where(total > 0, total, 1.0)
        center = jnp.where(total > 0, t[jnp.argmax(weight > 0)], 0.0)  # a row that counts
        mean = weigh(t - center[None], share)
        spread = weigh((t - center[None] - mean[None]) ** 2, weight)
        begun = {"weight": total, "mean": mean, "spread": spread, "error": weigh((y - t) ** 2, weight)}
        return begun | {f"lost_{name}": jnp.zeros_like(value) for name, value in begun.items()} | {"center": center}

    def figure(total: Moments) -> Array:
        spread, error = total["spread"], total["error"]
        constant = jnp.where(error == 0, 1.0, 0.0 * error)
        return jnp.where(spread == 0, constant, 1.0 - error / jnp.where(spread == 0, 1.0, spread)).mean()

    return SumMetric(None, sums, figure, "max", merge=_merge_moments)


def _merge_moments(total: Moments, more: Moments) -> Moments:
    """Those of all rows, from those of two parts: `δ = mean_2 - mean_1`, `mean = mean_1 + δ w_2/w`,
    `spread = spread_1 + spread_2 + δ² w_1 w_2/w`. Means are kept as distances from a row's target, the center.

    Each is added as `y = more + lost`, so that the rounding of many parts does not add up.
    """
    weight = total["weight"] + more["weight"]
    none, first = ((w == 0).astype(w.dtype) for w in (weight, total["weight"]))
    share = more["weight"] / (weight + none)
    center = total["center"] + (more["center"] - total["center"]) * first
    between = (more["center"] - center) + ((more["mean"] - total["mean"]) - total["lost_mean"])
    parts = {
        "weight": more["weight"],
        "mean": between * share,
        "spread": more["spread"] + between * between * (total["weight"] * share),
        "error": more["error"],
    }
    made: Moments = {"center": center}
    for name, part in parts.items():
        y = part + total[f"lost_{name}"]
        made[name] = total[name] + y
        made[f"lost_{name}"] = y - (made[name] - total[name])
    return made
