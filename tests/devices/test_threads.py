"""Threads: what they return and raise, whose settings they have, and how waiting for them is given up."""

import contextlib
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from fnn.devices import threads
from fnn.devices.threads import Interrupted, Task, results


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def wait_for_ever(ended=None):
    try:
        while True:
            time.sleep(0.005)
    finally:
        if ended is not None:
            ended.append(True)


def test_tasks_return_and_raise_where_they_are_waited_for():
    names = []

    def fail():
        raise ZeroDivisionError("in the thread")

    assert results([Task(lambda: names.append(threading.current_thread().name), "a name"), Task(lambda: 2, "b")]) == [
        None,
        2,
    ]
    assert names == ["a name"]
    with pytest.raises(ZeroDivisionError, match="in the thread"):
        results([Task(lambda: 1, "good"), Task(fail, "bad")])


def test_a_task_computes_with_the_settings_of_the_thread_that_made_it():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        task = Task(lambda: (jnp.zeros(1).dtype, jax.config.jax_default_matmul_precision), "settings")
    assert task.result() == (jnp.float64, "highest")


def test_where_no_thread_can_start_the_function_runs_here(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    task = Task(threading.current_thread, "here")
    assert results([task]) == [threading.main_thread()]
    task.end(1.0)
    with pytest.raises(RuntimeError):
        Task(lambda: 1, "not here", here=False)


def test_a_thread_that_waits_is_made_to_end_and_its_function_cleans_up():
    ended = []
    task = Task(lambda: wait_for_ever(ended), "waits")
    task.end(0.01)
    assert task.wait(0) and ended == [True]


@pytest.mark.parametrize("end", [lambda task: task.end(0.01), lambda task: results([task], lambda: True)])
def test_a_thread_is_made_to_end_although_python_swallows_the_exception(end, monkeypatch):
    """As it does where the exception is raised while garbage is collected."""
    monkeypatch.setattr(threads, "PATIENCE", 0.02)
    swallowed = []

    def swallow_then_wait():
        try:
            wait_for_ever()
        except SystemExit:
            swallowed.append(True)
        wait_for_ever()

    task = Task(swallow_then_wait, "swallows")
    with contextlib.suppress(Interrupted):
        end(task)
    assert task.wait(0) and swallowed == [True]


def test_one_that_ends_by_itself_soon_is_left_to():
    let_go, ended = threading.Event(), []
    task = Task(lambda: (let_go.wait(), ended.append(True)), "ends")
    threading.Timer(0.05, let_go.set).start()
    task.end(60.0)
    assert ended == [True]


def test_results_are_not_waited_for_where_the_program_is_to_stop(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.02)
    ended = []
    with pytest.raises(Interrupted):
        results([Task(lambda: 1, "done"), Task(lambda: wait_for_ever(ended), "waits")], lambda: True)
    assert ended == [True]
    assert results([Task(lambda: 1, "done")], lambda: True) == [1]  # ended in time


def test_the_threads_that_run_something_of_fnn_are_known():
    let_go = threading.Event()
    foreign = threading.Thread(target=let_go.wait)
    foreign.start()
    task = Task(let_go.wait, "ours")
    inside = threads._threads_inside()
    let_go.set()
    foreign.join()
    task.result()
    assert task._thread.ident in inside and foreign.ident not in inside
