"""Derivatives by a complex step: `f'(x) = Im f(x + ih)/h` for a tiny h, exact to rounding where f is analytic.

Nothing is subtracted, so h can be 1e-30, and no derivative rule is used: the traced program of `f` is evaluated in
complex numbers. Comparisons go by the real parts, so a piecewise function is taken on the piece it is on; how far away
the next piece begins is known from the same evaluation. Squire & Trapp 1998, doi:10.1137/S003614459631241X.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.gradients.interpreters.walk import Interpreter, bind, is_float
from fnn.types import Array, DType, Equation, Numbers, Params

STEPS = {8: 1e-30, 4: 1e-15}  # by bytes: the square of the step must vanish beside 1


class NotAnalytic(TypeError):
    """The function has a part that cannot be evaluated in complex numbers."""


class ComplexDerivative(NamedTuple):
    """The derivative along a direction, and how far along it the function goes on without a kink, either way."""

    slope: Any
    kink: Array


def complex_step(function: Callable[[Any], Any], point: Params, direction: Params) -> ComplexDerivative:
    """The derivative of `function` at `point` along `direction`, to rounding.

    Args:
        function: from a pytree of floating arrays (float32 or float64) to a pytree of arrays.
        point, direction: pytrees of one structure.

    Returns:
        `ComplexDerivative(slope, kink)`: `slope` like the value of the function; `kink` the distance, in units of
        `direction`, at
        which a comparison in the function would turn out otherwise (inf: nowhere, to first order). Comparisons
        under `jax.named_scope("smooth")` join pieces without a kink, and do not count.

    Raises:
        NotAnalytic: some part of it has no complex form (erf, a `while` loop, half precision).

    >>> from fnn.gradients.interpreters.complex_step import complex_step
    >>> import fnn, jax.numpy as jnp
    >>> print(complex_step(lambda x: (fnn.relu(x) ** 2).sum(), jnp.array([3.0, -0.5]), jnp.array([1.0, 1.0])))
    ComplexDerivative(slope=Array(6., dtype=float32), kink=Array(0.5, dtype=float32))
    """
    leaves, moves = jax.tree.leaves(point), jax.tree.leaves(direction)
    dtype = jnp.result_type(*leaves)
    if dtype.itemsize not in STEPS or not jnp.issubdtype(dtype, jnp.floating):
        raise NotAnalytic(f"complex_step: expected float32 or float64, got {dtype}. Convert the point.")
    traced, out = jax.make_jaxpr(function, return_shape=True)(point)
    step = STEPS[dtype.itemsize]
    walk = _ComplexInterpreter(step, dtype)
    with jax.numpy_dtype_promotion("standard"):  # real and complex numbers mix
        moved = [lax.complex(p, step * d) for p, d in zip(leaves, moves, strict=True)]
        values = map(jnp.asarray, walk.run(traced.jaxpr, traced.consts, moved))
        slopes = [(v.imag / step if jnp.iscomplexobj(v) else jnp.zeros(v.shape)).astype(dtype) for v in values]
        return ComplexDerivative(jax.tree.unflatten(jax.tree.structure(out), slopes), walk.result())


class _ComplexInterpreter(Interpreter):
    """Evaluates a traced program in complex numbers, and notes on the way how near each comparison is to turning."""

    def __init__(self, step: float, dtype: DType, smooth: bool = False) -> None:
        self.step, self.dtype, self.smooth = step, dtype, smooth
        self.distances: list[Array] = []

    def inner(self) -> "_ComplexInterpreter":
        return _ComplexInterpreter(self.step, self.dtype, self.smooth)

    def result(self) -> Array:
        return jnp.stack([jnp.full((), jnp.inf, self.dtype), *self.distances]).min()

    def note(self, found: Array) -> None:
        self.distances.append(found.min())

    def lift(self, value: Array) -> Array:
        return self._complex(value) if is_float(value) else value

    def calculate(self, equation: Equation, inputs: list[Any]) -> list[Any]:
        """The outputs of one equation; those of a function that no complex number reaches stay real."""
        name, parameters = equation.primitive.name, equation.params
        if not any(map(jnp.iscomplexobj, inputs)):
            return bind(equation, inputs)
        if name in _COMPARISONS or name in _CHOICES:
            if not self.smooth:
                self.compare(*inputs, name=name, parameters=parameters)
            if name in _COMPARISONS:
                return [equation.primitive.bind(*map(_real, inputs), **parameters)]
            return [_CHOICES[name](inputs, parameters)]
        if name in _REAL_PART:
            return [equation.primitive.bind(inputs[0].real, **parameters)]
        if name in _FORMULAS:
            return [_FORMULAS[name](*inputs)]
        if name in _BILINEAR:
            return [_bilinear(equation, *inputs)]
        if name in _AS_THEY_ARE:
            outputs = _bind_unchanged(equation, inputs)
            return outputs if equation.primitive.multiple_results else [outputs]
        raise NotAnalytic(f"complex_step: expected functions with a complex form, got {name}. Use differences.")

    def cond(self, parameters: Mapping[str, Any], inputs: list[Any]) -> list[Any]:
        return super().cond(parameters, [_real(inputs[0]), *inputs[1:]])

    def compare(self, *inputs: Array, name: str, parameters: Mapping[str, Any]) -> None:
        """By how much of the step's direction the operands of a comparison are apart."""
        if name in _EXTREMES:
            gap = _gap_to_second(inputs[0], parameters["axes"], _EXTREMES[name])
        elif len(inputs) == 1:  # abs, sign
            gap = inputs[0]
        elif name == "clamp":
            low, x, high = inputs
            gap = jnp.stack(jnp.broadcast_arrays(x - low, x - high))
        else:
            gap = jnp.subtract(*map(self._complex, inputs))
        if gap.size:
            apart, speed = jnp.abs(gap.real), jnp.abs(gap.imag) / self.step
            self.distances.append(jnp.where(speed > 0, apart / jnp.where(speed > 0, speed, 1.0), jnp.inf).min())

    def _complex(self, value: Numbers) -> Array:
        return jnp.asarray(value).astype(jnp.result_type(self.dtype, jnp.complex64))


def _real(value: Array) -> Array:
    return value.real if jnp.iscomplexobj(value) else value


# ---- what each primitive becomes


def _compare_real_parts(first_wins: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def choose(inputs: Sequence[Array], parameters: Mapping[str, Any]) -> Array:
        a, b = jnp.broadcast_arrays(*inputs)
        kind = jnp.result_type(a.dtype, b.dtype)
        return jnp.where(first_wins(a.real, b.real), a.astype(kind), b.astype(kind))

    return choose


def _clamp(inputs: Sequence[Array], parameters: Mapping[str, Any]) -> Array:
    low, x, high = inputs
    bounded = jnp.where(x.real < low, jnp.broadcast_to(low, x.shape).astype(x.dtype), x)
    return jnp.where(x.real > high, jnp.broadcast_to(high, x.shape).astype(x.dtype), bounded)


def _extreme(inputs: Sequence[Array], parameters: Mapping[str, Any], turn: float) -> Array:
    """The largest by its real part; the mean of those that tie."""
    (x,), axes = inputs, parameters["axes"]
    top = (turn * x.real).max(axes, keepdims=True)
    tied = turn * x.real == top
    return jnp.where(tied, x, 0).sum(axes) / tied.sum(axes).astype(x.real.dtype)


def _gap_to_second(x: Array, axes: Sequence[int], turn: float) -> Array:
    """The largest less each of the others, by real part."""
    top = jnp.expand_dims(_extreme([x], {"axes": axes}, turn), axes)
    is_top = turn * x.real == turn * top.real
    return jnp.where(is_top & (is_top.sum(axes, keepdims=True) == 1), 0, top - x)


def _bilinear(equation: Equation, a: Array, b: Array) -> Array:
    """A product of two arrays, complex parts of order h alone: what is of order h² vanishes."""
    parameters = equation.params
    product: Callable[[Array, Array], Array] = lambda x, y: equation.primitive.bind(x, y, **parameters)  # noqa: E731
    imaginary = [product(a.imag, _real(b))] if jnp.iscomplexobj(a) else []
    imaginary += [product(_real(a), b.imag)] if jnp.iscomplexobj(b) else []
    return lax.complex(product(_real(a), _real(b)), sum(imaginary[1:], imaginary[0]))


def _bind_unchanged(equation: Equation, inputs: list[Any]) -> Any:
    """A function that only moves or adds numbers, or has its own complex form."""
    parameters = dict(equation.params)
    kind = jnp.result_type(*[v.dtype for v in inputs if jnp.iscomplexobj(v)])
    if "new_dtype" in parameters:
        if not jnp.issubdtype(parameters["new_dtype"], jnp.floating):
            return equation.primitive.bind(inputs[0].real, **parameters)
        bytes_each = jnp.dtype(parameters["new_dtype"]).itemsize
        if bytes_each not in STEPS:
            raise NotAnalytic("complex_step: expected float32 or float64 throughout, got half precision.")
        parameters["new_dtype"] = kind
    numbers = lambda v: jnp.asarray(v).astype(kind) if jnp.issubdtype(jnp.result_type(v), jnp.floating) else v  # noqa: E731
    return equation.primitive.bind(*map(numbers, inputs), **parameters)


def _logistic(z: Array) -> Array:
    e = jnp.exp(jnp.where(z.real > 0, -z, z))  # of the smaller size: no overflow
    return jnp.where(z.real > 0, 1.0, e) / (1.0 + e)


def _tanh(z: Array) -> Array:
    right = z.real > 0
    e = jnp.exp(-2.0 * jnp.where(right, z, -z))
    size = -jnp.where(jnp.abs(z.real) < 0.3, jnp.expm1(-2.0 * jnp.where(right, z, -z)), e - 1.0) / (1.0 + e)
    return jnp.where(right, size, -size)


def _power(z: Array, power: Array) -> Array:
    """`exp(power · log z)`, whose logarithm is taken of -z where z is negative and the power a whole number.

    nan for a negative z and another power, as the real function has it, and for a power that itself depends on what
    is moved.
    """
    negative, none = _real(z) < 0, _real(z) == 0
    exponent, unknown = _real(power), complex(float("nan"), float("nan"))
    whole = exponent == jnp.round(exponent) if exponent is power else jnp.zeros((), bool)
    sign = jnp.where(negative & (jnp.mod(exponent, 2) == 1), -1.0, 1.0)
    found = sign * jnp.exp(power * jnp.log(jnp.where(none, 1.0, jnp.where(negative, -z, z))))
    found = jnp.where(negative & ~whole, unknown, found)
    at_none = jnp.where(exponent == 1, z, jnp.where(exponent > 1, 0.0, jnp.where(exponent == 0, 1.0, unknown)))
    return jnp.where(none, at_none, found)


_COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne", "sign", "argmax", "argmin")
# constant but for jumps; and what is held constant
_REAL_PART = ("is_finite", "floor", "ceil", "round", "stop_gradient")
_EXTREMES = {"reduce_max": 1.0, "argmax": 1.0, "reduce_min": -1.0, "argmin": -1.0}
_CHOICES: dict[str, Any] = {
    "max": _compare_real_parts(jnp.greater_equal),
    "min": _compare_real_parts(jnp.less_equal),
    "abs": lambda inputs, parameters: jnp.where(inputs[0].real < 0, -inputs[0], inputs[0]),
    "clamp": _clamp,
    "reduce_max": lambda inputs, parameters: _extreme(inputs, parameters, 1.0),
    "reduce_min": lambda inputs, parameters: _extreme(inputs, parameters, -1.0),
}
_FORMULAS: dict[str, Any] = {
    "logistic": _logistic,
    "tanh": _tanh,
    "expm1": lambda z: lax.complex(jnp.expm1(z.real), jnp.exp(z).imag),  # h is too small for the real part to feel it
    "rsqrt": lambda z: 1.0 / jnp.sqrt(z),
    "square": lambda z: z * z,
    "one_minus_square": lambda z: (1.0 - z) * (1.0 + z),  # JAX 0.12 has it in the derivative of tanh
    "pow": _power,
}
_BILINEAR = (
    *("dot_general", "conv_general_dilated"),
    *("fnn_convolution_outputs", "fnn_convolution_by_weights", "fnn_convolution_by_inputs"),
)
_AS_THEY_ARE = (
    *("add", "sub", "mul", "div", "neg", "add_any", "integer_pow", "exp", "log", "log1p", "sin", "cos", "sqrt"),
    *("exp2", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh"),
    *("reduce_sum", "cumsum", "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "slice", "rev"),
    *("dynamic_slice", "dynamic_update_slice", "gather", "scatter", "scatter-add", "scatter_add", "concatenate", "pad"),
    *("select_n", "convert_element_type", "copy", "copy_p", "split", "stack", "optimization_barrier"),
)
