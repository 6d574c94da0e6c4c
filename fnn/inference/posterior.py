"""Laplace's approximation: a Gaussian around a network's parameters, and what it says of outputs and of the penalty."""

import contextlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular

from fnn import arguments
from fnn.arguments.constants import memoise_constants
from fnn.data import checks
from fnn.data.loading import load_arrays
from fnn.devices.memory import free_bytes
from fnn.gradients.jacobians import output_jacobian, ridge_of
from fnn.inference.prediction import Trained, checked_run
from fnn.layers.embedding import check_categories
from fnn.losses import as_loss
from fnn.losses.reduction import row_values
from fnn.types import Array, ArrayLike, KeyLike, Layer, Loss, LossLike, Params, Part, Penalty, State

ROWS = 256  # whose Jacobian is there at a time
FLAT = 1e-7  # share of a parameter's precision below which the others determine nothing of it
FACTORS = 3  # matrices of parameters by parameters that are there at a time


class Laplace(NamedTuple):
    """A Gaussian around the parameters of a run: what `fnn.laplace` returns.

    - `theta`: its mean, all parameters in one vector (`jax.flatten_util.ravel_pytree(run.params)`).
    - `factor`: `L`, lower, with `L Lᵀ = P`, the inverse of the covariance.
    - `noise`: standard deviation of the targets around the outputs; None for classes.
    - `log_evidence`: logarithm of the probability (density) of the targets, the parameters integrated out.
    """

    net: Layer
    params: Params
    state: State
    theta: Array
    factor: Array
    noise: float | None
    log_evidence: float
    loss: Loss

    def covariance(self) -> Array:
        """`P⁻¹`, parameters by parameters."""
        inverse = solve_triangular(self.factor, jnp.eye(self.theta.size, dtype=self.theta.dtype), lower=True)
        made: Array = inverse.T @ inverse
        return made

    def predict(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Outputs, and their standard deviations: `√(diag(J P⁻¹ Jᵀ))` with `J` the derivative of an example's outputs.

        The deviations are those of the network's outputs. Targets deviate by `√(deviation² + noise²)`.
        """
        pieces = self._in_pieces(x, _output_program(self.net))
        means, deviations = (np.concatenate([piece[i] for piece in pieces]) for i in (0, 1))
        return means, deviations

    def probabilities(self, x: ArrayLike, samples: int = 1_000, key: KeyLike = 0) -> np.ndarray:
        """Probabilities of the classes with the uncertainty of the parameters in them.

        They are means, over parameters drawn from the Gaussian, of softmax where the loss has one distribution per row,
        of sigmoid where it has one probability per output; the logits as their linearisation at the mean has them
        (Immer, Korzepa & Bauer 2021, arXiv:2008.08400).

        Args:
            x: inputs.
            samples: how many parameters are drawn; the error of a probability is at most `1/(2 √samples)`.
            key: of the draws, which are the same for all rows.

        Raises:
            ValueError: the loss is not one of logits.
        """
        if self.loss.outputs != "logits":
            hint = "Call predict, or train with a loss of logits."
            raise ValueError(f"probabilities: expected a loss of logits, got {self.loss}. {hint}")
        count = arguments.whole_number("samples", samples, 1)
        draws = jax.random.normal(arguments.key(key), (self.theta.size, count), self.theta.dtype)
        program = _probability_program(self.net, self.loss.targets == "binary")
        return np.concatenate(self._in_pieces(x, lambda *given: program(*given, draws)))

    def _in_pieces(self, x: ArrayLike, program: Any) -> list[Any]:
        """What a program gives for some rows at a time, on the host."""
        dtype, cut = self.theta.dtype, checks.LostDigits()
        given = checks.inputs("x", x, dtype, cut)
        cut.warn(dtype)
        pieces = []
        for i in range(0, len(given), ROWS):
            rows = jnp.asarray(given[i : i + ROWS], dtype)
            pieces.append(jax.tree.map(np.asarray, program(self.params, self.state, self.factor, rows)))
        return pieces

    def __repr__(self) -> str:
        noise = "" if self.noise is None else f", noise {self.noise:.4g}"
        return f"laplace of {self.net}: parameters {self.theta.size:,}{noise}, log evidence {self.log_evidence:.6g}"


@arguments.explain_call
def laplace(
    net: Layer,
    run: Trained,
    data: Any,
    loss: LossLike,
    *,
    penalty: Penalty | None = None,
    noise: float | None = None,
    reduction: str = "mean",
) -> Laplace:
    """A Gaussian around the parameters of a run: predictions with standard deviations, and evidence to choose l2 by.

    The cost that `fit` makes small, times the sum of the weights W (with `reduction="sum"` as it is), is a negative
    log posterior `β Σ_i w_i loss_i + β W penalty`. Its curvature at the parameters (generalised Gauss-Newton), with
    `J_i` the derivative of row i's outputs::

        P = β (Σ_i w_i J_iᵀ (∂² loss_i/∂y²) J_i + W ∂² penalty/∂θ²)         posterior N(θ, P⁻¹)
        log evidence = -β Σ_i w_i loss_i - log Z + log prior(θ) + (d/2) log 2π - ½ log det P

    For cross-entropies β = 1 and Z = 1. For sums of squares `c Σ_k (y_k - t_k)²` the targets have a normal
    distribution of standard deviation σ around the outputs: `β = 1/(2 c σ²)`, `Z` its normalisation. The prior is
    that of the penalty; parameters that it leaves out (biases) have a flat prior of density 1, which is the same for
    all l2, so that evidence can be compared. MacKay 1992, doi:10.1162/neco.1992.4.3.448.

    Args:
        net, run: the network, and what `fit` returned; trained until the cost does not fall any more.
        data: `(x, t)` or `(x, t, weights)`, what it was trained on.
        loss, penalty, reduction: those of `fit`; the loss a sum of squares or a cross-entropy, the penalty l2.
        noise: σ, above 0; None: the root of the mean squared residual, of an output each. For sums of squares alone.

    Raises:
        ValueError, TypeError: the loss or the penalty are of another kind; the data are not usable; no curvature in a
            direction (more parameters than the data determine, and no penalty).
        MemoryError: the matrix of parameters by parameters does not fit.

    >>> import fnn, numpy as np
    >>> x = np.linspace(-1, 1, 40, dtype="float32")[:, None]
    >>> t = 2 * x + 0.1 * np.random.default_rng(0).normal(size=x.shape).astype("float32")
    >>> net, loss = fnn.serial(fnn.dense(1)), fnn.losses.squared_error
    >>> run = fnn.fit(net, loss, fnn.optimizers.levenberg_marquardt(), (x, t), epochs=20)
    >>> around = fnn.laplace(net, run, (x, t), loss)
    >>> mean, deviation = around.predict([[0.0], [3.0]])
    >>> print(round(around.noise, 1), (deviation[1] > 3 * deviation[0]).item())
    0.1 True
    """
    found, loss = checked_run(net, run), as_loss(loss)
    if penalty is not None:
        arguments.instance("penalty", penalty, Penalty, "Pass fnn.penalties.l2(0.1), say, or None.")
    given = data if isinstance(data, (tuple, list)) else (data,)
    weights = given[2] if len(given) == 3 else None
    part = load_arrays(tuple(given[:2]), None, weights, arguments.key(0), found.params, reduction)[0].train
    check_categories(net, "data[0]", part.x)
    theta, _ = ravel_pytree(found.params)
    _check_memory(theta.size, np.dtype(np.float64))
    reduction = arguments.one_of("reduction", reduction, ("mean", "sum"))
    curvature, total, weight, outputs = _sums(net, loss, found.params, found.state, part)
    squares = _scale_of_squares(loss, outputs)
    sigma = _noise(noise, squares, total, weight * outputs)
    beta = 1.0 if squares is None or sigma is None else 1.0 / (2.0 * squares * sigma**2)
    ridge = ridge_of(penalty, found.params, theta.dtype)
    prior = np.zeros(theta.size) if ridge is None else np.asarray(ridge, float) * 2.0 * beta
    prior = prior * (weight if reduction == "mean" else 1.0)
    factor = _factor(beta * curvature + np.diag(prior))
    normal = 0.0 if sigma is None else 0.5 * weight * outputs * math.log(2.0 * math.pi * sigma**2)
    has, at = prior > 0, np.asarray(theta, float)
    log_prior = 0.5 * (np.log(prior[has] / (2.0 * math.pi)) - prior[has] * at[has] ** 2).sum()
    half_determinant = float(np.log(np.diag(factor)).sum())
    evidence = -beta * total - normal + log_prior + 0.5 * theta.size * math.log(2.0 * math.pi) - half_determinant
    lower = jnp.asarray(factor.astype(theta.dtype))
    return Laplace(net, found.params, found.state, theta, lower, sigma, float(evidence), loss)


def _factor(precision: np.ndarray) -> np.ndarray:
    """`L`, lower, with `L Lᵀ` the precision."""
    with contextlib.suppress(np.linalg.LinAlgError):
        factor: np.ndarray = np.linalg.cholesky(precision)
        if (np.diag(factor) > FLAT * np.sqrt(np.diag(precision))).all():
            return factor
    raise ValueError(
        "laplace: expected curvature in every direction, got none in some: the data do not determine all parameters. "
        "Train with penalty=fnn.penalties.l2(…, mask=lambda params: jax.tree.map(lambda a: True, params)), and pass "
        "the same here."
    )


def _sums(net: Layer, loss: Loss, params: Params, state: State, part: Part) -> tuple[np.ndarray, float, float, int]:
    """`Σ w Jᵀ (∂² loss/∂y²) J`, `Σ w loss`, `Σ w`, and how many outputs an example has.

    Added up in float64 on the host: sums in float32 can have negative curvature where there is little.
    """
    if loss.residuals is None and loss.outputs is None:
        hint = "Pass squared_error, or a cross-entropy."
        raise ValueError(f"loss: expected a sum of squares or a cross-entropy, got {loss}. {hint}")

    @jax.jit
    def of_rows(x: Array, t: Array, w: Array) -> tuple[Array, Array, Array]:
        y, jacobian = output_jacobian(net, params, state, x)
        flat = y.reshape(len(x), -1)

        def slope(row: Array, target: Array) -> Array:
            made: Array = loss.grad(row.reshape(1, *y.shape[1:]), target[None]).reshape(-1)
            return made

        inner = jax.vmap(jax.jacfwd(slope))(flat, t)
        return jacobian, inner, jnp.where(w > 0, row_values("loss", loss.value, y, t), 0.0)

    dtype = ravel_pytree(params)[0].dtype
    weight = jnp.ones(len(part.x), dtype) if part.weight is None else part.weight.astype(dtype)
    size = ravel_pytree(params)[0].size
    curvature, total = np.zeros((size, size)), 0.0
    for i in range(0, len(part.x), ROWS):
        rows = slice(i, i + ROWS)
        made = of_rows(part.x[rows], part.t[rows], weight[rows])
        jacobian, inner, values = (np.asarray(a, np.float64) for a in made)
        w = np.asarray(weight[rows], np.float64)
        weighted = np.matmul(inner * w[:, None, None], jacobian).reshape(-1, size)
        curvature, total = curvature + jacobian.reshape(-1, size).T @ weighted, total + float(values @ w)
    one = jax.ShapeDtypeStruct((1, *part.x.shape[1:]), part.x.dtype)
    outputs = jax.eval_shape(lambda x: net.forward(params, state, x, None, False)[0], one).size
    return curvature, total, float(weight.sum()), outputs


def _scale_of_squares(loss: Loss, outputs: int) -> float | None:
    """`c` of a loss that is `c Σ_k (y_k - t_k)²`; None for others."""
    if loss.residuals is None:
        return None
    ones, zeros = jnp.ones((1, outputs)), jnp.zeros((1, outputs))
    return float(jnp.square(loss.residuals(ones, zeros))[0, 0])


def _noise(noise: float | None, squares: float | None, total: float, numbers: float) -> float | None:
    if squares is None:
        if noise is not None:
            raise ValueError(
                f"noise: expected None for classes, got {arguments.describe_thing(noise)}. Leave noise out."
            )
        return None
    if noise is None:
        estimate = math.sqrt(total / squares / numbers)
        if estimate == 0:
            raise ValueError("noise: expected residuals that are not all 0, got exact outputs. Pass noise=0.1.")
        return estimate
    return float(arguments.scalar("laplace", "a noise", noise, "Pass its standard deviation", positive=True))


def _check_memory(count: int, dtype: Any) -> None:
    size, free = FACTORS * count * count * np.dtype(dtype).itemsize, free_bytes()
    if free is not None and size > free:
        raise MemoryError(
            f"laplace: expected room for {count:,} x {count:,} numbers, about {size / 1e9:.3g} GB, "
            f"got {free / 1e9:.3g} GB. Use a smaller network, or fnn.ensemble."
        )


def _half(net: Layer, params: Params, state: State, factor: Array, x: Array) -> tuple[Array, Array]:
    """Outputs, and `H = L⁻¹ Jᵀ`, parameters by outputs, of which `HᵀH` is their covariance."""
    y, jacobian = output_jacobian(net, params, state, x)
    return y, solve_triangular(factor, jacobian.reshape(-1, jacobian.shape[-1]).T, lower=True)


@memoise_constants
def _output_program(net: Layer) -> Any:
    @jax.jit
    def outputs(params: Params, state: State, factor: Array, x: Array) -> tuple[Array, Array]:
        y, half = _half(net, params, state, factor, x)
        return y, jnp.sqrt(jnp.square(half).sum(0)).reshape(y.shape)

    return outputs


@memoise_constants
def _probability_program(net: Layer, binary: bool) -> Any:
    @jax.jit
    def probabilities(params: Params, state: State, factor: Array, x: Array, draws: Array) -> Array:
        y, half = _half(net, params, state, factor, x)
        logits = y[..., None] + (half.T @ draws).reshape(*y.shape, -1)
        squashed = jax.nn.sigmoid(logits) if binary else jax.nn.softmax(logits, axis=-2)
        made: Array = squashed.mean(-1)
        return made

    return probabilities
