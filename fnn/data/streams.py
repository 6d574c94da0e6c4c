"""Data larger than memory, on the host: where rows come from in chunks of any size, and what a chunk must be."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn import arguments
from fnn.arguments import sparse
from fnn.arguments.leaves import is_several, named_leaves, row_count
from fnn.data import checks
from fnn.factories import Spec
from fnn.types import Arrays, DType, Named, PathLike, Record, Shape, ShapeError, Tree

CHUNK_BYTES = 1_000_000  # of a memory-mapped file: many blocks mix in a buffer, and each is read at a stretch

Seed = tuple[int, ...]
Chunk = Sequence[Arrays]  # (inputs, targets), or (inputs, targets, weights)
Mapped = PathLike | np.ndarray  # a file, or an array that is mapped


class Stream(NamedTuple):
    """Rows that come in chunks, anew each epoch. `fnn.memory_mapped` makes one; other sources become one by `fit`.

    - `chunks(seed, epoch, shuffle)`: an iterable of `(x, t)` or `(x, t, weight)`, of any numbers of rows.
    - `rows`: how many there are, where that is known.
    - `chunk_rows`: how many rows of a file are read at a stretch, where the order of the rows depends on that.
    - `numbered`: whether the rows are chosen by the epoch's number, so that those of any epoch can be had again.
    - `own`: whether each of several processes gets other rows (`fnn.own_rows`).
    """

    spec: Any
    chunks: Callable[[Seed, int, bool], Iterable[Any]]
    rows: int | None = None
    chunk_rows: int | None = None
    numbered: bool = True
    own: bool = False

    def __repr__(self) -> str:
        return str(self.spec)


# arrays, or a stream: chunks, or what makes them anew for each epoch
DataLike = Chunk | Named | Iterable[Chunk | Named] | Callable[..., Iterable[Chunk | Named]] | Stream


def is_stream(data: object) -> bool:
    """Whether this is a source of chunks: a generator function, an object to iterate over, a `Stream`."""
    if isinstance(data, Stream):
        return True
    table = isinstance(data, (tuple, list, dict, str, bytes)) or hasattr(data, "__array__") or hasattr(data, "to_numpy")
    table = table or isinstance(data, (type, Record)) or arguments.is_module(data) or sparse.is_sparse(data)
    return not table and (callable(data) or hasattr(data, "__iter__"))


def as_stream(name: str, source: Any, once: bool = False) -> Stream:
    """A `Stream` from what a user has.

    Args:
        name: what errors call it.
        source: a function that returns (or a generator function that yields) the chunks, called once an epoch, with
            the epoch's number if it takes an argument (one without a default, or `epoch`); or an object that can be
            iterated over again and again, as data loaders can; or a `Stream`.
        once: one pass will do, so that a generator that runs already may be passed too.

    >>> from fnn.data.streams import as_stream
    >>> stream = as_stream("data", lambda epoch: [([[epoch]], [1.0])])
    >>> list(stream.chunks((0,), 7, True))
    [([[7]], [1.0])]
    """
    if isinstance(source, Stream):
        return source
    if hasattr(source, "__next__") and not once:
        raise TypeError(
            f"{name}: expected a stream that starts anew each epoch, got a {type(source).__name__}, which is used up "
            "after one pass. Pass the function that makes it."
        )
    if hasattr(source, "__iter__"):
        return Stream(Spec(type(source).__name__), lambda seed, epoch, shuffle: source, numbered=False)
    if not callable(source):
        got = type(source).__name__
        raise TypeError(f"{name}: expected a stream of chunks, got {got}. Pass a generator function.")
    takes_epoch = _takes_an_argument(source)
    hint = "Pass a generator function, such as def chunks(epoch)."
    arguments.function(name, source, int(takes_epoch), "a function of the epoch that yields chunks", hint)

    def chunks(seed: Seed, epoch: int, shuffle: bool) -> Iterable[Any]:
        made: Any = arguments.call(name, source, *[epoch] * takes_epoch)
        if not hasattr(made, "__iter__") or isinstance(made, (str, bytes, dict)) or getattr(made, "ndim", 1) == 0:
            got = f"{arguments.describe_thing(made)} from {arguments.describe_thing(source)}"
            raise TypeError(f"{name}: expected chunks (x, t), got {got}. Yield them.")
        found: Iterable[Any] = made
        return found

    return Stream(Spec(getattr(source, "__name__", type(source).__name__)), chunks, numbered=takes_epoch)


def open_stream(stream: Stream) -> Stream:
    """A stream of which somebody may look at the first chunks: they are handed on, and nothing is opened twice.

    Who asks for epoch 0 first gets its chunks; who asks for it next gets the same, and those that were left. Not for
    streams whose order depends on the seed, such as `memory_mapped`: that is known later.

    >>> from fnn.data.streams import as_stream, open_stream
    >>> asked = []
    >>> stream = open_stream(as_stream("data", lambda epoch: (asked.append(epoch), iter("abc"))[1]))
    >>> print(next(iter(stream.chunks((0,), 0, True))), list(stream.chunks((0,), 0, True)), asked)
    a ['a', 'b', 'c'] [0]
    """
    looked_at: list[Any] = []
    left: list[Iterator[Any]] = []
    asked = 0

    def look(chunks: Iterator[Any]) -> Iterator[Any]:
        left.append(chunks)
        for chunk in chunks:
            looked_at.append(chunk)
            yield chunk

    def chunks(seed: Seed, epoch: int, shuffle: bool) -> Iterable[Any]:
        nonlocal asked
        if epoch == 0:
            asked += 1
            if asked == 1:
                return look(iter(stream.chunks(seed, epoch, shuffle)))
            if left:
                return _drain(looked_at, left.pop())
        return stream.chunks(seed, epoch, shuffle)

    return stream._replace(chunks=chunks)


def _drain(first: list[Any], then: Iterator[Any]) -> Iterator[Any]:
    """All of the list, which is emptied, and then the rest."""
    while first:
        yield first.pop(0)
    yield from then


def _takes_an_argument(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions do not tell
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # one with a default is no place for the epoch: a loop's lambda keeps its values so
    return any(p.default is p.empty or p.name == "epoch" for p in positional)


# ---- memory-mapped files


@arguments.explain_call
def memory_mapped(
    x: Mapped, t: Mapped | None = None, weight: Mapped | None = None, *, chunk_rows: int | None = None
) -> Stream:
    """A stream from `.npy` files that are never loaded whole: `fnn.fit(…, fnn.memory_mapped("x.npy", "t.npy"), …)`.

    With shuffling, the blocks of `chunk_rows` rows are read in a new order each epoch, and rows are shuffled within
    the buffer that many blocks go into. So a row meets those of other places in the file, though not every order of
    the rows is possible. The order depends on the key and the epoch alone.

    Args:
        x, t, weight: paths of files written by `np.save`, or arrays (`np.memmap`), with as many rows each. Without `t`
            the stream has inputs alone, for `fnn.predict`.
        chunk_rows: rows of a block; None makes blocks of about 1 MB.

    Raises:
        ValueError: no rows, not as many targets as inputs, or weights without targets.

    >>> import fnn, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.zeros((1000, 3)))
    ...     np.save(f"{folder}/t.npy", np.zeros(1000))
    ...     stream = fnn.memory_mapped(f"{folder}/x.npy", f"{folder}/t.npy", chunk_rows=300)
    ...     print(stream, stream.rows, [len(x) for x, t in stream.chunks((0,), 0, False)])
    memory_mapped(x[1000, 3], t[1000]) 1000 [300, 300, 300, 100]
    """
    if t is None and weight is not None:
        raise ValueError("memory_mapped: t: expected targets beside weights, got None. Pass both or neither.")
    names = [name for name, given in (("x", x), ("t", t), ("weight", weight)) if given is not None]
    arrays = [_memory_map(f"memory_mapped: {name}", value) for name, value in zip(names, (x, t, weight), strict=False)]
    for array in arrays[1:]:
        checks.same_rows("memory_mapped", arrays[0], array)
    rows = len(arrays[0])
    for name, array, axes in zip(names, arrays, ("at least 2", None, "1"), strict=False):
        if (name == "x" and array.ndim < 2) or (name == "weight" and array.ndim != 1):
            hint = "Save x[:, None]." if name == "x" else "Save one weight per row."
            raise ValueError(f"memory_mapped: {name}: expected {axes} axes, got shape {array.shape}. {hint}")
    row_bytes = max(1, sum(a.nbytes for a in arrays) // rows)
    size = max(1, CHUNK_BYTES // row_bytes)
    if chunk_rows is not None:
        size = arguments.whole_number("chunk_rows", chunk_rows, 1)

    return Stream(
        Spec(f"memory_mapped({', '.join(f'{n}{list(a.shape)}' for n, a in zip(names, arrays, strict=True))})"),
        _Blocks(tuple(names), (x, t, weight)[: len(names)], arrays, size),
        rows,
        size,
    )


class _Blocks:
    """The chunks of files. A pickle holds paths, where paths were given, and opens the files anew."""

    def __init__(self, names: tuple[str, ...], given: tuple[Any, ...], arrays: list[Any] | None, size: int):
        self.names, self.given, self.size = names, given, size
        self.arrays = arrays or [_memory_map(f"memory_mapped: {n}", v) for n, v in zip(names, given, strict=True)]

    def __call__(self, seed: Seed, epoch: int, shuffle: bool) -> Iterator[Any]:
        starts = np.arange(0, len(self.arrays[0]), self.size)
        for start in philox(2, *seed, epoch).permutation(starts) if shuffle else starts:
            parts = tuple(a[start : start + self.size] for a in self.arrays)
            yield parts if len(parts) > 1 else parts[0]

    def __reduce__(self) -> Any:
        return _Blocks, (self.names, self.given, None, self.size)


def _memory_map(name: str, value: Any) -> np.ndarray:
    if isinstance(value, (str, os.PathLike)):
        checks.path(name, value)
        try:
            value = np.load(os.path.expanduser(value), mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{name}: expected a file written by np.save, got {value}: {error}") from None
    is_array = isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer)
    if not is_array or arguments.is_deleted(value) or isinstance(value, np.ma.MaskedArray):
        got = arguments.describe_thing(value)
        raise TypeError(f"{name}: expected a path or an array, got {got}. Pass the file's name.")
    if not checks.is_numeric(value.dtype):
        raise TypeError(f"{name}: expected numbers, got dtype {value.dtype}. Convert to numbers, classes to 0, 1, ….")
    if value.ndim == 0 or value.size == 0:
        raise ValueError(f"{name}: expected at least one row and one number, got shape {value.shape}. Pass data.")
    array: np.ndarray = value
    return array


def philox(*words: int) -> np.random.Generator:
    """NumPy's Philox from these numbers: the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


# ---- chunks, checked on arrival


def check_chunk(
    name: str,
    value: Any,
    dtype: DType,
    cut: checks.LostDigits,
    missing: Tree = None,
    in_shape: Shape | None = None,
) -> tuple[Tree, Tree, np.ndarray | None]:
    """A chunk `(x, t)` or `(x, t, weight)` as NumPy arrays in the dtypes of a run; the weight may be None.

    They may still be the memory of the source. `cut` gets the names of what loses digits; `missing` is what the loss
    says of targets that are; `in_shape` as for `checks.inputs`.
    """
    _check_parts(name, value)
    checks.one_input(f"{name}, x", value[0], value[1])
    x = checks.inputs(f"{name}, x", value[0], dtype, cut, in_shape=in_shape)
    t = checks.targets(f"{name}, t", value[1], dtype, cut, missing=missing)
    checks.same_rows(name, x, t)
    if len(value) == 2 or value[2] is None:
        return x, t, None
    return x, t, checks.row_weights(f"{name}, weights", value[2], row_count(x))


def _check_parts(name: str, value: Any) -> None:
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        got = f"{len(value)} things" if isinstance(value, (tuple, list)) else arguments.describe_thing(value)
        raise TypeError(f"{name}: expected (inputs, targets) or (inputs, targets, weights), got {got}. Yield these.")


def has_rows(name: str, value: Any) -> bool:
    """Whether a chunk `(x, t)` or `(x, t, weight)` has any rows."""
    _check_parts(name, value)
    return not is_empty(value[0])


def is_empty(value: Any) -> bool:
    """Whether inputs or targets have no rows.

    >>> import numpy as np
    >>> from fnn.data.streams import is_empty
    >>> is_empty({"age": np.zeros((0, 1))}), is_empty([1.0])
    (True, False)
    """
    if sparse.is_sparse(value):
        return not value.shape[0]
    if is_several(value):
        parts = list(value.values()) if isinstance(value, dict) else value
        return bool(parts) and all(map(is_empty, parts))
    return hasattr(value, "__len__") and np.shape(value) != () and len(value) == 0


def rechunk(chunks: Iterable[tuple[Any, ...]], size: int) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Chunks of exactly `size` rows from chunks of any, in order, and how many of their rows are real.

    The last one is filled up with its first row. Arrays of a chunk, or of its dicts and tuples, have as many rows each.

    >>> import numpy as np
    >>> from fnn.data.streams import rechunk
    >>> [(x.tolist(), count) for (x,), count in rechunk([(np.arange(3),), (np.arange(3, 5),)], 4)]
    [([0, 1, 2, 3], 4), ([4, 4, 4, 4], 1)]
    """
    held: list[tuple[Any, ...]] = []
    count = 0
    structure: Any = None
    for number, chunk in enumerate(chunks):
        arrays, own = jax.tree.flatten(chunk)
        structure = own if structure is None else structure
        if own != structure:
            leaves = [", ".join(named_leaves("chunk", tree)) for tree in (jax.tree.unflatten(structure, arrays), chunk)]
            raise ShapeError(f"chunk {number}: expected {leaves[0]} as in the first, got {leaves[1]}. Make them alike.")
        if not count and len(arrays[0]) == size:
            yield chunk, size
            continue
        done = 0
        while done < len(arrays[0]):
            n = min(size - count, len(arrays[0]) - done)
            part = tuple(a[done : done + n] for a in arrays)
            done, count = done + n, count + n
            if count == size:
                yield jax.tree.unflatten(structure, _concatenate([*held, part])), count
                held, count = [], 0
            else:  # a copy: the source may use its memory again
                held.append(tuple(np.array(a) for a in part))
    if count:
        whole = [np.concatenate([a, np.repeat(a[:1], size - count, 0)]) for a in _concatenate(held)]
        yield jax.tree.unflatten(structure, whole), count


def _concatenate(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    if len(parts) == 1:
        return parts[0]
    if any(
        a.shape[1:] != b.shape[1:] or a.dtype != b.dtype for part in parts for a, b in zip(part, parts[0], strict=True)
    ):
        got = sorted({str([(a.shape[1:], a.dtype.name) for a in part]) for part in parts})
        raise ShapeError(f"chunks: expected rows of one shape and dtype, got {' and '.join(got)}. Make them alike.")
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
