"""Where the rows of a prediction come from: arrays, files, streams, as chunks of a few sizes."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fnn.arguments import sparse
from fnn.arguments.leaves import check_one_row_axis, is_several, is_shape, row_count
from fnn.data import arrays, checks
from fnn.data.streams import DataLike, Stream, as_stream, is_stream
from fnn.runs import Run
from fnn.types import Columns, DType, Shape, Tree

BUCKETS = (1, 8, 64, 128, 256, 512)  # rows of a program for fewer than `batch_size` of them


def program_rows(rows: int, size: int) -> int:
    """How many rows the program has for so many, at most `size` at once: few sizes, so that few programs compile.

    >>> from fnn.inference.row_chunks import program_rows
    >>> [program_rows(rows, 1024) for rows in (1, 2, 9, 600, 5000)]
    [1, 8, 64, 1024, 1024]
    """
    return next((bucket for bucket in BUCKETS if rows <= bucket < size), size)


def input_chunks(x: DataLike, run: Run, size: int) -> tuple[int | None, int, Iterator[Any]]:
    """How many rows there are (None: not known), rows of a chunk, and the chunks `(x,)`.

    >>> import fnn
    >>> from fnn.inference.row_chunks import input_chunks
    >>> rows, size, chunks = input_chunks([[1.0], [2.0], [3.0]], fnn.Run((), (), None, None), 2)
    >>> print(rows, size, [x.shape for (x,) in chunks])
    3 2 [(2, 1), (1, 1)]
    """
    dtype = arrays.dtype_of_run(run.params)
    if is_stream(x):
        stream = as_stream("x", x, once=True)
        return stream.rows, program_rows(stream.rows or size, size), _stream_chunks(stream, run, dtype)
    if is_several(x) and is_mapped(x):
        rows = row_count(x)
        check_one_row_axis("x", x)
        return rows, program_rows(rows, size), _slices(x, rows, dtype, size, run.in_shape)
    if isinstance(x, np.memmap):
        checks.check_axes("x", x, x.shape, run.in_shape)
        if not len(x):
            raise ValueError(f"x: expected at least one row, got shape {x.shape}. Pass rows.")
        return len(x), program_rows(len(x), size), _slices(x, len(x), dtype, size)
    arrays.same_columns("x", run.columns, Columns(arrays.columns_in(x)))
    cut = checks.LostDigits()
    whole = checks.inputs("x", x, dtype, cut, in_shape=run.in_shape)
    cut.warn(dtype)
    rows = row_count(whole)
    if rows <= size:
        return rows, program_rows(rows, size), iter([(whole,)])
    chunks = ((jax.tree.map(lambda a, i=i: a[i : i + size], whole),) for i in range(0, rows, size))
    return rows, program_rows(rows, size), chunks


def is_mapped(x: Tree) -> bool:
    """Whether all arrays are files, which are never loaded whole.

    >>> from fnn.inference.row_chunks import is_mapped
    >>> is_mapped({"age": np.zeros((2, 1))})
    False
    """
    return all(isinstance(leaf, np.memmap) for leaf in jax.tree.leaves(x))


def _slices(x: Tree, rows: int, dtype: DType, size: int, in_shape: Shape | None = None) -> Iterator[Any]:
    cut = checks.LostDigits()
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        part = jax.tree.map(lambda a, start=start, stop=stop: a[start:stop], x)
        yield (checks.inputs(f"x[{start}:{stop}]", part, dtype, cut, in_shape=in_shape),)
        cut.warn(dtype)


def _stream_chunks(stream: Stream, run: Run, dtype: DType) -> Iterator[Any]:
    cut, fill = checks.LostDigits(), sparse.Room()
    for number, chunk in enumerate(stream.chunks((0,), 0, False)):
        several = isinstance(chunk, tuple) or (isinstance(chunk, list) and np.ndim(chunk[0]) > 1)
        name, x = f"x, chunk {number}", chunk[0] if several else chunk
        arrays.same_columns((name,), run.columns, Columns(arrays.columns_in(x)))
        yield (fill(name, x, checks.inputs(name, x, dtype, cut, in_shape=several_shape(run))),)
        cut.warn(dtype)


def several_shape(run: Run) -> Shape | None:
    """The shape of one example where that is of several arrays; else None.

    >>> import fnn
    >>> from fnn.inference.row_chunks import several_shape
    >>> several_shape(fnn.Run((), (), None, None, {"age": (1,)})), several_shape(fnn.Run((), (), None, None, (1,)))
    ({'age': (1,)}, None)
    """
    return None if run.in_shape is None or is_shape(run.in_shape) else run.in_shape
