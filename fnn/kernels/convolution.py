"""The three products of a convolution, each computed in the way that is fast on the platform: chosen here alone.

The outputs, the derivative by the weights and that by the inputs are linear in both of their factors, and the transpose
of each is one of the others. So JAX gets three primitives that are each other's transposes: `jax.grad` of a
convolution is the rule by hand, and forward mode and derivatives of any order follow.

On a CPU they are matrix products of patches. XLA's CPU convolutions lose by it: those that autodiff makes take ten
times as long inside a compiled loop as outside. A patch has the inputs of a tile of neighbouring outputs of a row:
their weights are the kernel, shifted, with zeros around. Some multiplications by 0 are made, but fewer and longer
pieces are copied, and the product is wide enough for its library. Elsewhere they are `lax.conv_general_dilated`, which
a GPU has a library for.

A zero of a band times nan or inf is nan, at outputs whose window has no such number. So images with one are multiplied
in tiles of one output, which have no zeros: what is not finite spoils what it is a term of, and nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fnn.kernels.windows import Windows, add_taps, taps
from fnn.types import Array, HasShape, Tree

WIDE = 80  # a tile has about so many outputs: the fastest, or nearly, for 20 and for 50 features (5 × 5, AVX-512)
IN_CACHE = 2**23  # bytes; if the patches of all members of a `vmap` are more, one member comes after the other


class Convolution(NamedTuple):
    """What slides: windows over the rows and the columns, and in how many groups the channels are."""

    rows: Windows
    columns: Windows
    groups: int = 1


def forward(x: Array, w: Array, c: Convolution) -> Array:
    """`x ∗ w`: (batch, height, width, in) and (kh, kw, in/groups, out) to (batch, rows, columns, out)."""
    outputs: Array = _outputs.bind(*_varying_alike(x, w), c=c)
    return outputs


def weight_gradient(x: Array, dy: Array, c: Convolution) -> Array:
    """The derivative by the weights."""
    by_weights: Array = _by_weights.bind(*_varying_alike(x, dy), c=c)
    return by_weights


def input_gradient(dy: Array, w: Array, c: Convolution) -> Array:
    """The derivative by the inputs."""
    by_inputs: Array = _by_inputs.bind(*_varying_alike(dy, w), c=c)
    return by_inputs


def _tiled_forward(x: Array, w: Array, c: Convolution, least: int = WIDE) -> Array:
    tile = _tile(c, w.shape[-1], least)
    return _untile(_times(_patches(x, tile), _band_product(w, tile), tile), tile)


def _tiled_weight_gradient(x: Array, dy: Array, c: Convolution, least: int = WIDE) -> Array:
    tile = _tile(c, dy.shape[-1], least)
    return _add_band(_uses_band(_patches(x, tile), _to_tiles(dy, tile), tile), tile)


def _tiled_input_gradient(dy: Array, w: Array, c: Convolution, least: int = WIDE) -> Array:
    tile = _tile(c, w.shape[-1], least)
    return _add_patches(_patches_product(_to_tiles(dy, tile), _band_product(w, tile), tile), tile)


def _uses_patches() -> bool:
    return jax.default_backend() == "cpu"


# ---- patches, and the kernel as a band matrix; under each the way back


class _Tile(NamedTuple):
    """`width` neighbouring outputs of a row at once: what they see of the columns is one wider window."""

    width: int
    rows: Windows
    columns: Windows
    shift: int  # between the windows of neighbours
    taps: int  # of the kernel, in a row
    outputs: int  # in a row
    groups: int


def _tile(c: Convolution, features: int, least: int = WIDE) -> _Tile:
    over = c.columns
    width = 1
    if over.dilation == 1:  # else a wider window has holes
        enough = -(-least * c.groups // features)
        few_zeros = 1 + 3 * over.size // (5 * over.stride)
        width = min(enough, few_zeros, over.outputs)
    size = (width - 1) * over.stride + over.size
    count, stride = -(-over.outputs // width), width * over.stride
    end = (count - 1) * stride + over.dilation * (size - 1) + 1  # of the last tile, beyond which nothing counts
    wide = Windows(over.numbers, size, stride, over.dilation, over.low, end - over.numbers - over.low)
    return _Tile(width, c.rows, wide, over.stride, over.size, over.outputs, c.groups)


def _has_zeros(tile: _Tile) -> bool:
    return tile.width > 1


def _has_spare(tile: _Tile) -> bool:
    """Whether the last tile reaches beyond the outputs."""
    return tile.columns.outputs * tile.width > tile.outputs


def _patches(x: Array, tile: _Tile) -> Array:
    """(batch, height, width, in) to (batch, rows, tiles, kh, places, in)."""
    x = jnp.stack(taps(x, 2, tile.columns), 3)
    return jnp.stack(taps(x, 1, tile.rows), 3)


def _add_patches(dp: Array, tile: _Tile) -> Array:
    dx = add_taps([dp[:, :, :, i] for i in range(tile.rows.size)], 1, tile.rows)
    return add_taps([dx[:, :, :, j] for j in range(tile.columns.size)], 2, tile.columns)


def _band_product(w: Array, tile: _Tile) -> Array:
    """(kh, kw, in, out) to (kh, places, in, width, out)."""
    free = tile.columns.size - tile.taps
    shifts = [i * tile.shift for i in range(tile.width)]
    return jnp.stack([jnp.pad(w, ((0, 0), (s, free - s), (0, 0), (0, 0))) for s in shifts], 3)


def _add_band(db: Array, tile: _Tile) -> Array:
    return sum(
        (db[:, i * tile.shift : i * tile.shift + tile.taps, :, i] for i in range(1, tile.width)),
        start=db[:, : tile.taps, :, 0],
    )


def _untile(y: Array, tile: _Tile) -> Array:
    """(batch, rows, tiles, width, out) to (batch, rows, columns, out); the last tile may reach too far."""
    return y.reshape(*y.shape[:2], y.shape[2] * tile.width, y.shape[-1])[:, :, : tile.outputs]


def _to_tiles(dy: Array, tile: _Tile) -> Array:
    spare = tile.columns.outputs * tile.width - tile.outputs
    dy = jnp.pad(dy, ((0, 0), (0, 0), (0, spare), (0, 0))) if spare else dy
    return dy.reshape(*dy.shape[:2], tile.columns.outputs, tile.width, dy.shape[-1])


# ---- products of patches p, band b and tiles y: y = p b, db = pᵀ dy, dp = dy bᵀ


def _times(p: Array, b: Array, tile: _Tile) -> Array:
    if tile.groups == 1:
        y = _matrix(p) @ _band_matrix(b)
    else:
        y = jnp.einsum("rkgi,kiwgo->rwgo", _group_product(p, tile), _grouped_band(b, tile))
    return y.reshape(*p.shape[:3], tile.width, b.shape[-1])


def _uses_band(p: Array, dy: Array, tile: _Tile) -> Array:
    if tile.groups == 1:
        db = _matrix(p).T @ _matrix(dy)
    else:
        db = jnp.einsum("rkgi,rwgo->kiwgo", _group_product(p, tile), _grouped_tiles(dy, tile))
    return db.reshape(*p.shape[3:5], p.shape[5] // tile.groups, *dy.shape[3:])


def _patches_product(dy: Array, b: Array, tile: _Tile) -> Array:
    if tile.groups == 1:
        dp = _matrix(dy) @ _band_matrix(b).T
    else:
        dp = jnp.einsum("rwgo,kiwgo->rkgi", _grouped_tiles(dy, tile), _grouped_band(b, tile))
    return dp.reshape(*dy.shape[:3], *b.shape[:2], b.shape[2] * tile.groups)


# (sizes are written out: there may be no rows, or a symbolic number of them, which -1 cannot be found from)


def _rows(p: Array) -> int:
    return p.shape[0] * p.shape[1] * p.shape[2]


def _matrix(p: Array) -> Array:
    return p.reshape(_rows(p), prod(p.shape[3:]))


def _band_matrix(b: Array) -> Array:
    return b.reshape(prod(b.shape[:3]), prod(b.shape[3:]))


def _group_product(p: Array, tile: _Tile) -> Array:
    return p.reshape(_rows(p), p.shape[3] * p.shape[4], tile.groups, p.shape[5] // tile.groups)


def _grouped_band(b: Array, tile: _Tile) -> Array:
    return b.reshape(b.shape[0] * b.shape[1], b.shape[2], tile.width, tile.groups, b.shape[4] // tile.groups)


def _grouped_tiles(y: Array, tile: _Tile) -> Array:
    return y.reshape(_rows(y), tile.width, tile.groups, y.shape[4] // tile.groups)


# ---- by the library


def _library_forward(x: Array, w: Array, c: Convolution) -> Array:
    return lax.conv_general_dilated(
        x,
        w,
        (c.rows.stride, c.columns.stride),
        ((c.rows.low, c.rows.high), (c.columns.low, c.columns.high)),
        rhs_dilation=(c.rows.dilation, c.columns.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=c.groups,
    )


def _library_weight_gradient(x: Array, dy: Array, c: Convolution) -> Array:
    """`x` against `dy`: the examples are what is summed over, so they stand where the channels stood."""
    ends = [(o.outputs - 1) * o.stride + o.span - o.numbers - o.low for o in c[:2]]
    return lax.conv_general_dilated(
        x,
        dy,
        (c.rows.dilation, c.columns.dilation),
        ((c.rows.low, ends[0]), (c.columns.low, ends[1])),
        rhs_dilation=(c.rows.stride, c.columns.stride),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        batch_group_count=c.groups,
    )


def _library_input_gradient(dy: Array, w: Array, c: Convolution) -> Array:
    """`dy`, with `stride - 1` zeros between its numbers, against the kernel turned by half a turn."""
    kh, kw, fan_in, features = w.shape
    turned = w[::-1, ::-1].reshape(kh, kw, fan_in, c.groups, features // c.groups).transpose(0, 1, 4, 3, 2)
    ends = [o.numbers + o.low - (o.outputs - 1) * o.stride - 1 for o in c[:2]]
    return lax.conv_general_dilated(
        dy,
        turned.reshape(kh, kw, features // c.groups, fan_in * c.groups),
        (1, 1),
        ((c.rows.span - 1 - c.rows.low, ends[0]), (c.columns.span - 1 - c.columns.low, ends[1])),
        lhs_dilation=(c.rows.stride, c.columns.stride),
        rhs_dilation=(c.rows.dilation, c.columns.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=c.groups,
    )


# ---- their rules in JAX


def _primitive(
    name: str, tiled: Callable[..., Array], library: Callable[..., Array], spoils: Callable[[_Tile], bool]
) -> Primitive:
    """Of the ways to compute it, and whether in a tile the images are multiplied by zeros that are no padding."""

    def compute(images: Array, other: Array, c: Convolution) -> Array:
        if not _uses_patches():
            return library(images, other, c)
        if not spoils(_tile(c, other.shape[-1])):
            return tiled(images, other, c)
        finite = jnp.isfinite((0 * images).sum())  # faster than `all`, as in `fnn.state`
        convolved: Array = lax.cond(
            every_member(finite), partial(tiled, c=c), partial(tiled, c=c, least=1), images, other
        )
        return convolved

    primitive = Primitive(f"fnn_convolution_{name}")
    primitive.def_impl(jax.jit(compute, static_argnames="c"))
    primitive.def_abstract_eval(partial(_shape, library))
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[primitive] = partial(_members, primitive, compute)
    return primitive


@jax.custom_batching.custom_vmap
def every_member(condition: Array) -> Array:
    """`condition`; under `vmap`, whether it holds for all members, so that one way is taken and not both."""
    return condition


@every_member.def_vmap
def _every_of_members(size: int, batched: Tree, condition: Array) -> tuple[Array, bool]:
    return every_member(condition.all(0)), False


def _shape(library: Callable[..., Array], a: HasShape, b: HasShape, *, c: Convolution) -> Any:
    """Also over which axes of a mesh the result varies: under `shard_map` the derivatives are summed by that."""
    return jax.make_jaxpr(partial(library, c=c))(a, b).out_avals[0]


def _varying_alike(*factors: Array) -> list[Array]:
    """Each said to vary over every axis of the mesh that one of them varies over; the way back is the sum over it."""
    over = [jax.typeof(factor).manual_axis_type.varying for factor in factors]
    missing = [frozenset().union(*over) - axes for axes in over]
    return [lax.pcast(f, tuple(m), to="varying") if m else f for f, m in zip(factors, missing, strict=True)]


def _members(
    primitive: Primitive,
    compute: Callable[..., Array],
    factors: Sequence[Array],
    axes: Sequence[Any],
    *,
    c: Convolution,
) -> tuple[Array, int]:
    """Under `vmap`: all members at once if they are small, else one by one, so that patches stay in the cache."""
    moved = [f if axis is None else jnp.moveaxis(f, axis, 0) for f, axis in zip(factors, axes, strict=True)]
    if not _uses_patches() or _patch_bytes(moved, c) < IN_CACHE:
        return jax.vmap(partial(compute, c=c), [None if axis is None else 0 for axis in axes])(*moved), 0
    of_each = tuple(f for f, axis in zip(moved, axes, strict=True) if axis is not None)

    def one(member: tuple[Array, ...]) -> Array:
        own = iter(member)
        made: Array = primitive.bind(
            *(f if axis is None else next(own) for f, axis in zip(moved, axes, strict=True)), c=c
        )
        return made

    return lax.map(one, of_each), 0


def _patch_bytes(factors: Sequence[Array], c: Convolution) -> int:
    """At most so many for all members: as if each number of the images stood in each place of the window."""
    images = max(factors, key=lambda f: f.size)
    return images.size * c.rows.size * c.columns.size * images.dtype.itemsize


_outputs = _primitive("outputs", _tiled_forward, _library_forward, _has_zeros)
_by_weights = _primitive("by_weights", _tiled_weight_gradient, _library_weight_gradient, _has_spare)
_by_inputs = _primitive("by_inputs", _tiled_input_gradient, _library_input_gradient, _has_zeros)

# the transposes by the first factor and by the second
ad.defbilinear(_outputs, lambda dy, x, w, c: input_gradient(dy, w, c), lambda dy, x, w, c: weight_gradient(x, dy, c))
ad.defbilinear(_by_weights, lambda dw, x, dy, c: input_gradient(dy, dw, c), lambda dw, x, dy, c: forward(x, dw, c))
ad.defbilinear(_by_inputs, lambda dx, dy, w, c: forward(dx, w, c), lambda dx, dy, w, c: weight_gradient(dx, dy, c))
