"""The fused loop: what it computes, in whatever pieces and however many at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(310, 5))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(np.int32) + (X[:, 2] > 0)
NET = fnn.serial(fnn.dense(8), fnn.tanh, fnn.rrelu(), fnn.dense(3))
LOSS = fnn.losses.sparse_softmax_cross_entropy


def momentum(s):
    return optax.sgd(s["lr"], momentum=s["momentum"])


def data(dtype=np.float32, validation=True):
    x, t = jnp.asarray(X, dtype), jnp.asarray(LABELS)
    return fnn.Data(fnn.Part(x[:250], t[:250]), fnn.Part(x[250:], t[250:]) if validation else None)


def same_bits(a, b):
    return all(
        np.array_equal(p, q, equal_nan=True) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def furthest(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(p, float) - np.asarray(q, float)).max()) for p, q in pairs)


def test_one_step_is_the_one_worked_by_hand():
    # y = w x + b at w = b = 0; rows (1, 2), (3, 4); mean squared error: dw = mean(-2 t x) = -14, db = mean(-2 t) = -6
    net = fnn.serial(fnn.dense(1, weight_init=0.0))
    rows = fnn.Data(fnn.Part(jnp.array([[1.0], [3.0]]), jnp.array([[2.0], [4.0]])))
    training = fnn.trainer(net, fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]))
    end, history = training.run(training.init(jax.random.key(0), rows, {"lr": 0.5}), rows, 1)
    assert end.params[0]["w"].tolist() == [[7.0]]
    assert end.params[0]["b"].tolist() == [3.0]
    assert history.loss.tolist() == [10.0]


def test_every_row_is_used_exactly_once_an_epoch():
    # with the loss -y, the sum reduction and rows of the identity, a row's own weight grows by lr each time it is used
    net = fnn.serial(fnn.dense(1, bias=False, weight_init=0.0))
    rows = fnn.Data(fnn.Part(jnp.eye(1000), jnp.zeros((1000, 1))))
    training = fnn.trainer(net, lambda y, t: -y[:, 0], optax.sgd(1.0), batch_size=256, reduction="sum")
    start = training.init(jax.random.key(0), rows)
    for epochs in (1, 3):
        end, _ = jax.jit(training.run)(start, rows, epochs)
        assert end.params[0]["w"].ravel().tolist() == [epochs] * 1000


def test_reported_loss_is_the_true_mean_over_rows_whatever_the_batch_size():
    net = fnn.serial(fnn.dense(1))
    rows = fnn.Data(fnn.Part(jnp.ones((10, 2)), jnp.arange(10.0)[:, None]))
    for batch_size in (None, 1, 3, 4, 7, 10, 99):
        training = fnn.trainer(net, lambda y, t: t[:, 0] + 0 * y[:, 0], optax.sgd(0.1), batch_size=batch_size)
        _, history = jax.jit(training.run)(training.init(jax.random.key(0), rows), rows, 2)
        assert history.loss[:2].tolist() == [4.5, 4.5], batch_size


def test_weight_k_equals_k_copies_of_the_row(exact_products):
    x, t = jnp.asarray(X[:6], jnp.float32), jnp.asarray(LABELS[:6])
    counts = np.array([1, 3, 0, 2, 1, 1])
    weighted = fnn.Data(fnn.Part(x, t, jnp.asarray(counts, jnp.float32)))
    copied = fnn.Data(fnn.Part(jnp.repeat(x, counts, 0), jnp.repeat(t, counts, 0)))
    net = fnn.serial(fnn.dense(8), fnn.tanh, fnn.dense(3))
    training = fnn.trainer(net, LOSS, optax.adam(0.01))
    a, b = (jax.jit(training.run)(training.init(jax.random.key(0), rows), rows, 20) for rows in (weighted, copied))
    assert furthest((a[0].params, a[1]), (b[0].params, b[1])) < 1e-5


def test_a_batch_whose_rows_weigh_nothing_is_no_step():
    x, t = jnp.asarray(X[:8], jnp.float32), jnp.asarray(LABELS[:8])
    weight = jnp.asarray([1, 1, 0, 0, 0, 0, 1, 1], jnp.float32)
    net = fnn.serial(fnn.dense(3))
    training = fnn.trainer(net, LOSS, optax.adam(0.01), batch_size=2, shuffle=False)
    rows = fnn.Data(fnn.Part(x, t, weight))
    kept = weight > 0
    fewer = fnn.Data(fnn.Part(x[kept], t[kept]))
    a, b = (jax.jit(training.run)(training.init(jax.random.key(0), d), d, 5)[0] for d in (rows, fewer))
    assert furthest((a.params, a.optimizer), (b.params, b.optimizer)) < 1e-6


@pytest.mark.parametrize("validation", [pytest.param(False, marks=pytest.mark.slow), True])
def test_any_pieces_give_the_bits_of_the_whole_run(validation):
    rows = data(validation=validation)
    training = fnn.trainer(NET, LOSS, momentum, batch_size=64, metrics={"accuracy": fnn.accuracy})
    run = jax.jit(training.run)
    start = training.init(jax.random.key(0), rows, {"lr": 0.1, "momentum": 0.9})
    whole, history = run(start, rows, 25)
    state, losses = start, []
    for epochs in (3, 12, 10):
        state, part = run(state, rows, epochs)
        losses.append(part.loss[:epochs])
    assert same_bits(state, whole)
    assert np.array_equal(np.concatenate(losses), history.loss[:25])

    state, losses = start, []  # pieces that end within an epoch of 4 steps
    for steps in (1, 2, 6, 91):
        before = int(state.epoch)
        state, part = run(state, rows, 25, steps)
        losses.append(part.loss[: int(state.epoch) - before])
    assert same_bits(state, whole)
    assert np.array_equal(np.concatenate(losses), history.loss[:25])


NORMED = fnn.serial(fnn.dense(3), fnn.batch_norm())


@pytest.mark.parametrize("net", [pytest.param(fnn.serial(fnn.dense(3)), marks=pytest.mark.slow), NORMED], ids=str)
def test_members_of_a_vmap_with_epochs_of_their_own_have_the_bits_of_the_whole_in_any_pieces(net):
    """Five steps per epoch. Members stop within an epoch, wait, and go on ahead of and behind the others."""
    x, t = jnp.asarray(X[:40], jnp.float32), jnp.asarray(LABELS[:40])
    rows = fnn.Data(fnn.Part(x, t), fnn.Part(x, t))
    training = fnn.trainer(net, LOSS, optax.adam(0.05), batch_size=8, metrics={"accuracy": fnn.accuracy})
    start = jax.vmap(lambda key: training.init(key, rows))(jax.random.split(jax.random.key(0), 3))
    run = jax.jit(jax.vmap(lambda s, epochs, steps: training.run(s, rows, epochs, steps), (0, 0, None)))
    whole, _ = run(start, jnp.array([3, 3, 3]), 1000)
    state = start
    for epochs, steps in (([1, 3, 3], 7), ([0, 3, 0], 2), ([2, 0, 1], 1)):
        state, _ = run(state, jnp.array(epochs), steps)
        assert (np.asarray(state.step) < 5).all()
    assert len(set(zip(state.epoch.tolist(), state.step.tolist(), strict=True))) == 3  # all apart
    state, _ = run(state, 3 - state.epoch, 1000)
    assert state.epoch.tolist() == [3, 3, 3] and same_bits(state, whole)


@pytest.mark.parametrize("settings", [None, {"lr": 0.1}], ids=["", "settings"])
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.adam(0.1), optax.sgd(0.1, momentum=0.9)], ids=range(3))
def test_a_network_without_parameters_has_the_loss_of_what_it_does(optimizer, settings):
    x = jnp.asarray(X, jnp.float32)
    rows = fnn.Data(fnn.Part(x, jnp.abs(x)), fnn.Part(x, jnp.abs(x)))
    training = fnn.trainer(fnn.serial(fnn.relu), fnn.losses.squared_error, optimizer, batch_size=64)
    start = training.init(jax.random.key(0), rows, settings)
    end, history = jax.jit(training.run)(start, rows, jnp.int32(2))
    history = jax.tree.map(lambda h: h[:2], history)
    np.testing.assert_allclose(history.loss, ((np.maximum(x, 0) - np.abs(x)) ** 2).sum(1).mean(), rtol=1e-5)
    assert end.params == start.params and bool(end.active)


def test_a_run_draws_from_no_key_that_another_run_could_be_given():
    rows, net = data(validation=False), fnn.serial(fnn.dense(3))
    training = fnn.trainer(net, LOSS, optax.sgd(0.1))
    for key in (jax.random.key(0), jax.random.key(7, impl="rbg")):
        own = training.init(key, rows).key.tolist()
        others = [jax.random.fold_in(key, i) for i in range(100)] + list(jax.random.split(key, 100))
        assert own not in [jax.random.key_data(other).tolist() for other in (key, *others)]


def test_members_of_a_vmap_equal_runs_done_alone(x64):
    rows = data(np.float64)
    training = fnn.trainer(NET, LOSS, momentum, batch_size=64, metrics={"accuracy": fnn.accuracy})
    keys = jax.random.split(jax.random.key(0), 4)
    settings = {"lr": jnp.asarray([0.01, 0.1, 1.0, 0.5]), "momentum": jnp.asarray([0.9, 0.0, 0.9, 0.9])}
    patience = {"patience": jnp.asarray([100.0, 2.0, 1.0, 3.0])}
    start = jax.jit(jax.vmap(training.init, (0, None, 0)))(keys, rows, settings | patience)
    together, history = jax.jit(jax.vmap(training.run, (0, None, None)))(start, rows, 30)
    alone = jax.jit(training.run)
    stopped = []
    for k in range(4):
        one, h = alone(jax.tree.map(lambda a, k=k: a[k], start), rows, 30)
        member = jax.tree.map(lambda a, k=k: a[k], (together, history))
        assert furthest(one.params, member[0].params) < 1e-10
        assert furthest(one.best, member[0].best) < 1e-10
        assert np.allclose(h.loss, member[1].loss, rtol=1e-10, equal_nan=True)
        assert int(one.epoch) == int(member[0].epoch)
        stopped.append(int(one.epoch))
    assert min(stopped) < 30 == max(stopped)  # some stopped by themselves, some did not


@pytest.mark.slow
def test_a_literal_jit_of_vmap_of_run_works():
    rows = data(validation=False)
    training = fnn.trainer(NET, LOSS, momentum, batch_size=64)
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.tree.map(lambda a: jnp.stack([a] * 3), rows)
    settings = {"lr": jnp.full(3, 0.1), "momentum": jnp.full(3, 0.9)}
    start = jax.vmap(training.init)(keys, stacked, settings)
    end, history = jax.jit(jax.vmap(training.run))(start, stacked, jnp.array([2, 5, 0]))
    assert end.epoch.tolist() == [2, 5, 0]
    assert np.isfinite(history.loss).sum(1).tolist() == [2, 5, 0]


@pytest.mark.slow
def test_members_that_diverge_leave_the_bits_of_the_others():
    rows = data()
    training = fnn.trainer(NET, LOSS, momentum, batch_size=64)
    keys = jax.random.split(jax.random.key(0), 5)
    run = jax.jit(jax.vmap(training.run, (0, None, None)))

    def ends(lr):
        settings = {"lr": jnp.asarray(lr, jnp.float32), "momentum": jnp.full(5, 0.9)}
        return run(jax.vmap(training.init, (0, None, 0))(keys, rows, settings), rows, 10)

    good, bad = ends([0.1, 0.2, 0.1, 0.05, 0.1]), ends([0.1, 0.2, 1e38, 0.05, 0.1])
    others = np.array([0, 1, 3, 4])
    assert same_bits(*(jax.tree.map(lambda a: a[others], pair) for pair in (good, bad)))
    state = bad[0]
    assert state.active.tolist() == [True, True, False, True, True]
    assert int(state.diverged[2, 0]) == 0
    assert int(state.diverged[2, 1]) >= 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_the_run_stops_at_the_last_finite_parameters():
    x = np.ones((8, 1), np.float32)
    rows = fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(x)))
    training = fnn.trainer(fnn.serial(fnn.dense(1, weight_init=0.5)), fnn.losses.squared_error, optax.sgd(1e12))
    start = training.init(jax.random.key(0), rows)
    end, history = jax.jit(training.run)(start, rows, 50)
    at = int(end.diverged[0])
    assert 0 < at < 49
    assert int(end.epoch) == at
    before, _ = jax.jit(training.run)(start, rows, at)
    assert same_bits(before.params, end.params)
    assert np.isfinite(history.loss[:at]).all()
    assert np.isnan(history.loss[at:]).all()
    assert same_bits(jax.jit(training.run)(end, rows, 50)[0], end)


def test_divergence_within_an_epoch_is_the_same_in_any_pieces():
    x = np.ones((8, 1), np.float32)
    rows = fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(x)))
    net = fnn.serial(fnn.dense(1, weight_init=0.5))
    training = fnn.trainer(net, fnn.losses.squared_error, optax.sgd(1e6), batch_size=1)
    start = training.init(jax.random.key(0), rows)
    run = jax.jit(training.run)
    whole, _ = run(start, rows, 9)
    assert 0 < int(whole.diverged[1]) < 7
    state = start
    for _ in range(10):
        state, _ = run(state, rows, 9, 1)
    assert same_bits(state, whole)


def test_best_parameters_are_the_ones_evaluated_at_the_best_epoch():
    rows = data()
    training = fnn.trainer(NET, LOSS, momentum, batch_size=64)
    start = training.init(jax.random.key(0), rows, {"lr": 0.5, "momentum": 0.9})
    run = jax.jit(training.run)
    end, history = run(start, rows, 60)
    best = int(np.nanargmin(history.validation_loss[:60]))
    assert int(end.best_epoch) == best < 59
    at_best, _ = run(start, rows, best + 1)
    assert same_bits(end.best, (at_best.params, at_best.state))


def test_validation_rows_change_no_bit_of_training():
    rows = data()
    poisoned = rows._replace(validation=rows.validation._replace(x=rows.validation.x.at[3].set(1e9)))
    training = fnn.trainer(NET, LOSS, momentum, batch_size=64)
    ends = []
    for d in (rows, poisoned):
        start = training.init(jax.random.key(0), d, {"lr": 0.1, "momentum": 0.9})
        ends.append(jax.jit(training.run)(start, d, 10)[0])
    assert same_bits(ends[0].params, ends[1].params)
    assert float(ends[0].best_value) != float(ends[1].best_value)


def test_large_validation_in_chunks_has_the_true_mean(monkeypatch):
    rows = data()
    rows = rows._replace(validation=rows.train)  # of them 64 are evaluated at once, at the least
    values = []
    for chunk, numbers in ((4096, 2**17), (16, 2**17), (4096, 1)):
        monkeypatch.setattr("fnn.training.epoch_end.VALIDATION_ROWS", chunk)
        monkeypatch.setattr("fnn.training.epoch_end.IN_CACHE", numbers)
        training = fnn.trainer(NET, LOSS, momentum, batch_size=64, metrics={"accuracy": fnn.accuracy})
        start = training.init(jax.random.key(0), rows, {"lr": 0.1, "momentum": 0.9})
        _, history = jax.jit(training.run)(start, rows, 3)
        values.append((history.validation_loss[:3], history.validation_metrics["accuracy"][:3]))
    assert furthest(values[0], values[1]) < 1e-6 and furthest(values[0], values[2]) < 1e-6


@pytest.mark.slow
def test_backprop_and_autodiff_train_alike(x64):
    rows = data(np.float64, validation=False)
    ends = []
    for gradient in (fnn.autodiff, fnn.backprop):
        penalty = lambda s: fnn.penalties.l2(s["l2"])  # noqa: E731
        training = fnn.trainer(NET, LOSS, momentum, batch_size=64, gradient=gradient, penalty=penalty)
        start = training.init(jax.random.key(0), rows, {"lr": 0.05, "momentum": 0.9, "l2": 1e-3})
        ends.append(jax.jit(training.run)(start, rows, 75)[0])  # 75 epochs of 4 steps
    assert furthest(ends[0].params, ends[1].params) < 1e-10


def test_net_loss_and_penalty_may_be_functions_of_the_settings():
    rows = data(validation=False)
    training = fnn.trainer(
        lambda s: fnn.serial(fnn.dense(8), fnn.leaky_relu(s["slope"]), fnn.dense(3)),
        lambda s: lambda y, t: LOSS(y, t) * s["scale"],
        momentum,
        penalty=lambda s: fnn.penalties.l2(s["l2"]),
    )
    plain = fnn.trainer(
        fnn.serial(fnn.dense(8), fnn.leaky_relu(0.3), fnn.dense(3)),
        LOSS,
        momentum,
        penalty=fnn.penalties.l2(0.01),
    )
    settings = {"lr": 0.1, "momentum": 0.9}
    more = settings | {"slope": 0.3, "scale": 1.0, "l2": 0.01}
    a = jax.jit(training.run)(training.init(jax.random.key(0), rows, more), rows, 5)[0]
    b = jax.jit(plain.run)(plain.init(jax.random.key(0), rows, settings), rows, 5)[0]
    assert furthest(a.params, b.params) < 1e-6


def test_a_wrong_part_is_named():
    rows = data()
    for part, message in (
        (dict(net=fnn.dense), "net: expected a Layer, got the factory dense. Call it."),
        (dict(optimizer=0.1), "optimizer: expected a GradientTransformation, got float"),
        (dict(penalty=lambda s: 3), "penalty: expected a Penalty, got a function of the settings that makes int"),
        (dict(loss=3), "loss: expected a loss, got int 3"),
    ):
        arguments = dict(net=NET, loss=LOSS, optimizer=optax.sgd(0.1)) | part
        with pytest.raises(TypeError, match=message):
            fnn.trainer(**arguments).init(jax.random.key(0), rows)


@pytest.mark.slow
def test_a_state_made_without_jit_can_be_donated():
    x = jnp.ones((8, 2))
    data = fnn.Data(fnn.Part(x, x[:, :1]), fnn.Part(x, x[:, :1]))
    metrics = {"one": fnn.losses.squared_error, "two": fnn.losses.absolute_error}
    training = fnn.trainer(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.adam(0.1), metrics=metrics)
    state = training.init(jax.random.key(0), data, {"a": 1.0, "b": 1.0})
    end, _ = jax.jit(lambda state: training.run(state, data, 2), donate_argnums=0)(state)
    assert int(end.epoch) == 2
