"""Levenberg-Marquardt: damped Gauss-Newton steps for a cost that is a sum of squares, on the full batch.

Levenberg 1944, Marquardt 1963; the damping by the gain ratio of Nielsen 1999 (IMM-REP-1999-05, Technical University of
Denmark). The scaling stands between Levenberg's, `D = 1`, and that of More 1978, `D_j = l_j` (MINPACK,
doi:10.1007/BFb0067700). Networks go further with the first, and parameters of different units need the second. The
derivatives by the weights of a saturated unit are small, so `l_j` alone lets them run away: Transtrum & Sethna 2012
(arXiv:1201.5885) call it evaporation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.scipy.linalg import cho_solve, solve_triangular

from fnn.arguments import explain_call, scalar, whole_number
from fnn.gradients.jacobians import LeastSquares
from fnn.kernels.matmul import exact_products
from fnn.penalties.step_size import StepSizeState
from fnn.types import Array, OptimizerState, Params, Scalar

GAIN = 1e-4  # the least share of the predicted fall of the cost that a step must bring
NOISE = 256.0  # predicted falls of fewer roundings of the cost cannot be distinguished from rounding
UNDAMPS, UNDAMPED = 1e-4, 1e-12  # so steps become those of Gauss and Newton: the damping falls by this factor, to this
QUIET = 50  # steps within rounding, at most
SHRINKS = 0.9  # there, steps go on while each is shorter than this share of the one before


FEW = 32  # parameters, for which the system is solved by QR; more by Cholesky, which is faster and half as exact
Solve = Callable[[Array], tuple[Array, Array]]  # from a damping to the step δ and |Jδ|²


class LevenbergMarquardtState(NamedTuple):
    """The damping `λ` and its factor `ν`, the scales `D`, steps within rounding (length, count), the end.

    `ended`: whether the run is over.
    """

    damping: Array
    factor: Array
    scales: Array
    last: Array
    quiet: Array
    ended: Array


# states of optimizers whose batch must be all rows, and what these are called
NEED_ALL_ROWS = {
    LevenbergMarquardtState: "levenberg_marquardt",
    StepSizeState: "fista and proximal_l1 without a learning rate",
}


class _Trial(NamedTuple):
    """A step that was tried: the damping for the next one, what the step is, whether it is taken."""

    damping: Array
    factor: Array
    step: Array
    taken: Array
    noise: Array
    tries: Array


@explain_call
def levenberg_marquardt(
    damping: Scalar = 1.0, *, tolerance: Scalar = 1e-12, tries: int = 20
) -> optax.GradientTransformationExtraArgs:
    """Second order for small networks and sums of squares: damped Gauss-Newton steps, on the full batch.

    The cost is `F(θ) = Σ_j ρ_j(θ)²`, weights of rows and an l2 penalty in it. With the Jacobian `J = ∂ρ/∂θ`::

        (JᵀJ + λ D²) δ = -Jᵀρ        D_j = √(l_j l): l_j the length of column j of J, l = √(mean_j l_j²);
                                     the largest so far
        gain = (F(θ) - F(θ + δ)) / (|Jδ|² + 2 λ |Dδ|²)
        gain > 10⁻⁴:  θ <- θ + δ,  λ <- λ max(1/3, 1 - (2 gain - 1)³),  ν <- 2
        else:         λ <- λ ν,    ν <- 2 ν, and the next try

    The system is solved by a QR decomposition of J with √λ D below it; for more than 32 parameters by a Cholesky
    decomposition. One epoch is one step. The Jacobian is that of the layers' hand-derived rules, row by row, for
    networks of `fnn`'s layers without batch norm and noise; of others that of autodiff.

    The run ends (as one out of patience does) when a step is shorter than `tolerance`, or when no try lowers the cost.

    Args:
        damping: `λ` at the beginning, above 0. More makes the first steps shorter.
        tolerance: length of a step, `|Dδ|` over `|Dθ|`, below which the run ends; 0 for steps as long as they help.
        tries: dampings that are tried in a step, at least 1.

    Raises:
        ValueError: the loss is no sum of squares, the penalty is not l2, or a batch is not all rows; when it is traced.
        MemoryError: by `fit` and the others: the Jacobian does not fit the memory.

    >>> import fnn, numpy as np
    >>> x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> net = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(1))
    >>> optimizer = fnn.optimizers.levenberg_marquardt()
    >>> run = fnn.fit(net, fnn.losses.squared_error, optimizer, (x, np.sin(3 * x)), epochs=50)
    >>> print(bool(run.history.loss[-1] < 1e-4))
    True
    """
    first = scalar("levenberg_marquardt", "a damping", damping, "Write damping=1.0", positive=True)
    least = scalar("levenberg_marquardt", "a tolerance", tolerance, "Write tolerance=0")
    tries = whole_number("tries", tries, 1)

    def init(params: Params) -> LevenbergMarquardtState:
        leaves = jax.tree.leaves(params)
        dtype = jnp.result_type(*leaves) if leaves else jnp.result_type(float)
        scales = jnp.zeros(sum(a.size for a in leaves), dtype)
        start, two, last = (jnp.asarray(value, dtype) for value in (first, 2.0, jnp.inf))
        return LevenbergMarquardtState(start, two, scales, last, jnp.int32(0), jnp.asarray(False))

    def update(
        grads: Params,
        state: LevenbergMarquardtState,
        params: Params = None,
        *,
        least_squares: Callable[[], LeastSquares],
        **others: Any,
    ) -> tuple[Params, LevenbergMarquardtState]:
        with exact_products():
            problem = least_squares()
            theta = problem.flat.astype(state.scales.dtype)
            solve, scales = _system(problem, theta, state.scales)
            trial = _try_dampings(problem, theta, solve, scales, state, tries)
        length, size = jnp.linalg.norm(scales * trial.step), jnp.linalg.norm(scales * theta)
        shrinks = ~trial.noise | (length < SHRINKS * state.last)
        taken = trial.taken & shrinks
        step = jnp.where(taken, trial.step, 0)
        quiet = state.quiet + trial.noise
        ended = ~taken | (length <= jnp.asarray(least, length.dtype) * size) | (quiet >= QUIET)
        last = jnp.where(trial.noise & (state.damping < UNDAMPED), length, jnp.inf)
        after = LevenbergMarquardtState(trial.damping, trial.factor, scales, last, quiet, ended)
        return problem.unravel(step.astype(problem.flat.dtype)), after

    return optax.GradientTransformationExtraArgs(init, update)


def full_batch_name(state: OptimizerState) -> str | None:
    """The name of an optimizer that needs all rows in one batch, by its state, alone or within others; None: none does.

    >>> import fnn, jax.numpy as jnp, optax
    >>> from fnn.optimizers.second_order import full_batch_name
    >>> chain = optax.chain(optax.clip(1.0), fnn.optimizers.levenberg_marquardt())
    >>> full_batch_name(chain.init({"w": jnp.ones(2)})), full_batch_name(optax.adam(0.1).init({"w": jnp.ones(2)}))
    ('levenberg_marquardt', None)
    """

    def is_ours(node: Any) -> bool:
        return isinstance(node, tuple(NEED_ALL_ROWS))

    found = [node for node in jax.tree.leaves(state, is_leaf=is_ours) if is_ours(node)]
    return NEED_ALL_ROWS[type(found[0])] if found else None


# ---- one step


def _system(problem: LeastSquares, theta: Array, before: Array) -> tuple[Solve, Array]:
    """What solves the damped system, the penalty's rows among those of J; and the scales."""
    jacobian, residuals = problem.jacobian(theta), problem.residuals(theta)
    if problem.ridge is not None:
        roots = jnp.sqrt(problem.ridge)
        jacobian = jnp.concatenate([jacobian, jnp.diag(roots)])
        residuals = jnp.concatenate([residuals, roots * theta])
    lengths = jnp.linalg.norm(jacobian, axis=0)
    scales = jnp.maximum(before, jnp.sqrt(lengths * jnp.sqrt(jnp.square(lengths).mean())))
    scales = jnp.where(scales > 0, scales, 1)
    make = _by_qr if theta.size <= FEW else _by_cholesky
    return make(jacobian, residuals, scales), scales


def _by_qr(jacobian: Array, residuals: Array, scales: Array) -> Solve:
    """By a QR decomposition of `[J ρ]`, then of its triangle with `√λ D` below it: exact to the rounding of J."""
    size = scales.size
    system = jnp.linalg.qr(jnp.concatenate([jacobian, residuals[:, None]], 1), mode="r")

    def solve(damping: Array) -> tuple[Array, Array]:
        lower = jnp.diag(jnp.sqrt(damping) * scales)
        triangle = jnp.linalg.qr(jnp.concatenate([system, jnp.pad(lower, ((0, 0), (0, 1)))]), mode="r")
        step = -solve_triangular(triangle[:size, :size], triangle[:size, size])
        return step, jnp.square(system[:, :size] @ step).sum()

    return solve


def _by_cholesky(jacobian: Array, residuals: Array, scales: Array) -> Solve:
    """By a Cholesky decomposition of `JᵀJ + λ D²`, scaled; where it fails the step is nan, and a larger λ is tried."""
    scaled = jacobian / scales
    square, slope = scaled.T @ scaled, scaled.T @ residuals

    def solve(damping: Array) -> tuple[Array, Array]:
        factor = jnp.linalg.cholesky(square + damping * jnp.eye(scales.size, dtype=square.dtype))
        step = -cho_solve((factor, True), slope)
        return step / scales, step @ (square @ step)

    return solve


def _try_dampings(
    problem: LeastSquares, theta: Array, solve: Solve, scales: Array, state: LevenbergMarquardtState, tries: int
) -> _Trial:
    """The first step that lowers the cost enough, for larger and larger dampings."""
    cost = _cost(problem, theta)
    rounding = NOISE * jnp.finfo(cost.dtype).eps * cost

    def more(trial: _Trial) -> Array:
        return ~trial.taken & (trial.tries < tries)

    def try_one(trial: _Trial) -> _Trial:
        step, predicted = solve(trial.damping)
        predicted += 2.0 * trial.damping * jnp.square(scales * step).sum()
        after = _cost(problem, theta + step)
        gain = (cost - after) / jnp.where(predicted > 0, predicted, 1)
        finite = jnp.isfinite(after) & jnp.isfinite(step).all()
        noise = predicted <= rounding
        taken = finite & jnp.where(noise, after <= cost + rounding, gain > GAIN)
        factor = jnp.where(noise, UNDAMPS, jnp.maximum(1.0 / 3.0, 1.0 - (2.0 * gain - 1.0) ** 3))
        damping = trial.damping * jnp.where(taken, factor, trial.factor)
        tiny = jnp.finfo(damping.dtype).tiny
        return _Trial(
            jnp.clip(damping, tiny / jnp.finfo(damping.dtype).eps, jnp.finfo(damping.dtype).max / 4),
            jnp.where(taken, 2.0, 2.0 * trial.factor).astype(trial.factor.dtype),
            step,
            taken,
            noise,
            trial.tries + 1,
        )

    none = jnp.asarray(False)
    start = _Trial(state.damping, state.factor, jnp.zeros_like(theta), none, none, jnp.int32(0))
    return lax.while_loop(more, try_one, start)


def _cost(problem: LeastSquares, theta: Array) -> Array:
    cost = jnp.square(problem.residuals(theta)).sum()
    return cost if problem.ridge is None else cost + (problem.ridge * jnp.square(theta)).sum()
