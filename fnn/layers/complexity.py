"""How large a network is: layers, parameters, multiply-adds and output maps, counted as source document 3 does."""

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import arguments
from fnn.activations.elementwise import Activation
from fnn.arguments.leaves import as_shape, is_shape, numbers_in, rows_of_shape
from fnn.factories import Spec
from fnn.kernels import matmul
from fnn.layers.branches.splitting import parallel
from fnn.layers.combinators import as_layer, layer_of, repeat
from fnn.layers.images.convolution import conv2d
from fnn.layers.images.sequences import conv1d
from fnn.layers.images.transposed import conv_transpose2d
from fnn.layers.linear import dense
from fnn.layers.passes import forward_layer, init_layer
from fnn.layers.sparse import sparse_dense
from fnn.runs import markup
from fnn.types import Equation, Jaxpr, Key, Layer, LayerLike, Params, Shape, ShapeError, State

HEAD = "layer", "output shape", "parameters", "multiply-adds"


class LayerCost(NamedTuple):
    """One layer of a network: what it is, the shape of its output map for one example, and what it costs."""

    name: str
    out_shape: Shape
    parameters: int
    multiply_adds: int


class Complexity(NamedTuple):
    """The size of a network. Prints as the summary table.

    `layers` are those with products in them: the hidden ones and the output, the input layer is left out (source
    document 3).
    `parameters` are all w and b. `multiply_adds` are those of one example's forward pass; each is two FLOPs.
    `output_maps` is how many numbers the layers put out for one example.
    """

    rows: tuple[LayerCost, ...]
    layers: int
    parameters: int
    multiply_adds: int
    output_maps: int

    @property
    def forward_flops(self) -> int:
        """Of one example, the products alone: two a multiply-add."""
        return 2 * self.multiply_adds

    @property
    def training_flops(self) -> int:
        """Of one example: forward, by the weights, and by the inputs, which the first product does not need."""
        first = next((row.multiply_adds for row in self.rows if row.multiply_adds), 0)
        return 2 * (3 * self.multiply_adds - first)

    def output_map_bytes(self, bytes_a_number: int = 4) -> int:
        """Memory for every layer's output map of one example; 4 bytes a number in float32."""
        return bytes_a_number * self.output_maps

    def __repr__(self) -> str:
        cells = HEAD, *self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def _repr_html_(self) -> str:
        return markup.table(self._cells(), HEAD)

    def _cells(self) -> list[tuple[str, ...]]:
        """The lines of the table, the last of them that of the whole."""
        body = [(r.name, str(r.out_shape), f"{r.parameters:,}", f"{r.multiply_adds:,}") for r in self.rows]
        layers = f"{self.layers} layer{'' if self.layers == 1 else 's'}"
        last = (layers, f"{self.output_maps:,} numbers", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        return [*body, last]


@arguments.explain_call
def summary(net: LayerLike, in_shape: Shape) -> Complexity:
    """Layers, shapes, parameters and multiply-adds of a network, for examples of shape `in_shape` (no batch axis).

    A dense layer has `fan_in × features` multiply-adds and `fan_in × features + features` parameters. A convolution
    has `kh × kw × channels/groups × features` for each of its `rows × columns` outputs, those with padding counted too;
    and `kh × kw × channels/groups × features + features` parameters. A transposed one has
    `kh × kw × features/groups × channels` multiply-adds for each place of its inputs. What is made of layers has a row
    for each of them. Layers of your own are counted by the matrix products and convolutions in their forward pass; of
    the branches of a `lax.cond` by the largest.

    >>> import fnn
    >>> net = fnn.serial(fnn.dense(4), fnn.relu, fnn.dense(2))
    >>> size = fnn.summary(net, (3,))
    >>> print(size)
    layer     output shape  parameters  multiply-adds
    -------------------------------------------------
    dense(4)  (4,)                  16             12
    relu      (4,)                   0              0
    dense(2)  (2,)                  10              8
    -------------------------------------------------
    2 layers  10 numbers            26             20
    >>> size.forward_flops, size.training_flops, size.output_map_bytes()
    (40, 96, 40)

    Of several inputs `in_shape` is a dict or a tuple of shapes; rows of layers side by side begin with their branch:

    >>> two = fnn.serial(fnn.parallel(left=fnn.dense(2), right=fnn.dense(3)), fnn.concatenate())
    >>> [row.name for row in fnn.summary(two, {"left": (4,), "right": (5,)}).rows]
    ['left: dense(2)', 'right: dense(3)', 'concatenate()']
    """
    layer = layer_of("net", net)
    shape = as_shape("in_shape", in_shape, lambda n: arguments.whole_number("in_shape", n, 0, "Pass (3,), say."))
    rows = tuple(_rows(layer, shape))
    return Complexity(
        rows,
        sum(row.multiply_adds > 0 for row in rows),
        sum(row.parameters for row in rows),
        sum(row.multiply_adds for row in rows),
        sum(numbers_in(row.out_shape) for row in rows),
    )


def _rows(layer: Layer, in_shape: Shape) -> list[LayerCost]:
    """A row for every layer that is not made of others, in the order of the forward pass."""
    spec = layer.spec if isinstance(layer.spec, Spec) else Spec(None)
    if spec.factory is repeat:  # all rounds are alike
        once = _rows(as_layer(spec.children[0]), in_shape) if spec.children else []
        return [row._replace(name=f"{i}: {row.name}") for i in range(len(spec.children or ())) for row in once]
    if spec.factory is parallel:
        return _rows_of_branches(layer, in_shape)
    if spec.children is not None:
        return _rows_of_each(spec.children, in_shape)
    params, _, out_shape = _tables(layer, in_shape)
    parameters = sum(a.size for a in jax.tree.leaves(params))
    if spec.factory in (dense, conv2d, conv1d, conv_transpose2d):  # its weights, used once for each place
        places = in_shape if spec.factory is conv_transpose2d else out_shape
        return [LayerCost(str(layer), out_shape, parameters, params["w"].size * int(np.prod(places[:-1])))]
    if spec.factory is sparse_dense:  # a row of weights for each value
        return [LayerCost(str(layer), out_shape, parameters, in_shape[1] * out_shape[0])]
    row = LayerCost(str(layer), out_shape, parameters, _multiply_adds(layer, in_shape))
    return _rows_of_arguments(spec, row, in_shape) or [row]


def _rows_of_branches(layer: Layer, in_shape: Shape) -> list[LayerCost]:
    """The rows of layers side by side, each with the name of its branch."""
    _tables(layer, in_shape)  # raises for inputs that are not those of the branches
    given = dict(layer.spec.arguments)
    branches = dict(given["named"]) or dict(enumerate(given["layers"]))
    shapes: Any = dict.fromkeys(branches, in_shape) if is_shape(in_shape) else in_shape
    rows: list[LayerCost] = []
    for place, branch in branches.items():
        rows += [row._replace(name=f"{place}: {row.name}") for row in _rows(as_layer(branch), shapes[place])]
    return rows


def _rows_of_arguments(spec: Spec, whole: LayerCost, in_shape: Shape) -> list[LayerCost]:
    """The rows of the layers that a factory was given, if these one after another are `whole`: else none."""
    given = [value for _, value in spec.arguments]
    parts = [part for part in jax.tree.leaves(given, is_leaf=_is_layer) if _is_layer(part)]
    try:
        rows = _rows_of_each(parts, in_shape)
    except ShapeError:
        return []
    sums = tuple(sum(numbers) for numbers in zip(*(row[2:] for row in rows), strict=True))
    return rows if rows and (rows[-1].out_shape, *sums) == whole[1:] else []


def _is_layer(thing: object) -> bool:
    return isinstance(thing, (Layer, Activation))


def _rows_of_each(children: Iterable[LayerLike], in_shape: Shape) -> list[LayerCost]:
    rows: list[LayerCost] = []
    for child in map(as_layer, children):
        rows += _rows(child, in_shape)
        in_shape = _out_shape(child, in_shape)
    return rows


def _tables(layer: Layer, in_shape: Shape) -> tuple[Params, State, Shape]:
    """Shapes of params and state, without drawing a number; and the output shape."""
    out_shape: list[Shape] = []

    def init(key: Key) -> tuple[Params, State]:
        params, state, shape = init_layer(layer, key, in_shape)
        out_shape.append(shape)
        return params, state

    params, state = jax.eval_shape(init, arguments.key(0))
    return params, state, out_shape[0]


def _out_shape(layer: Layer, in_shape: Shape) -> Shape:
    return _tables(layer, in_shape)[2]


def _multiply_adds(layer: Layer, in_shape: Shape) -> int:
    """Multiply-adds of the matrix products and convolutions in one example's forward pass."""
    params, state, _ = _tables(layer, in_shape)
    x = rows_of_shape(in_shape, 1)
    traced = jax.make_jaxpr(lambda p, s, x: forward_layer(layer, p, s, x, None, False)[0])(params, state, x)
    return _products_in(traced.jaxpr)


def _products_in(jaxpr: Jaxpr) -> int:
    return sum(map(_products_of, jaxpr.eqns))


def _products_of(equation: Equation) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return int(equation.outvars[0].aval.size * prod(left[i] for i in contracted))
    if name in ("conv_general_dilated", "fnn_convolution_outputs"):
        kernel, layout = equation.invars[1].aval, parameters.get("dimension_numbers")
        features = -1 if layout is None else layout.rhs_spec[0]
        return int(equation.outvars[0].aval.size * (kernel.size // kernel.shape[features]))
    if name == "fnn_convolution_by_inputs":  # forward of a transposed one
        outputs, kernel = (variable.aval for variable in equation.invars)
        return int(outputs.size * (kernel.size // kernel.shape[-1]))
    if name == "mul" and matmul.SCOPE in str(equation.source_info.name_stack):  # of a few weights, on a CPU
        return int(equation.outvars[0].aval.size)
    if name == "cond":
        return max(_products_in(branch.jaxpr) for branch in parameters["branches"])
    inner = [getattr(p, "jaxpr", p) for p in parameters.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
    return sum(map(_products_in, inner)) * (parameters["length"] if name == "scan" else 1)
