"""Streams of which each process reads its own rows: two threads in the place of processes agree on their batches."""

import queue
import threading

import numpy as np
import pytest

import fnn
from fnn.data.buffers import BufferPlan, buffers
from fnn.data.shares import Shares
from fnn.data.streams import as_stream


class Words:
    """What processes say, from each to all."""

    def __init__(self, count):
        self.count, self.queues = count, [[queue.Queue() for _ in range(count)] for _ in range(count)]

    def gather(self, index, text):
        for to in range(self.count):
            self.queues[index][to].put(text)
        return [self.queues[of][index].get(timeout=20) for of in range(self.count)]


def read(lengths, batch_size=2, rows=None, epochs=2, shuffle=False):
    """The buffers of each process; `lengths[process][epoch]` rows, numbered by process, epoch and place."""
    words, found = Words(len(lengths)), [None] * len(lengths)

    def work(index):
        def chunks(epoch):
            place = np.arange(lengths[index][epoch], dtype="float32")
            yield 1000.0 * index + 100 * epoch + place[:, None], place[:, None]

        shares = Shares(index, len(lengths), lambda text: words.gather(index, text))
        plan = BufferPlan(
            as_stream("data", chunks), batch_size, rows, (7,), shuffle, np.dtype("float32"), shares=shares
        )
        found[index] = list(buffers(plan, range(epochs)))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(lengths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("lengths", [[[5, 5], [5, 5]], [[9, 1], [2, 8]], [[1, 1], [13, 13], [6, 2]]])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_is_used_once_per_epoch_and_all_take_the_same_steps(lengths, rows, shuffle):
    found = read(lengths, rows=rows, shuffle=shuffle)
    for of_all in zip(*found, strict=True):  # as many buffers on each
        first = of_all[0]
        for index, own in enumerate(of_all):
            assert (own.first, own.count, own.last, own.check_sum) == (
                first.first,
                first.count,
                first.last,
                first.check_sum,
            )
            assert np.array_equal(own.mask, first.mask) and own.part.x.shape == (len(own.mask), 2, 1)
            mine = own.mask[:, 2 * index : 2 * index + 2]
            assert np.array_equal(own.part.weight, mine)
    for index, buffers_of in enumerate(found):
        ends = np.cumsum([own.last for own in buffers_of]) - [own.last for own in buffers_of]
        for epoch in range(2):
            mine = [own for own, at in zip(buffers_of, ends, strict=True) if at == epoch]
            got = np.concatenate([own.part.x[own.mask[:, 2 * index : 2 * index + 2]].ravel() for own in mine])
            assert sorted(got) == [1000 * index + 100 * epoch + n for n in range(lengths[index][epoch])]
            assert sum(own.count for own in mine) == len(lengths) * 2 * -(-max(of[epoch] for of in lengths) // 2)
            firsts = [own.first for own in mine]
            assert firsts == [n * len(mine[0].mask) for n in range(len(mine))]


def test_a_run_that_goes_on_has_the_buffers_that_were_left():
    lengths = [[9, 1], [2, 8]]
    whole = read(lengths, rows=4)
    again = read([of[1:] for of in lengths], rows=4, epochs=1)
    assert [int(own.count) for own in again[0]] == [int(own.count) for own in whole[0] if own.part.x[0, 0, 0] >= 100]


def test_own_rows_of_one_process_are_all_rows():
    def chunks(epoch):
        yield np.ones((6, 2)), np.ones((6, 1))

    stream = fnn.own_rows(chunks)
    assert stream.own and fnn.own_rows(stream).own
    with pytest.raises(TypeError, match="source: expected a stream of chunks"):
        fnn.own_rows(3)
