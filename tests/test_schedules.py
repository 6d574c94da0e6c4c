"""Schedules: the documents' formulas in float64 at every step, boundaries to the step, traced numbers, what raises."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import schedules

STEPS = np.arange(400)
BOUNDARIES, VALUES = [100, 200, 300], [0.1, 0.05, 0.025, 0.001]


def piecewise(step):
    """The documents' rule, spelt out."""
    if step <= 100:
        return 0.1
    if step <= 200:
        return 0.05
    return 0.025 if step <= 300 else 0.001


def cosine(initial, final, steps):
    return lambda k: final + (initial - final) * (1 + math.cos(math.pi * min(k, steps) / steps)) / 2


# name, schedule, and its formula in Python's float64
CASES = [
    ("exponential_decay", schedules.exponential_decay(0.5, 10, 0.9), lambda k: 0.5 * 0.9 ** (k / 10)),
    (
        "exponential_decay",
        schedules.exponential_decay(0.5, 10, 0.9, staircase=True),
        lambda k: 0.5 * 0.9 ** (k // 10),
    ),
    ("exponential_decay", schedules.exponential_decay(1e-4, 7, 1.1), lambda k: 1e-4 * 1.1 ** (k / 7)),
    (
        "exponential_decay",
        schedules.exponential_decay(0.3, 3, 0.99, staircase=True),
        lambda k: 0.3 * 0.99 ** (k // 3),
    ),
    ("piecewise_constant", schedules.piecewise_constant(BOUNDARIES, VALUES), piecewise),
    ("piecewise_constant", schedules.piecewise_constant([], [0.3]), lambda k: 0.3),
    ("linear_decay", schedules.linear_decay(0.02, 0.0, 300), lambda k: 0.02 - 0.02 / 300 * k if k < 300 else 0.0),
    ("linear_decay", schedules.linear_decay(0.0, 0.4, 37), lambda k: 0.4 * min(k, 37) / 37),
    ("linear_decay", schedules.linear_decay(0.5, 0.1, 399), lambda k: 0.5 - 0.4 * min(k, 399) / 399),
    ("cosine_decay", schedules.cosine_decay(0.1, 400), cosine(0.1, 0.0, 400)),
    ("cosine_decay", schedules.cosine_decay(0.1, 250, 0.02), cosine(0.1, 0.02, 250)),
    (
        "warm_up",
        schedules.warm_up(schedules.linear_decay(0.2, 0.0, 300), 50),
        lambda k: 0.2 * k / 50 if k < 50 else max(0.2 - 0.2 / 300 * (k - 50), 0.0),
    ),
    (
        "warm_up",
        schedules.warm_up(0.2, 30, start=0.05),
        lambda k: 0.05 + 0.15 * k / 30 if k < 30 else 0.2,
    ),
]
every_schedule = pytest.mark.parametrize("schedule, formula", [case[1:] for case in CASES], ids=[c[0] for c in CASES])


def test_every_schedule_is_among_the_cases():
    public = {n for n, f in vars(schedules).items() if n[0] != "_" and getattr(f, "__module__", "") == "fnn.schedules"}
    assert public - {"as_schedule"} == {case[0] for case in CASES}


@every_schedule
def test_agrees_with_the_formula_in_float64_at_every_step(schedule, formula):
    expected = [formula(k) for k in STEPS.tolist()]
    # 1e-6 of the value; 1e-16 for what the formula itself, in float64, only brings to 1e-18 instead of 0
    compiled = jax.jit(schedule)
    np.testing.assert_allclose([compiled(jnp.int32(k)) for k in STEPS], expected, rtol=1e-6, atol=1e-16)
    for k in (0, 1, 10, 11, 399):
        np.testing.assert_allclose(schedule(k), expected[k], rtol=1e-6)


@every_schedule
def test_whole_arrays_of_steps_vmap_and_scan_give_the_same(schedule, formula):
    steps = jnp.arange(400, dtype=jnp.int32)
    expected = [formula(k) for k in STEPS.tolist()]
    for got in (
        schedule(STEPS),
        jax.vmap(schedule)(steps),
        jax.lax.scan(lambda step, _: (step + 1, schedule(step)), jnp.int32(0), length=400)[1],
    ):
        assert got.shape == (400,) and got.dtype == jnp.float32 and not got.weak_type
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-16)


@every_schedule
def test_double_precision_where_it_is_on(schedule, formula, x64):
    got = schedule(jnp.arange(400, dtype=jnp.int32))
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, [formula(k) for k in STEPS.tolist()], rtol=1e-12, atol=1e-17)


def test_piecewise_constant_at_the_documents_boundaries_to_the_bit():
    schedule = schedules.piecewise_constant(boundaries=BOUNDARIES, values=VALUES)
    got = [schedule(jnp.int32(step)) for step in (0, 99, 100, 101, 199, 200, 201, 299, 300, 301, 399)]
    expected = [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025, 0.001, 0.001]
    np.testing.assert_array_equal(np.array(got), np.array(expected, np.float32))


def test_optax_changes_at_the_boundary_one_step_earlier():
    """What the docstring says of optax, so that a change there is noticed."""
    ours = schedules.piecewise_constant(BOUNDARIES, VALUES)(STEPS)
    theirs = jax.vmap(optax.piecewise_constant_schedule(0.1, {100: 0.5, 200: 0.5, 300: 0.04}))(jnp.arange(400.0))
    assert np.flatnonzero(~np.isclose(ours, theirs)).tolist() == BOUNDARIES


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (schedules.exponential_decay(0.5, 10, 0.9), optax.exponential_decay(0.5, 10, 0.9)),
        (
            schedules.exponential_decay(0.5, 10, 0.9, staircase=True),
            optax.exponential_decay(0.5, 10, 0.9, staircase=True),
        ),
        (schedules.linear_decay(0.5, 0.1, 300), optax.linear_schedule(0.5, 0.1, 300)),
        (schedules.cosine_decay(0.5, 300, 0.05), optax.cosine_decay_schedule(0.5, 300, alpha=0.1)),
        (
            schedules.warm_up(schedules.cosine_decay(0.5, 300), 50),
            optax.warmup_cosine_decay_schedule(0.0, 0.5, warmup_steps=50, decay_steps=350),
        ),
    ],
    ids=["exponential", "staircase", "linear", "cosine", "warm-up"],
)
def test_optax_has_the_same_where_it_has_it(ours, theirs, x64):
    np.testing.assert_allclose(ours(STEPS), [theirs(float(k)) for k in STEPS], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 49, 100, 1000])
def test_the_staircase_steps_at_multiples_exactly(steps):
    schedule = schedules.exponential_decay(1.0, steps, 0.5, staircase=True)
    for k in (1, 2, 7, 20):
        np.testing.assert_allclose(schedule(k * steps - 1), 0.5 ** (k - 1), rtol=1e-6)
        np.testing.assert_allclose(schedule(k * steps), 0.5**k, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda a, n: schedules.exponential_decay(a, n, 0.9),
        lambda a, n: schedules.exponential_decay(0.5, n, a, staircase=True),
        lambda a, n: schedules.piecewise_constant([n, 2 * n], [a, 0.05, 0.01]),
        lambda a, n: schedules.linear_decay(a, 0.01, n),
        lambda a, n: schedules.cosine_decay(0.5, n, a),
        lambda a, n: schedules.warm_up(a, n),
        lambda a, n: schedules.warm_up(schedules.linear_decay(0.5, a, 50), n, start=a),
    ],
)
def test_numbers_may_be_traced(make):
    traced = jax.jit(lambda a, n, step: make(a, n)(step))(0.3, 40.0, jnp.arange(400, dtype=jnp.int32))
    np.testing.assert_allclose(traced, make(0.3, 40)(STEPS), rtol=3e-6, atol=1e-9)
    many = jax.vmap(lambda a: make(a, 40)(jnp.int32(33)))(jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(many, [make(0.1, 40)(33), make(0.3, 40)(33)], rtol=3e-6)


def test_training_takes_the_steps_of_the_schedule(x64):
    """`w ← w - lr(step) · 1`, steps from 0; the learning rate is a setting."""
    seen = []
    for epochs in (100, 101, 102, 300):
        run = fnn.fit(
            fnn.dense(1, bias=False),
            lambda y, t: y[:, 0],
            lambda s: optax.sgd(schedules.piecewise_constant([100, 200], [s["lr"], 0.05, s["last"]])),
            ([[1.0]], [[0.0]]),
            epochs=epochs,
            params={"w": jnp.zeros((1, 1))},
            settings={"lr": 0.1, "last": 0.01},
        )
        seen.append(-run.params["w"][0, 0])
    np.testing.assert_allclose(seen, [100 * 0.1, 101 * 0.1, 101 * 0.1 + 0.05, 101 * 0.1 + 100 * 0.05 + 99 * 0.01])


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: schedules.exponential_decay(-0.1, 10, 0.9), ValueError, "exponential_decay: expected a learning ra"),
        (lambda: schedules.exponential_decay(0.1, 0, 0.9), ValueError, "exponential_decay: expected a number of ste"),
        (lambda: schedules.exponential_decay(0.1, -5, 0.9), ValueError, "exponential_decay: expected a number of st"),
        (lambda: schedules.exponential_decay(0.1, 10, 0), ValueError, "exponential_decay: expected a decay_rate abo"),
        (lambda: schedules.exponential_decay("0.1", 10, 1), TypeError, "exponential_decay: expected a learning rate"),
        (lambda: schedules.piecewise_constant([1, 2], [0.1, 0.2]), ValueError, "piecewise_constant: expected one va"),
        (lambda: schedules.piecewise_constant([1], [0.1] * 3), ValueError, "piecewise_constant: expected one value"),
        (lambda: schedules.piecewise_constant([2, 1], [0.1] * 3), ValueError, "piecewise_constant: expected increas"),
        (lambda: schedules.piecewise_constant([1, 1], [0.1] * 3), ValueError, "piecewise_constant: expected increas"),
        (lambda: schedules.piecewise_constant([-1], [0.1] * 2), ValueError, "piecewise_constant: expected boundarie"),
        (lambda: schedules.piecewise_constant([1], [0.1, -1]), ValueError, "piecewise_constant: expected a learning"),
        (lambda: schedules.piecewise_constant(1, 0.1), TypeError, "piecewise_constant: expected a list of boundarie"),
        (lambda: schedules.linear_decay(0.1, -0.1, 10), ValueError, "linear_decay: expected a learning rate of at l"),
        (lambda: schedules.linear_decay(0.1, 0.0, 0), ValueError, "linear_decay: expected a number of steps above 0"),
        (lambda: schedules.cosine_decay(0.1, -1), ValueError, "cosine_decay: expected a number of steps above 0"),
        (lambda: schedules.cosine_decay(float("nan"), 1), ValueError, "cosine_decay: expected a learning rate of at"),
        (lambda: schedules.warm_up(0.1, 0), ValueError, "warm_up: expected a number of steps above 0"),
        (lambda: schedules.warm_up(None, 5), TypeError, "warm_up: expected a learning rate of at least 0, got NoneT"),
        (lambda: schedules.warm_up(0.1, 5, start=-1), ValueError, "warm_up: expected a learning rate of at least 0"),
        (lambda: schedules.linear_decay(0.1, 0.0, 5)(-1), ValueError, "schedule: expected a step of at least 0, got"),
    ],
)
def test_what_is_wrong_raises_when_the_schedule_is_made(make, error, message):
    with pytest.raises(error, match=rf"^{message}.*\. [A-Z]"):
        make()
