"""What processes agree on, and what is said of one that is gone; a dictionary stands in for JAX's store."""

import threading
import time

import jax
import pytest

from fnn.devices import peers as module
from fnn.devices.peers import Peers, is_first, peers_of, together
from fnn.fitting.interrupts import catch_signals


class Store:
    """What JAX's key-value store does."""

    def __init__(self):
        self.values, self.new = {}, threading.Condition()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.new:
            assert allow_overwrite or key not in self.values
            self.values[key] = value
            self.new.notify_all()

    def blocking_key_value_get(self, key, timeout):
        with self.new:
            if not self.new.wait_for(lambda: key in self.values, timeout / 1000):
                raise jax.errors.JaxRuntimeError(f"DEADLINE_EXCEEDED: {key}")
            return self.values[key]

    def key_value_delete(self, key):
        del self.values[key]

    def key_value_dir_get(self, key):
        return [(name, value) for name, value in self.values.items() if name.startswith(key)]


class Ended(BaseException):
    """Instead of the end of the process."""


@pytest.fixture
def both(monkeypatch):
    """Two processes that have one store, and what they say."""
    store, said = Store(), []
    made = []

    def end(self, text):
        self._tell(text)
        raise Ended(text)

    monkeypatch.setattr(Peers, "_end", end)
    for index in range(2):
        peers = Peers(said.append, catch_signals)
        peers.index, peers.count, peers._client, peers._name = index, 2, store, "fnn/0"
        made.append(peers)
    return *made, said


def at_once(*functions):
    """What functions return or raise that run at once."""
    found = [None] * len(functions)

    def call(place):
        try:
            found[place] = functions[place]()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_what_is_the_same_passes_and_what_differs_is_named_on_all(both):
    one, other, _ = both
    assert at_once(lambda: one.check_same({"a": 1}), lambda: other.check_same({"a": 1})) == [None, None]
    one._client.values.clear()
    about = {"a": 1, "t": "x" * 200}, {"a": 2, "t": "x" * 200, "b": 3}
    errors = at_once(lambda: one.check_same(about[0]), lambda: other.check_same(about[1]))
    for error in errors:
        assert isinstance(error, ValueError) and "a: expected 1 as on process 0, got 2 on 1" in str(error)
        assert "b: expected none as on process 0, got 3 on 1" in str(error) and "t:" not in str(error)


def test_one_that_does_not_come_is_named(both, monkeypatch):
    monkeypatch.setattr(module, "START", 0.1)
    with pytest.raises(ValueError, match="got no word from process 1"):
        both[0].check_same({})


def test_the_first_process_says_a_word_to_all_or_raises_in_all(both):
    one, other, _ = both
    assert at_once(lambda: one.from_first(lambda: "[1]"), lambda: other.from_first(lambda: "none")) == ["[1]", "[1]"]
    first, second = at_once(lambda: one.from_first(lambda: [][0]), lambda: other.from_first(lambda: ""))
    assert isinstance(first, IndexError) and isinstance(second, ValueError) and "On process 0" in str(second)


def test_words_come_from_all_in_order_however_late_and_leave_nothing_behind(both, monkeypatch):
    one, other, _ = both
    monkeypatch.setattr(module, "BEAT", 0.01)  # so long a look takes

    def late(number):
        time.sleep(0.1)
        return other.gather_words(f"b{number}", "rows")

    for number in range(3):
        expected = [f"a{number}", f"b{number}"]
        assert at_once(lambda n=number: one.gather_words(f"a{n}", "rows"), lambda n=number: late(n)) == [expected] * 2
    assert at_once(lambda: one.gather_words("x", "other"), lambda: other.gather_words("y", "other")) == [["x", "y"]] * 2
    assert sorted(one._client.values) == [
        f"fnn/0/gathered/{of}/{n}/{i}" for of, n in (("other", 0), ("rows", 2)) for i in (0, 1)
    ]
    one._over.set()  # the run has ended: nobody waits on
    with pytest.raises(jax.errors.JaxRuntimeError):
        one.gather_words("a", "rows")


def beat(peers, segment, count):
    peers._client.key_value_set(f"fnn/0/beat/{peers.index}", f"{segment} {count}", True)


def test_one_that_is_silent_is_named_with_its_segment(both, monkeypatch):
    one, other, _ = both
    monkeypatch.setattr(module, "SILENT", 0.1)
    monkeypatch.setattr(module, "BEAT", 0.01)
    beat(other, 41, 0)
    for count in range(3):
        beat(one, 42, count)
        one._look()
        time.sleep(0.06)
    with pytest.raises(Ended, match="process 1 of 2 last reported in segment 41"):
        one.give_up(jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection reset by peer"))
    one._together = 44  # all have come to this segment since it said where it is
    with pytest.raises(Ended, match="process 1 of 2 last reported in segment 44"):
        one.give_up(jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection reset by peer"))
    one.give_up(ConnectionError("connection of the user's own"))
    other._seen.clear()
    with pytest.raises(Ended, match="process 0 of 2, which"):
        other.give_up(ValueError("gloo"))


def test_of_the_others_the_first_process_names_those_that_have_not_come(both, monkeypatch):
    one, other, _ = both
    monkeypatch.setattr(module, "SILENT", 0.0)  # so that nothing is waited for
    monkeypatch.setattr(one, "_silent", list)
    beat(one, 0, 0)
    one._look()
    lost = jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection reset by peer")
    with pytest.raises(Ended, match="process 1 of 2 has not come to this call"):
        one.give_up(lost)
    beat(other, 0, 0)
    one._look()
    with pytest.raises(Ended, match=r"^another process has ended"):
        one.give_up(lost)


def test_one_that_is_late_is_told_and_one_that_is_stuck_ends_all(both, monkeypatch):
    one, other, said = both
    monkeypatch.setattr(module, "SLOW", 0.05)
    monkeypatch.setattr(module, "LONG", 0)
    one._segment = 8
    beat(one, 8, 0)
    beat(other, 7, 0)
    one._look()
    time.sleep(0.1)
    for count in range(2):
        beat(other, 7, count)
        one._look()
    assert len(said) == 1 and "process 1 of 2 last reported in segment 7" in said[0]
    monkeypatch.setattr(module, "STUCK", 0.05)
    with pytest.raises(Ended, match="segment 7"):
        one._look()
    beat(other, 8, 3)
    one._look()  # it goes on: nobody is late


def test_where_another_has_failed_this_one_has_a_while_to_end_by_itself(both, monkeypatch):
    one, other, _ = both
    monkeypatch.setattr(module, "GRACE", 0.05)
    with pytest.raises(ZeroDivisionError), other.look_after():
        raise ZeroDivisionError("there")
    one._look()
    time.sleep(0.1)
    with pytest.raises(Ended, match="process 1 of 2 has ended with ZeroDivisionError: there"):
        one._look()


def test_one_process_alone_has_no_peers():
    assert peers_of(None, print, catch_signals) is None and is_first(None)
    with together(None):
        pass
