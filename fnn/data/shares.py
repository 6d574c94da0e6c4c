"""Streams of which each process reads only its own rows: batches that all processes make together.

Each process gathers rows for a buffer, and says how many it has. All then train on as many batches as the one with the
most rows needs. In those each process has the same places, and one that has fewer rows leaves some of its places empty.
So processes may have unequally many rows, and still end an epoch with the same step.
"""

import json
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from fnn import arguments
from fnn.data.reading import BufferRecord
from fnn.data.streams import Stream, as_stream, is_stream, open_stream


class Shares(NamedTuple):
    """The processes that read a stream together."""

    process: int  # this one
    processes: int
    gather: Callable[[str], list[str]]  # hands over a word of this process, and waits for those of all, in order


class Filling(NamedTuple):
    """Rows in the order in which they came, in memory that the next ones will overwrite."""

    stage: Any
    rows: int  # of a buffer
    seen: BufferRecord
    filled: int  # of them
    counts: tuple[int, ...] = ()  # that each process has filled; () where there is one
    structure: Any = None  # of inputs and targets, whose leaves the stage has, and the weights last


@arguments.explain_call
def own_rows(source: Any) -> Stream:
    """A stream of which each process reads only its own rows, for a `mesh` of several processes.

    Without it all processes read the same rows, and each trains on its share of them. With it each process opens its
    own files, say, and holds its own rows alone. A batch takes `batch_size` over the number of processes from each.
    Processes may have unequally many rows: an epoch ends when the last one has no more, and a batch then has the rows
    that there are. Each process shuffles its own rows.

    Args:
        source: what `fnn.fit` takes as a stream. It gives at least one row per epoch on each process, and rows of the
            same shape and dtype on all.

    Returns:
        A `Stream`. In a program of one process it is that of the source.

    Raises:
        TypeError: the source is no stream.

    >>> import fnn, jax, numpy as np
    >>> def chunks(epoch):
    ...     for number in range(jax.process_index(), 8, jax.process_count()):  # its share of eight files
    ...         yield np.full((4, 3), number), np.ones((4, 1))
    >>> print(fnn.own_rows(chunks), fnn.own_rows(chunks).own)
    chunks True
    """
    if not is_stream(source):
        got = arguments.describe_thing(source)
        raise TypeError(f"source: expected a stream of chunks, got {got}. Pass a function such as def chunks(epoch).")
    stream = source if isinstance(source, Stream) else open_stream(as_stream("source", source))
    return stream._replace(own=True)


def level(
    shares: Shares, batch_size: int, rows: int | None, local: Generator[Filling, int | None, None]
) -> Iterator[Filling]:
    """Fillings of which all processes have equally many per epoch; one whose rows are at an end has empty ones.

    Args:
        shares: the processes.
        batch_size: rows of this process in a batch.
        rows: of a buffer, of this process, where that is known.
        local: the fillings of this process, which is sent how many rows a buffer has.
    """
    most, filling = rows or 0, next(local, None)
    while filling is not None:
        number, filled, more = filling.seen.buffer, filling.filled, True
        while more:
            words = shares.gather(json.dumps([filled, filling.seen.last, filling.seen.check_sum]))
            counts, ended, _ = zip(*map(json.loads, words), strict=True)
            reached = -(-max(counts) // batch_size) * batch_size
            most, last = max(most, reached), all(ended)
            so_far = shares.processes * (number * most + reached)
            check = zlib.crc32(" ".join(words).encode())
            seen = BufferRecord(filling.seen.epoch, number, so_far, check, last)
            yield Filling(filling.stage, most, seen, filled, counts, filling.structure)
            more = filling.seen.last and not last
            number, filled = number + 1, 0
        try:
            filling = local.send(most)
        except StopIteration:
            return


def real_places(counts: tuple[int, ...], batch_size: int, rows: int) -> np.ndarray:
    """Which places of each batch have a row, `(batches, places)`: each process has `batch_size` of them, in order.

    >>> from fnn.data.shares import real_places
    >>> real_places((3, 1), batch_size=2, rows=4).astype(int)
    array([[1, 1, 1, 0],
           [1, 0, 0, 0]])
    """
    place = np.arange(rows).reshape(-1, batch_size)
    return np.concatenate([place < count for count in counts], 1)
