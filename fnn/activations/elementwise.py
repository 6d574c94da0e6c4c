"""Activations: callables that know their derivative. `fnn.sigmoid(x)` is the function; the same object is a layer.

Each is written so that the value AND the derivative are right where the obvious form overflows or cancels, and so
that autodiff of the value is right there too. At a kink the derivative is that of the left side: relu'(0) = 0,
leaky_relu'(0) = alpha, elu'(0) = alpha. At ±inf value and derivative are the limits. nan has the value nan and the
derivative nan, by hand and by autodiff. Sources: documents 2 (logistic, softmax) and 3 (all ten); papers named below.
"""

import copyreg
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from fnn.activations.formulas import apply_formula, check_formulas, slopes
from fnn.activations.limits import keep_nan, nan_or_1, relu_when_far, step_when_far, times
from fnn.activations.softmax import softmax as _softmax, softmax_backward, softmax_jacobian
from fnn.arguments import as_floats, beside, explain_call, finite, like, real_number
from fnn.factories import factory, note_call, reduce
from fnn.kernels import random
from fnn.types import Array, ArrayLike, Cache, Key, Layer, Params, Record, Scalar, Shape, State, Train


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Activation(Record):
    """A function of an array that knows its derivative, and stands in `serial` as a layer.

    - calling it: the function, for `x` of any shape (integers become floats); `value` is the same without checks.
    - `derivative(x)`: elementwise, of the shape of `x`; for softmax the Jacobian, `(..., K, K)`.
    - `backward(x, dy)`: the derivative of a scalar by `x`, given its derivative `dy` by the outputs.
    """

    spec: Any
    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]

    def __call__(self, x: ArrayLike | None = None) -> Array:
        """`value(x)`, of what may be a list or integers."""
        if x is None:
            raise TypeError(f"{self}: expected x, got none. Use it without a call: fnn.serial(fnn.dense(3), fnn.relu).")
        return self.value(as_floats(self, x))

    def __repr__(self) -> str:
        return str(self.spec)


copyreg.pickle(Activation, reduce)


@explain_call
def elementwise(name: str, value: Callable[[Array], Array], derivative: Callable[[Array], Array]) -> Activation:
    """An activation that works on each element by itself: `y = f(x)`, `dx = dy f'(x)`.

    Args:
        name: what it is called in summaries and errors.
        value: `f`, from an array to an array of the same shape and dtype.
        derivative: `f'`, likewise.

    >>> import fnn
    >>> square = fnn.elementwise("square", lambda x: x * x, lambda x: 2 * x)
    >>> print(square(3.0), square.derivative(3.0))
    9.0 6.0
    >>> fnn.serial(fnn.dense(4), square, fnn.dense(1))
    serial(dense(4), square, dense(1))
    """
    check_formulas(name, value, derivative)

    def slope(x: Array) -> Array:
        return apply_formula(f"derivative of {name}", derivative, x)

    result: Callable[[Array], Array] = lambda x: apply_formula(f"value of {name}", value, x)  # noqa: E731
    activation = Activation(name, result, lambda x: slope(as_floats(name, x)), lambda x, dy: dy * slope(x))
    origin = {"name": name, "value": value, "derivative": derivative}
    return note_call(activation._with_doc(value.__doc__), elementwise, origin)


# ---- the logistic family, written with e = exp(-|x|), which neither overflows nor cancels
# ("smooth": its two pieces meet without a kink, so that `fnn.complex_step` need not warn of the place)


@jax.named_scope("smooth")
def _abs(x: Array) -> Array:
    return jnp.where(x > 0, x, -x)  # with relu's side at 0, so that autodiff of the sums below is right there too


@jax.named_scope("smooth")
def _sigmoid(x: Array) -> Array:
    """The logistic function: `σ(x) = 1/(1 + e^-x)`; `σ'(x) = σ(x) σ(-x)`. Values in [0, 1].

    The derivative is right at any x; the usual `p (1-p)` is 4 % off at 36 and 0 from 37 on (float64). Source
    documents 2 and 3.

    >>> import fnn
    >>> print(fnn.sigmoid([1, 2, 3]))
    [0.7310586  0.880797   0.95257413]
    """
    e = jnp.exp(-_abs(x))
    return jnp.where(x > 0, 1.0, e) / (1.0 + e)  # the side at 0 is that of _abs


@jax.named_scope("smooth")
def _sigmoid_derivative(x: Array) -> Array:
    e = jnp.exp(-_abs(x))
    return e / jnp.square(1.0 + e)


def _tanh(x: Array) -> Array:
    """`tanh(x) = (e^x - e^-x)/(e^x + e^-x)`; `tanh'(x) = 1/cosh²(x)`. Values in [-1, 1], also at ±inf. Source
    document 3.

    >>> import fnn
    >>> print(fnn.tanh(float("inf")), fnn.tanh.derivative(0.0))
    1.0 1.0
    """
    return jnp.tanh(x)


@jax.named_scope("smooth")
def _tanh_derivative(x: Array) -> Array:
    e = jnp.exp(-2.0 * _abs(x))
    return 4.0 * e / jnp.square(1.0 + e)


@jax.named_scope("smooth")
def _softplus(x: Array) -> Array:
    """`log(1 + e^x)`; derivative `σ(x)`. A smooth relu, values in (0, inf). Source document 3.

    >>> import fnn
    >>> print(fnn.softplus(1000.0), fnn.softplus.derivative(0.0))
    1000.0 0.5
    """
    return jnp.where(x > 0, x, 0.0) + jnp.log1p(jnp.exp(-_abs(x)))


def _silu(x: Array) -> Array:
    """`x σ(x)`, also called swish; derivative `σ(x) (1 + x σ(-x))`. Elfwing et al. 2017, arXiv:1702.03118.

    >>> import fnn
    >>> print(fnn.silu(0.0), fnn.silu.derivative(0.0))
    0.0 0.5
    """
    return relu_when_far(lambda x: x * _sigmoid(x), x)


def _silu_derivative(x: Array) -> Array:
    return step_when_far(lambda x: _sigmoid(x) * (1.0 + x * _sigmoid(-x)), x)


sigmoid = elementwise("sigmoid", _sigmoid, _sigmoid_derivative)
tanh = elementwise("tanh", _tanh, _tanh_derivative)
softplus = elementwise("softplus", _softplus, _sigmoid)
silu = elementwise("silu", _silu, _silu_derivative)


# ---- piecewise: the derivative at the kink is that of the left side


def _relu(x: Array) -> Array:
    """`max(0, x)`; derivative 1 for x > 0, else 0 (so 0 at the kink). Source document 3.

    >>> import fnn
    >>> print(fnn.relu([-2.0, 0.0, 3.0]))
    [0. 0. 3.]
    """
    return jnp.where(x <= 0, 0.0, keep_nan(x))


def _relu_derivative(x: Array) -> Array:
    return jnp.where(x <= 0, 0.0, nan_or_1(x))


def _softsign(x: Array) -> Array:
    """`x/(1 + |x|)`; derivative `1/(1 + |x|)²`. Values in (-1, 1), smooth at 0. Source document 3.

    >>> import fnn
    >>> print(fnn.softsign(1.0), fnn.softsign.derivative(1.0))
    0.5 0.25
    """
    largest = jnp.finfo(x.dtype).max  # which stands for inf, since inf/inf is none
    near = jnp.where(x == jnp.inf, largest, jnp.where(x == -jnp.inf, -largest, x))
    return near / (1.0 + _abs(near))


def _softsign_derivative(x: Array) -> Array:
    return 1.0 / jnp.square(1.0 + _abs(x))


relu = elementwise("relu", _relu, _relu_derivative)
softsign = elementwise("softsign", _softsign, _softsign_derivative)


@factory
def leaky_relu(alpha: float = 0.2) -> Activation:
    """`x` for x > 0, else `alpha x`; derivative 1 for x > 0, else `alpha` (so `alpha` at the kink).

    For `alpha` in [0, 1] that is `max(alpha x, x)`. The default is that of source document 3; others use 0.01 or 0.3.

    >>> import fnn
    >>> print(fnn.leaky_relu(0.2)([-2.0, 0.0, 3.0]))
    [-0.4  0.   3. ]
    """
    slope = _slope("leaky_relu", alpha)

    def value(x: Array) -> Array:
        x = keep_nan(x)
        return jnp.where(x > 0, x, times(slope, x))

    def derivative(x: Array) -> Array:
        return jnp.where(x > 0, 1.0, like(slope, x)) * nan_or_1(x)

    return elementwise("leaky_relu", value, derivative)


@factory
def elu(alpha: float = 1.0) -> Activation:
    """`x` for x > 0, else `alpha (e^x - 1)`; derivative 1 for x > 0, else `alpha e^x` (so `alpha` at the kink).

    Source document 3; Clevert et al. 2015, arXiv:1511.07289.

    >>> import fnn
    >>> print(fnn.elu(1.0)([-1000.0, 2.0]))
    [-1.  2.]
    """
    slope = _slope("elu", alpha)

    def value(x: Array) -> Array:
        # exp sees no large positive number, so that autodiff meets no inf * 0
        return jnp.where(x > 0, x, like(slope, x) * jnp.expm1(jnp.where(x > 0, 0.0, x)))

    def derivative(x: Array) -> Array:
        return jnp.where(x > 0, 1.0, like(slope, x) * jnp.exp(jnp.where(x > 0, 0.0, x)))

    return elementwise("elu", value, derivative)


def _slope(name: str, slope: Scalar | np.ndarray) -> Scalar | np.ndarray:
    """A number, checked; an array of slopes, one per channel, as it is."""
    if isinstance(slope, (np.ndarray, jax.Array)) and slope.ndim:
        if not isinstance(as_floats(name, slope), jax.core.Tracer) and not np.isfinite(np.asarray(slope)).all():
            raise ValueError(f"{name}: expected finite slopes, got nan or inf among them. Pass numbers such as 0.2.")
        return slope
    return finite(name, "a finite slope", slope, "Pass a number such as 0.2.")


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _selu(x: Array) -> Array:
    """`scale · elu(alpha)(x)`, scale 1.0507…, alpha 1.6733…; derivative `scale · elu(alpha)'(x)`.

    Keeps mean 0 and variance 1 from layer to layer. Klambauer et al. 2017, arXiv:1706.02515.

    >>> import fnn
    >>> print(fnn.selu(1.0))
    1.050701
    """
    return _SELU_SCALE * elu(_SELU_ALPHA).value(x)


def _selu_derivative(x: Array) -> Array:
    return _SELU_SCALE * elu(_SELU_ALPHA).derivative(x)


def _gelu(x: Array) -> Array:
    """`x Φ(x)` with Φ the normal distribution function, exact (not the tanh form); derivative `Φ(x) + x φ(x)`.

    Hendrycks & Gimpel 2016, arXiv:1606.08415.

    >>> import fnn
    >>> print(fnn.gelu(1.0), fnn.gelu.derivative(0.0))
    0.8413447 0.5
    """
    return relu_when_far(lambda x: x * _normal_distribution(x), x)


def _gelu_derivative(x: Array) -> Array:
    density: Callable[[Array], Array] = lambda x: jnp.exp(-0.5 * jnp.square(x)) / math.sqrt(2.0 * math.pi)  # noqa: E731
    return step_when_far(lambda x: _normal_distribution(x) + x * density(x), x)


def _normal_distribution(x: Array) -> Array:
    return 0.5 * erfc(-x / math.sqrt(2.0))  # erfc keeps the left tail, where 1 + erf would cancel


selu = elementwise("selu", _selu, _selu_derivative)
gelu = elementwise("gelu", _gelu, _gelu_derivative)


# ---- softmax mixes the elements of a row


softmax = Activation(
    "softmax", _softmax, lambda x: softmax_jacobian(as_floats("softmax", x)), softmax_backward
)._with_doc(_softmax.__doc__)


# ---- rectifiers that are layers, since they have a parameter or draw numbers


@factory
def prelu(initial: float = 0.25) -> Layer:
    """Parametric ReLU: `x` for x > 0, else `a x`, with one learned slope `a` per channel (the last axis).

    Backward: `da = Σ dy min(x, 0)` over all axes but the last; `dx = dy` for x > 0, else `a dy`.
    Source document 3; He et al. 2015, arXiv:1502.01852.

    Args:
        initial: the slopes at the start, a finite number.

    >>> import fnn, jax
    >>> params, state, out_shape = fnn.prelu().init(jax.random.key(0), (3,))
    >>> print(params["a"], out_shape)
    [0.25 0.25 0.25] (3,)
    """
    start = _slope("prelu", initial)

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return {"a": slopes(start, in_shape[-1:])}, (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = keep_nan(as_floats("prelu", x))
        # `a` meets no large positive number, so that its derivative by autodiff meets no inf · 0
        return jnp.where(x > 0, x, beside(params["a"], x) * jnp.where(x > 0, 0.0, x)), state, x

    def backward(params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        right = x > 0
        rows = tuple(range(x.ndim - 1))
        dx = jnp.where(right, dy, beside(params["a"], dy) * dy) * nan_or_1(x)
        return {"a": jnp.where(right, 0.0, dy * x).sum(rows)}, dx

    return Layer(None, init, forward, backward)


@factory
def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Layer:
    """Randomised leaky ReLU: `x` for x > 0, else `a x`; in training `a` is drawn from [lower, upper) for every
    element, in prediction it is their mean.

    Backward: `dx = dy` for x > 0, else `a dy`, with the very slopes of the forward pass.
    Source document 3; Xu et al. 2015, arXiv:1505.00853. Raises a ValueError when it trains without a key.

    >>> import fnn, jax, jax.numpy as jnp
    >>> layer = fnn.rrelu(0.1, 0.3)
    >>> y, state, cache = layer.forward((), (), jnp.array([[-1.0, 2.0]]), None, False)
    >>> print(y)
    [[-0.2  2. ]]
    """
    low, high = (real_number("rrelu", "a slope", slope, "Pass a number such as 0.2.") for slope in (lower, upper))
    known = [slope for slope in (low, high) if isinstance(slope, (int, float))]
    if not all(0 <= slope < math.inf for slope in known) or known != sorted(known):
        raise ValueError(f"rrelu: expected 0 <= lower <= upper, got {low} and {high}. Swap or raise them.")

    def init(key: Key, in_shape: Shape) -> tuple[Params, State, Shape]:
        return (), (), in_shape

    def forward(params: Params, state: State, x: Array, key: Key, train: Train) -> tuple[Array, State, Cache]:
        x = keep_nan(as_floats("rrelu", x))
        left, right = like(low, x), like(high, x)
        if not train:
            slope = jnp.full_like(x, (left + right) / 2)
        elif key is None:
            raise ValueError("rrelu: expected a key when it trains, got None. Pass key=jax.random.key(0).")
        else:
            # drawn in float32 for every dtype, so that the same key draws the same slopes
            share = random.uniform(key, x.shape).astype(x.dtype)
            slope = left + (right - left) * share
        return jnp.where(x > 0, x, slope * x), state, (x, slope)

    def backward(params: Params, cache: Cache, dy: Array) -> tuple[Params, Array]:
        x, slope = cache
        return (), jnp.where(x > 0, dy, slope * dy) * nan_or_1(x)

    return Layer(None, init, forward, backward)
