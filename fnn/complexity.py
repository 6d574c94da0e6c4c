"""How large a network is: layers, parameters, multiply-adds and output maps, counted as document D3 does."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.combine import as_layer, repeat, residual, serial
from fnn.linear import dense
from fnn.types import Layer, Shape


class Row(NamedTuple):
    """One layer of a network: what it is, the shape of its output map for one example, and what it costs."""

    name: str
    out_shape: Shape
    parameters: int
    multiply_adds: int


class Complexity(NamedTuple):
    """The size of a network. Prints as the summary table.

    `layers` counts those with weights: the hidden ones and the output, the input layer is left out (D3).
    `parameters` are all w and b; `multiply_adds` are those of one example's forward pass through the weights;
    `output_maps` is how many numbers the layers put out for one example.
    """

    rows: tuple[Row, ...]
    layers: int
    parameters: int
    multiply_adds: int
    output_maps: int

    def __str__(self) -> str:
        head = ("layer", "output shape", "parameters", "multiply-adds")
        body = [(row.name, str(row.out_shape), f"{row.parameters:,}", f"{row.multiply_adds:,}") for row in self.rows]
        last = (
            f"{self.layers} layers",
            f"{self.output_maps:,} numbers",
            f"{self.parameters:,}",
            f"{self.multiply_adds:,}",
        )
        widths = [max(map(len, column)) for column in zip(head, *body, last, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in (head, *body, last)
        ]
        rule = "-" * len(lines[0])
        return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:-1], rule, lines[-1]])


def complexity(net: Any, in_shape: Shape) -> Complexity:
    """Count a network for examples of shape `in_shape` (no batch axis).

    A dense layer has `fan_in × features` multiply-adds and `fan_in × features + features` parameters; layers of your
    own are counted by the matrix products in their forward pass.

    >>> import fnn
    >>> net = fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2))
    >>> print(fnn.complexity(net, (3,)))
    layer     output shape  parameters  multiply-adds
    -------------------------------------------------
    dense(4)  (4,)                  16             12
    relu      (4,)                   0              0
    dense(2)  (2,)                  10              8
    -------------------------------------------------
    2 layers  10 numbers            26             20
    """
    rows = tuple(_rows(as_layer(net), tuple(in_shape)))
    return Complexity(
        rows,
        sum(row.parameters > 0 for row in rows),
        sum(row.parameters for row in rows),
        sum(row.multiply_adds for row in rows),
        sum(int(np.prod(row.out_shape)) for row in rows),
    )


def summary(net: Any, in_shape: Shape) -> None:
    """Print the table of `complexity(net, in_shape)`: layer, output shape, parameters, multiply-adds.

    >>> import fnn
    >>> fnn.summary(fnn.serial(fnn.dense(1)), (2,))
    layer     output shape  parameters  multiply-adds
    -------------------------------------------------
    dense(1)  (1,)                   3              2
    -------------------------------------------------
    1 layers  1 numbers              3              2
    """
    print(complexity(net, in_shape))


def _rows(layer: Layer, in_shape: Shape, prefix: str = "") -> list[Row]:
    """A row for every layer that is not made of others, in the order of the forward pass."""
    made_by, arguments = getattr(layer.spec, "factory", None), dict(getattr(layer.spec, "arguments", ()))
    if made_by in (serial, residual):
        rows = []
        for child in map(as_layer, arguments["layers"]):
            rows += _rows(child, in_shape, prefix)
            in_shape = _out_shape(child, in_shape)
        return rows
    if made_by is repeat:
        once = _rows(as_layer(arguments["layer"]), in_shape, prefix)
        return [row._replace(name=f"{i}: {row.name}") for i in range(arguments["times"]) for row in once]
    params, _, out_shape = _made(layer, in_shape)
    parameters = sum(a.size for a in jax.tree.leaves(params))
    products = params["w"].size if made_by is dense else _products(layer, in_shape)
    return [Row(prefix + str(layer), out_shape, parameters, products)]


def _made(layer: Layer, in_shape: Shape) -> Any:
    """Shapes of params and state, without drawing a number; and the output shape."""
    out_shape: list[Shape] = []

    def init(key: Any) -> Any:
        params, state, shape = layer.init(key, in_shape)
        out_shape.append(shape)
        return params, state

    params, state = jax.eval_shape(init, jax.random.key(0))
    return params, state, out_shape[0]


def _out_shape(layer: Layer, in_shape: Shape) -> Shape:
    return _made(layer, in_shape)[2]


def _products(layer: Layer, in_shape: Shape) -> int:
    """Multiply-adds of the matrix products in one example's forward pass."""
    params, state, _ = _made(layer, in_shape)
    x = jax.ShapeDtypeStruct((1, *in_shape), jnp.result_type(float))
    traced = jax.make_jaxpr(lambda p, s, x: layer.forward(p, s, x, None, False)[0])(params, state, x)
    return _products_in(traced.jaxpr)


def _products_in(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += int(np.prod(equation.outvars[0].aval.shape)) * int(np.prod([left[i] for i in contracted]))
        inner = sum(
            _products_in(getattr(p, "jaxpr", p))
            for p in equation.params.values()
            if hasattr(p, "eqns") or hasattr(p, "jaxpr")
        )
        total += inner * (equation.params["length"] if equation.primitive.name == "scan" else 1)
    return total
