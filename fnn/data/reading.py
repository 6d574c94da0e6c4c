"""What a run has read of its stream, in short: how many rows, and a check sum of them in their order.

It is kept in the run's checkpoints. Whoever goes on reads some of it again, and is refused where the rows are others.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fnn.data.warnings import warn

_BLOCK = 1024  # words of 8 bytes: what becomes one number
# a change of one word changes the number of its block for certain, since odd numbers have an inverse modulo 2^64
_ODD = np.random.Generator(np.random.Philox(0)).integers(0, 2**63, _BLOCK, dtype=np.uint64) * np.uint64(2) + np.uint64(
    1
)


def check_sum(arrays: Iterable[Any], before: int = 0) -> int:
    """A number below 2^32 of the bytes of contiguous arrays, and of the number before them.

    Each block of 8 KiB becomes one number, a sum of its words times odd numbers; these become one by CRC-32. That takes
    a third of the time that CRC-32 of all bytes takes.

    >>> import numpy as np
    >>> from fnn.data.reading import check_sum
    >>> rows = np.arange(4000.0)
    >>> check_sum([rows]) == check_sum([rows.copy()]), check_sum([rows]) == check_sum([rows[::-1].copy()])
    (True, False)
    """
    for array in arrays:
        data = array.reshape(-1).view(np.uint8)
        whole = data.size // (8 * _BLOCK) * (8 * _BLOCK)
        numbers = data[:whole].view(np.uint64).reshape(-1, _BLOCK) @ _ODD
        before = zlib.crc32(data[whole:], zlib.crc32(numbers, before))
    return before


class BufferRecord(NamedTuple):
    """So much of an epoch, up to the end of a buffer; that of a whole epoch has the epoch's `last` buffer in it."""

    epoch: int
    buffer: int
    rows: int  # of the epoch, up to there
    check_sum: int
    last: bool = False


class StreamRecord:
    """What a run has read: `room`, the rows of its buffers; its first buffer, each whole epoch, the epoch under way.

    Args:
        kept: `kept()` of the run that this one goes on with; None: it starts anew.
        numbered: whether the stream knows the epoch's number, so that it can give the rows of any epoch again.
    """

    def __init__(self, kept: Mapping[str, np.ndarray] | None = None, numbered: bool = True) -> None:
        self.room: int | None = None
        self.first: BufferRecord | None = None
        self.under_way: BufferRecord | None = None
        self.whole: list[tuple[int, int]] = []  # rows and check sum of each whole epoch
        self.numbered = numbered
        if kept:
            self.room = int(kept["room"]) or None
            self.first, self.under_way = (_unpack(kept[name]) for name in ("first", "under_way"))
            self.whole = [(int(rows), int(check_sum)) for rows, check_sum in kept["whole"]]
        # what is compared with what comes
        self._expected = self.under_way
        self._next = len(self.whole)
        self.shuffles = not numbered and len(set(self.whole)) > 1

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        return {
            "room": np.array(self.room or 0),
            "first": np.array(self.first or (), np.int64),
            "under_way": np.array(self.under_way or (), np.int64),
            "whole": np.array(self.whole, np.int64).reshape(-1, 2),
        }

    def take(self, seen: BufferRecord, room: int) -> None:
        """A buffer is about to be trained on."""
        self.room, self.first, self.under_way = room, self.first or seen, seen

    def end_epoch(self) -> None:
        """The epoch under way has been trained on to its end."""
        assert self.under_way is not None
        self.whole.append((self.under_way.rows, self.under_way.check_sum))
        self.under_way = None

    def warn_if_it_shuffles(self) -> None:
        """Say that a stream which gave other rows each epoch, without knowing its number, cannot give them again."""
        if self.shuffles:
            warn(
                "checkpoint: expected a stream that can give the rows of an epoch again, got one that gave others in "
                "each epoch and does not know the epoch's number, so it shuffles by itself. The run goes on with other "
                "rows than without the interruption. Pass a function of the epoch, such as def chunks(epoch), that "
                "draws the order from it.",
            )

    def check_first(self, seen: BufferRecord) -> None:
        """Compare the first buffer, read again."""
        if self.first is not None and not self.shuffles:
            _check_same(self.first, seen)

    def check(self, seen: BufferRecord) -> None:
        """Compare what has been read before: of the epoch under way; or where all epochs were the same, of the next."""
        if self.shuffles or seen.epoch != self._next:
            return
        expected = self._expected
        if expected is not None and (seen.buffer == expected.buffer or (seen.last and seen.buffer < expected.buffer)):
            _check_same(expected, seen)
        whole = self.whole[: self._next]
        if seen.last and not self.numbered and len(whole) > 1:
            _check_same(BufferRecord(seen.epoch - 1, seen.buffer, *whole[-1], True), seen)


def _unpack(kept: np.ndarray) -> BufferRecord | None:
    if not len(kept):
        return None
    epoch, buffer, rows, check_sum, last = map(int, kept)
    return BufferRecord(epoch, buffer, rows, check_sum, bool(last))


def _check_same(before: BufferRecord, now: BufferRecord) -> None:
    if before[2:] == now[2:]:
        return
    got = f"{now.rows} rows" if before.rows != now.rows else "others"
    raise ValueError(
        f"checkpoint: expected the stream to give the {before.rows} rows again that it gave in epoch {before.epoch}"
        f"{'' if before.last else ' at first'}, got {got}: its data have changed, or it shuffles without a seed of the "
        "epoch. Pass the data of before, in an order drawn from the epoch's number, or name another folder to start "
        "anew."
    )
