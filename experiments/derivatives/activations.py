"""Activations: each against its textbook formula in 60-digit decimals, and against the same in JAX."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from scipy import special

import fnn
from experiments.derivatives import regimes
from experiments.derivatives.record import Kink, Part, Point

# ---- special values: x -> y and x -> y' of one number; at the kink the derivative is that of the left side

POINTS = [0.0] + [s * x for x in (1e-8, 1e-3, 0.5, 1.0, 1.5, 5.0, 20.0, 50.0, 1000.0) for s in (-1.0, 1.0)]


class ActivationCase(NamedTuple):
    """An activation, its formula, where it is looked at and how it could be wrong."""

    name: str  # the public name it covers
    activation: Any
    value: Callable[[float], float]
    derivative: Callable[[float], float]
    at_infinity: tuple[float, float] | None  # values at -inf and inf, where the formula has them


def decimal(formula: Callable[[Decimal], Decimal]) -> Callable[[float], float]:
    """The formula in 60-digit decimals, rounded once."""

    def rounded(x: float) -> float:
        with localcontext(prec=60):
            return float(formula(Decimal(x)))

    return rounded


def _pieces(left: Callable[[Decimal], Any], right: Callable[[Decimal], Any]) -> Callable[[float], float]:
    return decimal(lambda x: Decimal(right(x) if x > 0 else left(x)))


def _logistic(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _normal(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


# selu's constants from the equations that define them: mean 0 and variance 1 are a fixed point
_A, _B = math.erfc(math.sqrt(0.5)) * math.exp(0.5), math.erfc(math.sqrt(2)) * math.exp(2)
SELU_ALPHA = Decimal(math.sqrt(2 / math.pi) / (1 - _A))
SELU_SCALE = Decimal(
    (1 - _A) * math.sqrt(2 * math.pi / (2 * _B + math.pi * _A**2 - 2 * (2 + math.pi) * _A + math.pi + 2))
)

INF = math.inf
ELEMENTWISE = [
    ActivationCase(
        "sigmoid", fnn.sigmoid, decimal(_logistic), decimal(lambda x: _logistic(x) * _logistic(-x)), (0.0, 1.0)
    ),
    ActivationCase(
        "tanh",
        fnn.tanh,
        decimal(lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
        decimal(lambda x: 4 / (x.exp() + (-x).exp()) ** 2),
        (-1.0, 1.0),
    ),
    ActivationCase("softplus", fnn.softplus, decimal(lambda x: (1 + x.exp()).ln()), decimal(_logistic), (0.0, INF)),
    ActivationCase(
        "silu",
        fnn.silu,
        decimal(lambda x: x * _logistic(x)),
        decimal(lambda x: _logistic(x) + x * _logistic(x) * _logistic(-x)),
        None,
    ),
    ActivationCase("relu", fnn.relu, _pieces(lambda x: 0, lambda x: x), _pieces(lambda x: 0, lambda x: 1), (0.0, INF)),
    ActivationCase(
        "softsign", fnn.softsign, decimal(lambda x: x / (1 + abs(x))), decimal(lambda x: 1 / (1 + abs(x)) ** 2), None
    ),
    ActivationCase(
        "leaky_relu",
        fnn.leaky_relu(),
        _pieces(lambda x: Decimal("0.2") * x, lambda x: x),
        _pieces(lambda x: 0.2, lambda x: 1),
        (-INF, INF),
    ),
    ActivationCase(
        "leaky_relu",
        fnn.leaky_relu(0.01),
        _pieces(lambda x: Decimal("0.01") * x, lambda x: x),
        _pieces(lambda x: 0.01, lambda x: 1),
        (-INF, INF),
    ),
    ActivationCase(
        "elu",
        fnn.elu(),
        _pieces(lambda x: x.exp() - 1, lambda x: x),
        _pieces(lambda x: x.exp(), lambda x: 1),
        (-1.0, INF),
    ),
    ActivationCase(
        "elu",
        fnn.elu(0.7),
        _pieces(lambda x: Decimal("0.7") * (x.exp() - 1), lambda x: x),
        _pieces(lambda x: Decimal("0.7") * x.exp(), lambda x: 1),
        (-0.7, INF),
    ),
    ActivationCase(
        "selu",
        fnn.selu,
        _pieces(lambda x: SELU_SCALE * SELU_ALPHA * (x.exp() - 1), lambda x: SELU_SCALE * x),
        _pieces(lambda x: SELU_SCALE * SELU_ALPHA * x.exp(), lambda x: SELU_SCALE),
        (-float(SELU_SCALE * SELU_ALPHA), INF),
    ),
    ActivationCase(
        "gelu",
        fnn.gelu,
        lambda x: x * special.ndtr(x),
        lambda x: special.ndtr(x) + x * _normal(x),
        None,
    ),
]
ACTIVATIONS: list[tuple[str, Any]] = [*((case.name, case.activation) for case in ELEMENTWISE), ("softmax", fnn.softmax)]


# ---- the formulas once more, in JAX: for autodiff. Each side of 0 in the form that neither overflows nor cancels


def sides(left: Callable[[Any], Any], right: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`right(x)` for x > 0, else `left(x)`, neither of them evaluated on the other's side."""
    return lambda x: jnp.where(x > 0, right(jnp.where(x > 0, x, 1.0)), left(jnp.where(x > 0, -1.0, x)))


def _gauss(x: Any) -> Any:
    """The normal distribution function, by the error function of the upper tail."""
    return jax.scipy.special.erfc(-x / jnp.sqrt(2.0)) / 2


def _softmax(x: Any) -> Any:
    """Each output by its differences to all inputs: `1/Σ_k e^(x_k - x_j)`."""
    return 1 / jnp.exp(x[..., None, :] - x[..., :, None]).sum(-1)


_logistic_in_jax = sides(lambda x: jnp.exp(x) / (1 + jnp.exp(x)), lambda x: 1 / (1 + jnp.exp(-x)))
_alpha, _scale = float(SELU_ALPHA), float(SELU_SCALE)
IN_JAX: dict[Any, Callable[[Any], Any]] = {
    fnn.sigmoid: _logistic_in_jax,
    fnn.tanh: sides(
        lambda x: -(1 - jnp.exp(2 * x)) / (1 + jnp.exp(2 * x)), lambda x: (1 - jnp.exp(-2 * x)) / (1 + jnp.exp(-2 * x))
    ),
    fnn.softplus: sides(lambda x: jnp.log1p(jnp.exp(x)), lambda x: x + jnp.log1p(jnp.exp(-x))),
    fnn.silu: lambda x: x * _logistic_in_jax(x),
    fnn.relu: sides(lambda x: 0.0 * x, lambda x: x),
    fnn.softsign: sides(lambda x: 1 / (1 - x) - 1, lambda x: 1 - 1 / (1 + x)),
    fnn.leaky_relu(): sides(lambda x: 0.2 * x, lambda x: x),
    fnn.leaky_relu(0.01): sides(lambda x: 0.01 * x, lambda x: x),
    fnn.elu(): sides(lambda x: jnp.exp(x) - 1, lambda x: x),
    fnn.elu(0.7): sides(lambda x: 0.7 * (jnp.exp(x) - 1), lambda x: x),
    fnn.selu: sides(lambda x: _scale * _alpha * (jnp.exp(x) - 1), lambda x: _scale * x),
    fnn.gelu: lambda x: x * _gauss(x),
    fnn.softmax: _softmax,
}

# ---- how each could be wrong: a term dropped, a sign, the derivative of something else


def _step(x: Any) -> Any:
    return (x > 0).astype(x.dtype)


MISTAKES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "sigmoid": {"1 - σ dropped": fnn.sigmoid.value, "σ dropped": lambda x: fnn.sigmoid.value(-x)},
    "tanh": {"1 - y instead of 1 - y²": lambda x: 1 - jnp.tanh(x), "of the outputs": lambda x: 1 - x * x},
    "softplus": {"the other tail": lambda x: fnn.sigmoid.value(-x), "of the value": fnn.softplus.value},
    "silu": {"second term dropped": fnn.sigmoid.value, "σ(x) twice": lambda x: fnn.sigmoid.value(x) * (1 + x)},
    "relu": {"the other side": lambda x: (x < 0).astype(x.dtype), "no side": jnp.ones_like},
    "softsign": {"not squared": lambda x: 1 / (1 + jnp.abs(x)), "|x| without its sign": lambda x: 1 / (1 + x) ** 2},
    "leaky_relu": {"relu's": _step, "sides swapped": lambda x: jnp.where(x > 0, 0.2, 1.0)},
    "elu": {"minus 1 left in": lambda x: jnp.where(x > 0, 1.0, jnp.expm1(x)), "relu's": _step},
    "selu": {"scale dropped": lambda x: jnp.where(x > 0, 1.0, _alpha * jnp.exp(x)), "relu's": _step},
    "gelu": {"second term dropped": _gauss, "sign of the second": lambda x: 2 * _gauss(x) - fnn.gelu.derivative(x)},
}
SOFTMAX_MISTAKES = {
    "sum dropped": lambda at, given, dy: {"x": _softmax(at["x"]) * dy},
    "y_k in the sum dropped": lambda at, given, dy: {"x": _softmax(at["x"]) * (dy - dy.sum(-1, keepdims=True))},
    "sum over the rows": lambda at, given, dy: {
        "x": _softmax(at["x"]) * (dy - (_softmax(at["x"]) * dy).sum(0, keepdims=True))
    },
}
KINKED = {fnn.relu: "0", fnn.leaky_relu(): "alpha", fnn.leaky_relu(0.01): "alpha", fnn.elu(0.7): "alpha"}
KINKED |= {fnn.selu: "scale alpha"}


def _part(name: str, activation: Any) -> Part:
    def point(x: Any, mask: Any) -> Point:
        return Point({"x": x}, {"mask": mask})

    def trained() -> Point:
        _, _, x = regimes.trained_inputs(activation)
        return point(x, jnp.ones(len(x), bool))

    every = jnp.ones(regimes.ROWS, bool)
    at_0 = Point({"x": jnp.zeros((regimes.ROWS, regimes.K))}, {"mask": every})
    kink = Kink("at 0", "the left side's", at_0, {"x": -jnp.ones((regimes.ROWS, regimes.K))})
    wrong = {
        error: lambda at, given, dy, d=derivative: {"x": dy * d(at["x"])}
        for error, derivative in MISTAKES.get(name, {}).items()
    }
    return Part(
        "activation",
        name,
        str(activation),
        lambda at, given: activation.value(at["x"]),
        lambda at, given, dy: {"x": activation.backward(at["x"], dy)},
        lambda at, given: IN_JAX[activation](at["x"]),
        {**regimes.of_inputs(point), "200 steps": trained},
        SOFTMAX_MISTAKES if name == "softmax" else wrong,
        (kink,) if activation in KINKED else (),
    )


RECORDS = {str(activation): partial(_part, name, activation) for name, activation in ACTIVATIONS}
