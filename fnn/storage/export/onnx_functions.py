"""A function of each element, as JAX traces it, in operations of ONNX.

`jnp.sin`, or what a user wrote with `jnp.where` and arithmetic. What moves or sums numbers is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.types import Equation, Jaxpr, Shape

Emit = Callable[..., str]  # (operation, inputs, **attributes) -> the name of its output
Constant = Callable[[np.ndarray], str]  # the name of a constant

SAME = {  # primitives that ONNX has under another name, with the same inputs
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min"},
    **{"pow": "Pow", "neg": "Neg", "abs": "Abs", "sign": "Sign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt"},
    **{"sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh"},
    **{"cosh": "Cosh", "tanh": "Tanh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "erf": "Erf"},
    **{"logistic": "Sigmoid", "floor": "Floor", "ceil": "Ceil", "gt": "Greater", "lt": "Less", "eq": "Equal"},
    **{"ge": "GreaterOrEqual", "le": "LessOrEqual", "and": "And", "or": "Or", "not": "Not", "copy": "Identity"},
}
PASSED_ON = ("stop_gradient", "copy_p", "optimization_barrier")
DTYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}  # numbers of onnx.TensorProto


def emit_function(name: str, function: Callable[..., Any], shape: Shape, x: str, emit: Emit, constant: Constant) -> str:
    """The nodes of a function of a batch of such examples; the name of its output.

    Raises:
        TypeError: it does something else than compute each output from the input in the same place.
    """
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((2, *shape), jnp.float32))  # 2: no axis of size 1
    if [tuple(v.aval.shape) for v in closed.jaxpr.outvars] != [(2, *shape)]:
        raise _refuse(name, "another shape")
    return _emit_jaxpr(name, closed.jaxpr, [constant(np.asarray(c)) for c in closed.consts], [x], emit, constant)[0]


def _refuse(name: str, what: str) -> TypeError:
    return TypeError(
        f"export_onnx: expected {name} to be a function of each element by itself, got one with {what}. "
        "Use export_stablehlo, which takes any function."
    )


def _emit_jaxpr(
    name: str, jaxpr: Jaxpr, consts: Sequence[str], inputs: Sequence[str], emit: Emit, constant: Constant
) -> list[str]:
    names = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> str:
        return constant(np.asarray(atom.val, atom.aval.dtype)) if hasattr(atom, "val") else names[atom]

    for equation in jaxpr.eqns:
        outputs = _emit_equation(name, equation, [read(atom) for atom in equation.invars], emit, constant)
        names.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _emit_equation(name: str, equation: Equation, inputs: list[str], emit: Emit, constant: Constant) -> Sequence[str]:
    primitive, params = equation.primitive.name, equation.params
    inner = next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), None)
    if inner is not None and primitive not in ("scan", "while", "cond"):
        jaxpr = getattr(inner, "jaxpr", inner)
        consts = [constant(np.asarray(c)) for c in getattr(inner, "consts", ())]
        return _emit_jaxpr(name, jaxpr, consts, inputs, emit, constant)
    if primitive in SAME:
        return [emit(SAME[primitive], inputs)]
    if primitive in PASSED_ON or (primitive == "broadcast_in_dim" and _is_trailing(equation)):
        return inputs[:1]  # ONNX broadcasts by itself
    if primitive in _OTHERS:
        dtype = equation.invars[0].aval.dtype
        return [_OTHERS[primitive](inputs, params, emit, lambda number: constant(np.asarray(number, dtype)))]
    raise _refuse(name, primitive)


def _is_trailing(equation: Equation) -> bool:
    """Whether an array is only repeated along new axes before its own."""
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    return tuple(axes) == tuple(range(len(shape) - len(axes), len(shape)))


Of = Callable[[list[str], Mapping[str, Any], Emit, Callable[[float], str]], str]


def _cast(inputs: list[str], params: Mapping[str, Any], emit: Emit, number: Callable[[float], str]) -> str:
    dtype = DTYPES.get(np.dtype(params["new_dtype"]).name)
    if dtype is None:
        raise _refuse("it", f"numbers of {params['new_dtype']}")
    return emit("Cast", inputs, to=dtype)


_OTHERS: dict[str, Of] = {
    "convert_element_type": _cast,
    "square": lambda inputs, params, emit, number: emit("Mul", [inputs[0], inputs[0]]),
    "integer_pow": lambda inputs, params, emit, number: emit("Pow", [inputs[0], number(params["y"])]),
    "rsqrt": lambda inputs, params, emit, number: emit("Div", [number(1), emit("Sqrt", inputs)]),
    "expm1": lambda inputs, params, emit, number: emit("Sub", [emit("Exp", inputs), number(1)]),
    "log1p": lambda inputs, params, emit, number: emit("Log", [emit("Add", [inputs[0], number(1)])]),
    "erfc": lambda inputs, params, emit, number: emit("Sub", [number(1), emit("Erf", inputs)]),
    "ne": lambda inputs, params, emit, number: emit("Not", [emit("Equal", inputs)]),
    "select_n": lambda inputs, params, emit, number: emit("Where", [inputs[0], inputs[2], inputs[1]]),
}
