"""Tasks on pools of workers: what is shared, what is lost, what is raised. Pools of threads stand in for processes."""

import pickle
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import jax
import numpy as np
import pytest

from fnn.devices import pools
from fnn.devices.pools import LOST, Pool, check_executor, pack, run_task, unpack
from fnn.devices.threads import never, thread_settings

BIG = np.arange(20_000.0)


class Instant:
    """A pool that calls at once, with what comes out of pickle; `faults` are raised first, one a task."""

    def __init__(self, faults=(), change=lambda *arguments: arguments):
        self.faults, self.change, self.calls, self.ended = list(faults), change, [], False

    def submit(self, function, *arguments):
        future = Future()
        self.calls.append(arguments)
        arguments = pickle.loads(pickle.dumps(self.change(*arguments)))
        if self.faults and (fault := self.faults.pop(0)) is not None:
            future.set_exception(fault)
        else:
            future.set_result(function(*arguments))
        return future

    def shutdown(self, wait=True):
        self.ended = True


def add(thing, argument, must_stop, show):
    show(7)
    return float(thing["big"][argument]) + thing["one"]


def fail(thing, argument, must_stop, show):
    class OfHere(Exception):
        pass

    raise (OfHere if argument else ZeroDivisionError)("of the function")


def until_stopped(thing, argument, must_stop, show):
    while not must_stop():
        pass
    return argument


def results(executor, function=add, tasks=((0, 3), (0, 4)), must_stop=never, show=lambda *of: None, things=None):
    told = []
    with Pool(executor, None, told.append) as pool:
        things = [{"big": BIG, "one": 1}] if things is None else things
        found = sorted(pool.results(function, things, tasks, show, must_stop))
    return found, told


@pytest.mark.parametrize("kind", [np.asarray, jax.numpy.asarray])
def test_large_arrays_are_pickled_apart_and_once(tmp_path, kind):
    big = kind(BIG)
    names = [pack({"big": big, "a": i, "key": jax.random.key(0) if i else 0}, str(tmp_path))[0] for i in range(2)]
    assert len(list(tmp_path.iterdir())) == 3
    one, other = (unpack(name, {}, str(tmp_path)) for name in names)
    assert one["big"] is other["big"] and isinstance(one["big"], type(big)) and np.array_equal(one["big"], big)


def test_what_cannot_be_pickled_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"executor: expected a study that can be pickled, got"):
        pack({"lock": __import__("threading").Lock()}, str(tmp_path))


def test_a_worker_that_cannot_see_the_folder_or_sees_another_file_is_sent_what_it_needs(tmp_path):
    pools._things.clear()
    elsewhere = Instant(change=lambda folder, *rest: ("/nowhere", *rest))
    assert results(elsewhere)[0] == [(0, 4.0), (1, 5.0)]
    assert [len(call[2]) for call in elsewhere.calls] in ([0, 0, 2, 2], [0, 0, 2], [0, 2, 0])
    name, names = pack({"big": BIG}, str(tmp_path))
    for file in names:
        (tmp_path / file).write_bytes(b"harmful")
    pools._things.clear()
    assert run_task(str(tmp_path), name, {}, add, 0, 0, settings())[0] == "missing"


def settings():
    return {pools.VERSIONS: pools._versions(), **thread_settings()}


def test_a_worker_of_other_versions_is_refused_by_name():
    kind, error = run_task("/nowhere", "name", {}, add, 0, 0, settings() | {pools.VERSIONS: "fnn 0, jax 0"})
    assert kind == "error" and "expected workers with fnn 0, jax 0, got one with fnn" in str(error)


def test_a_worker_computes_as_precisely_as_the_caller():
    with jax.enable_x64(True):
        made = [jax.numpy.asarray(BIG)]
        assert made[0].dtype == "float64"
        with ThreadPoolExecutor(1) as executor:
            found, _ = results(executor, dtype_of, [(0, 0)], things=made)
    assert found == [(0, "float64 float64")]


def dtype_of(thing, argument, must_stop, show):
    return f"{thing.dtype} {jax.numpy.ones(1).dtype}"


def test_what_is_lost_runs_again_and_is_told():
    executor = Instant([OSError("gone"), None, OSError("gone")])
    found, told = results(executor)
    assert found == [(0, 4.0), (1, 5.0)] and len(executor.calls) == 4 and len(told) == 2
    assert "expected workers that stay, got OSError (gone)" in told[0]


def test_what_is_lost_too_often_is_given_up():
    executor = Instant([OSError("gone")] * 100)
    with pytest.raises(RuntimeError, match=f"got OSError \\(gone\\) {LOST + 1} times"):
        results(executor)
    assert len(executor.calls) == 2 * (LOST + 1)


def test_a_broken_pool_is_made_anew_where_a_function_makes_it():
    made = [Instant([BrokenExecutor("dead"), BrokenExecutor("dead")]), Instant()]
    waiting = list(made)
    found, told = results(lambda: waiting.pop(0))
    assert found == [(0, 4.0), (1, 5.0)] and len(told) == 1 and all(pool.ended for pool in made)
    with pytest.raises(RuntimeError, match="Pass a function that makes the pool"):
        results(Instant([BrokenExecutor("dead")]))


@pytest.mark.parametrize(("argument", "error"), [(0, ZeroDivisionError), (1, RuntimeError)])
def test_what_a_function_raises_is_raised_here(argument, error):
    with pytest.raises(error, match="of the function"):
        results(Instant(), fail, [(0, argument)])


def test_a_stop_reaches_the_tasks_and_those_that_wait_never_begin():
    shown = []
    with ThreadPoolExecutor(1) as executor:
        asked = iter([False, False])
        found, _ = results(executor, until_stopped, [(0, 1), (0, 2)], lambda: next(asked, True))
        assert found == [(0, 1)]
        results(executor, slow, [(0, 1)], show=lambda place, number: shown.append((place, number)))
    assert (0, 5) in shown


def slow(thing, argument, must_stop, show):
    show(5)
    __import__("time").sleep(2 * pools.LOOK)


def test_what_a_killed_caller_left_is_removed(tmp_path):
    (tmp_path / f"{pools.PREFIX}old").mkdir()
    (tmp_path / "kept").mkdir()
    with Pool(Instant(), str(tmp_path), print) as pool:
        assert [path.name for path in tmp_path.iterdir() if path.name != "kept"] == [pool.folder.rpartition("/")[2]]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("wrong", [3, "pool", lambda workers: None, ThreadPoolExecutor])
def test_what_is_no_pool_is_refused(wrong):
    if wrong is ThreadPoolExecutor:
        assert check_executor(made := ThreadPoolExecutor(1)) is made and check_executor(None) is None
        return
    with pytest.raises(TypeError, match=r"executor: expected an executor, or a function that makes one"):
        check_executor(wrong)


def test_a_pool_that_is_shut_down_is_named():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(RuntimeError, match=r"executor: expected one that takes tasks, got .* Pass one that is open"):
        list(Pool(pool, None, print).results(abs, [None], [(0, 1)], lambda *_: None, lambda: False))
