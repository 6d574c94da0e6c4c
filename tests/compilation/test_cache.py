"""Programs are remembered within bounds, and what is let go frees its memory and its memory mappings."""

import gc
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.arguments.constants import is_constant
from fnn.compilation import cache, programs
from fnn.compilation.cache import Cache

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
MAPS = Path("/proc/self/maps")
counted = pytest.mark.skipif(not MAPS.exists(), reason="this system does not list its memory mappings")


def mappings():
    gc.collect()
    return len(MAPS.read_bytes().splitlines())


def anonymous_megabytes():
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def fit(width=4, **arguments):
    net = fnn.serial(fnn.dense(width), fnn.tanh, fnn.dense(1))
    loss = arguments.pop("loss", fnn.losses.squared_error)
    return fnn.fit(net, loss, optax.sgd(0.01), (X, X[:, :1]), epochs=1, batch_size=8, progress=False, **arguments)


def sweep(width):
    net = fnn.serial(fnn.dense(width), fnn.tanh, fnn.dense(1))
    over = {"lr": [0.01, 0.02]}
    return fnn.sweep(
        net, fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]), (X, X[:, :1]), over=over, epochs=1, progress=False
    )


def test_the_least_recently_used_goes_first():
    kept = Cache(most=2)
    for key in "abacab":
        kept.get(key, lambda key=key: key)
    assert list(kept.entries) == ["a", "b"]


def test_captured_bytes_bound_it_too_but_the_newest_stays():
    kept = Cache(most=9, most_bytes=100)
    for key in range(5):
        kept.get(key, lambda: None, lambda value: 60)
    assert list(kept.entries) == [3, 4]
    kept.get("large", lambda: None, lambda value: 1000)
    kept.get("next", lambda: None)
    assert list(kept.entries) == ["next"]


def test_near_the_systems_limit_of_mappings_half_of_them_go(monkeypatch):
    monkeypatch.setattr(cache, "_share_of_mappings", lambda: 0.6)
    kept = Cache()
    for key in range(cache.UNCOUNTED):
        assert len(kept.entries) == key
        kept.get(key, lambda: None)
    assert list(kept.entries) == [4, 5, 6, 7]


def test_what_could_not_be_made_is_made_again():
    kept, tries = Cache(), []

    def make():
        tries.append(None)
        if len(tries) == 1:
            raise ValueError("not yet")
        return "made"

    with pytest.raises(ValueError, match="not yet"):
        kept.get("a", make)
    assert kept.get("a", make) == "made" and len(tries) == 2


def test_threads_that_want_the_same_wait_for_the_one_that_makes_it():
    kept, made, begin = Cache(), [], threading.Barrier(4)

    def want():
        begin.wait()
        kept.get("a", lambda: made.append(None))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@counted
@pytest.mark.parametrize("train, first, least", [(fit, 40, 100), pytest.param(sweep, 60, 50, marks=pytest.mark.slow)])
def test_programs_that_go_free_their_mappings(monkeypatch, train, first, least):
    fnn.clear_caches()
    monkeypatch.setattr(cache.programs, "most", 3)
    for width in range(first, first + 3):
        train(width)
    before = mappings()
    for width in range(first + 3, first + 5):
        train(width)
    assert mappings() - before < 2 * 20  # one fit alone takes over a hundred, one sweep 23
    full = mappings()
    fnn.clear_caches()
    assert full - mappings() > least


def test_memory_of_the_compiler_goes_back_to_the_system_once_per_program(monkeypatch):
    trims = []
    monkeypatch.setattr(programs, "trim_heap", lambda: trims.append(None))
    fnn.clear_caches()
    fit(5)
    first = len(trims)
    fit(5)
    assert first == len(trims) == 1


@pytest.mark.slow
def test_arrays_that_a_loss_has_captured_go_with_its_program():
    def once(seed):
        points = jnp.asarray(np.random.default_rng(seed).normal(size=5_000_000).astype("float32"))  # 20 MB
        fit(8, loss=lambda y, t: jnp.square(y - t).sum(-1) + 1e-9 * points[:1])

    for seed in range(4):
        once(seed)
    gc.collect()
    assert sum(array.size == 5_000_000 for array in jax.live_arrays()) <= 4  # two programs remain; JAX holds each twice


def own_layer():
    return fnn.Layer("own", lambda key, shape: ((), (), shape), lambda p, s, x, key, train: (x, s, ()), None)


@pytest.mark.parametrize(
    "thing",
    [
        lambda x: x,
        np.ones(2),
        [1],
        fnn.serial(fnn.dense(1), lambda x: 2 * x),
        fnn.serial(own_layer()),
        fnn.serial(fnn.dense(1), fnn.elementwise("own", lambda x: x, jnp.ones_like)),
        fnn.dense(2)._replace(forward=lambda p, s, x, key, train: (x, s, x)),
        fnn.losses.from_function(lambda y, t: y, targets="one-hot"),
        fnn.losses.smoothed(fnn.losses.from_function(lambda y, t: y, targets="one-hot"), 0.1),
        fnn.losses.squared_error._replace(grad=lambda y, t: y),
        fnn.penalties.l2(0.1, mask=lambda params: params),
        fnn.factory(lambda number: own_layer())(3),
        fnn.dense(2, weight_init=lambda key, shape, dtype: jnp.ones(shape, dtype)),
        {"a": 1}.get,
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_a_user_has_written_is_no_constant(thing):
    assert not is_constant(thing)


@pytest.mark.parametrize("number", range(8))
def test_it_is_found_behind_any_number_of_layers(number):
    """What is looked at on the way there has an address each, which nothing else may get meanwhile."""
    own = [fnn.elementwise("own", lambda x: x, jnp.ones_like), lambda x: x, own_layer()]
    for last in own:
        assert not is_constant(fnn.serial(*[fnn.dense(1 + i) for i in range(number)], last))


@pytest.mark.slow
@counted
@pytest.mark.parametrize("train, times", [(fit, 1500), (sweep, 300)])
def test_many_shapes_in_one_process(train, times):
    """Bounds: 128 programs of 300 mappings each, and 2.5 GB."""
    fnn.clear_caches()
    most, largest = 0, 0.0
    for width in range(1, times + 1):
        train(width)
        if width % 50 == 0:
            most, largest = max(most, mappings()), max(largest, anonymous_megabytes())
            print(f"{width} shapes: {mappings()} mappings, {anonymous_megabytes():.0f} MiB", flush=True)
    assert most < 40_000 and largest < 2560
