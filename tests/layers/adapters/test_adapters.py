"""Networks of other libraries as layers: the losses of their own loop, studies, files, no rules by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.fitting.test_kill import ended, has_checkpoint, kill, start

for module in ("flax", "equinox", "haiku"):
    pytest.importorskip(module)

from tests.helpers.foreign import KINDS, LIBRARIES, LOSS, data, layer, own_loop  # noqa: E402

PAIRS = [(library, kind) for library in LIBRARIES for kind in KINDS]
QUICK = {("equinox", "CNN")}
every_pair = pytest.mark.parametrize(
    "library, kind", [pair if pair in QUICK else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
)
every_library = pytest.mark.parametrize("library", LIBRARIES)
SGD = optax.sgd(0.05)


def fitted(net, kind, **more):
    arguments = {"epochs": 3, "batch_size": 8, "progress": False} | more
    return fnn.fit(net, LOSS, SGD, data(kind), **arguments)


@every_pair
def test_the_losses_are_those_of_their_own_loop(library, kind):
    net = layer(library, kind)
    begin = fitted(net, kind, epochs=0)
    run = fitted(net, kind)
    key = jax.random.wrap_key_data(run.train_state.key)
    with jax.numpy_dtype_promotion("standard"):
        expected = own_loop(library, kind, begin, key, SGD, 3, 8)
    np.testing.assert_allclose(run.history.loss, expected, 1e-6)
    assert expected[-1] < expected[0]


LATER = dict.fromkeys(["haiku", "nnx"], pytest.mark.slow)


@pytest.mark.parametrize("library", [pytest.param(name, marks=LATER.get(name, ())) for name in LIBRARIES])
def test_a_saved_run_is_loaded_with_the_net_at_hand_and_predicts_the_same_bits(library, tmp_path):
    net = layer(library, "CNN")
    run = fitted(net, "CNN", epochs=1)
    fnn.save(tmp_path / "net.safetensors", net, run)
    with pytest.raises(ValueError, match="Hand the network over"):
        fnn.load(tmp_path / "net.safetensors")
    again = fnn.load(tmp_path / "net.safetensors", net=net)[1]
    x = data("CNN")[0]
    np.testing.assert_array_equal(fnn.predict(net, run, x), fnn.predict(net, again, x))
    np.testing.assert_array_equal(
        fnn.predict(net, run, x[:3]), fnn.predict(net, run, x)[:3]
    )  # nothing random, no batch


@every_library
def test_rows_that_fill_up_a_batch_are_copies_of_its_true_rows(library):
    net, x = layer(library, "CNN"), jnp.asarray(data("CNN")[0][:6])
    run = fitted(net, "CNN", epochs=0)
    params, state = run.params, run.state
    mask = jnp.asarray([True] * 3 + [False] * 3)
    state_after = jax.jit(lambda x, train: net.forward(params, state, x, jax.random.key(1), train)[1], static_argnums=1)
    padded = jax.jit(lambda x: net.forward(params, state, x, jax.random.key(1), fnn.Rows(mask))[1])(x.at[3:].set(1e9))
    copies = state_after(x[jnp.array([0, 1, 2, 0, 1, 2])], True)
    for one, other in zip(jax.tree.leaves(padded), jax.tree.leaves(copies), strict=True):
        np.testing.assert_array_equal(one, other)
    moved = [np.any(a != b) for a, b in zip(jax.tree.leaves(padded), jax.tree.leaves(state), strict=True)]
    assert any(moved), "the statistics stay as they were"


@pytest.mark.slow
@every_library
def test_a_sweep_of_16_folds_and_an_ensemble(library):
    net, rates = layer(library, "CNN"), np.geomspace(1e-4, 1e-1, 16)
    found = fnn.sweep(
        net,
        LOSS,
        lambda s: optax.adam(s["lr"]),
        data("CNN"),
        over={"lr": rates},
        epochs=2,
        batch_size=8,
        progress=False,
    )
    alone = fnn.fit(net, LOSS, optax.adam(rates[3]), data("CNN"), epochs=2, batch_size=8, progress=False)
    np.testing.assert_allclose(found.histories["loss"][3], alone.history.loss, 1e-4)
    folded = fnn.cross_validate(net, LOSS, SGD, data("CNN"), epochs=2, batch_size=8, folds=2, progress=False)
    assert np.isfinite(np.asarray(folded.table["validation_loss"])).all()
    members = fnn.ensemble(net, LOSS, SGD, data("CNN"), members=2, epochs=2, batch_size=8, progress=False)
    assert members.predict(data("CNN")[0]).mean.shape == (32, 3)


@pytest.mark.slow
@every_library
def test_killed_and_resumed_it_ends_with_the_same_bits(library, tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "run"
    folder.mkdir()
    alone = ended(start("killed_foreign.py", cache, tmp_path / "alone", library))  # without one, compiled more quickly
    process = start("killed_foreign.py", cache, folder, library)
    assert process.stdout.readline() == "begins\n", process.stderr.read()
    assert kill(process, folder, False, lambda: has_checkpoint(folder))
    assert ended(start("killed_foreign.py", cache, folder, library)) == alone


@every_library
def test_there_are_no_rules_by_hand_and_it_is_said(library):
    net, (x, t) = fnn.serial(layer(library, "MLP"), fnn.dense(3)), data("MLP")
    with pytest.raises(
        TypeError, match=r"expected rules by hand, got a layer that has none. Use gradient=fnn.autodiff"
    ):
        fitted(net, "MLP", gradient=fnn.backprop)
    if library == "equinox":  # the smallest program
        net = layer(library, "MLP")
        params, state, _ = net.init(jax.random.key(0), x.shape[1:])
        checked = fnn.check_gradients(net, LOSS, params, state, x[:5], t[:5], show=False)
        assert checked.ok and {leaf.verdict for leaf in checked.leaves} == {"right: no rules by hand"}
        assert all(np.isnan(leaf.autodiff) for leaf in checked.leaves) and "no rules by hand" in str(checked)


@jax.custom_vjp
def wrong_sine(x):
    return jnp.sin(x)


wrong_sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (1.1 * jnp.cos(x) * dy,))


@pytest.mark.slow
def test_a_wrong_derivative_of_theirs_is_found(x64):
    import equinox as eqx

    mlp = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0), activation=wrong_sine, dtype=float)
    net = fnn.from_equinox(mlp)
    params, state, _ = net.init(jax.random.key(0), (3,))
    x = jax.random.normal(jax.random.key(1), (5, 3))
    checked = fnn.check_gradients(net, fnn.losses.squared_error, params, state, x, x[:, :2], show=False)
    verdicts = {leaf.leaf: leaf.verdict for leaf in checked.leaves}
    assert not checked.ok and verdicts["layers.1.weight"] == "right: no rules by hand"
    assert verdicts["layers.0.weight"].startswith("WRONG: there are no rules by hand")


def test_a_function_of_the_seed_gives_each_member_parameters_of_its_own():
    import equinox as eqx
    from flax import nnx

    nets = {
        "nnx": fnn.from_flax_nnx(lambda rngs: nnx.Linear(3, 2, rngs=rngs)),
        "equinox": fnn.from_equinox(lambda key: eqx.nn.Linear(3, 2, key=key)),
    }
    for name, net in nets.items():
        one, other = (jax.tree.leaves(net.init(jax.random.key(seed), (3,))[0])[-1] for seed in (0, 1))
        assert not np.allclose(one, other), name
    fixed = fnn.from_equinox(eqx.nn.Linear(3, 2, key=jax.random.key(0)))
    one, other = (fixed.init(jax.random.key(seed), (3,))[0]["weight"] for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_biases_of_theirs_are_no_weights():
    net = fnn.serial(layer("linen", "MLP"))
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), (6, 6, 1))[0])
    mask = fnn.penalties.weight_mask(params)
    assert mask[0]["Dense_0"] == {"kernel": True, "bias": False} and str(net).startswith("serial(from_flax_linen(")


def test_tokens_stay_whole_numbers():
    import flax.linen as nn

    net = fnn.serial(fnn.from_flax_linen(nn.Embed(5, 4), in_dtype="int32"), fnn.flatten(), fnn.dense(3))
    tokens = np.arange(32).reshape(16, 2).astype("int32") % 5
    run = fnn.fit(net, LOSS, SGD, (tokens, LABELS16), epochs=1, progress=False)
    assert fnn.predict(net, run, tokens).shape == (16, 3)


LABELS16 = np.arange(16) % 3

WRONG = {
    "a class": (lambda: fnn.from_flax_linen(int), "from_flax_linen: expected a module of flax.linen, got"),
    "a number": (lambda: fnn.from_flax_nnx(3), "from_flax_nnx: expected a module of flax.nnx, got"),
    "a function of two": (lambda: fnn.from_equinox(lambda a, b: a), "from_equinox: expected a module of equinox, got"),
    "makes none": (lambda: fnn.from_equinox(lambda key: 3), "from_equinox: expected a module of equinox, got int 3"),
    "not transformed": (lambda: fnn.from_haiku(np.sin), "from_haiku: expected a function that hk.transform returned"),
    "a dtype": (lambda: fnn.from_haiku(np.sin, in_dtype="text"), "from_haiku: expected in_dtype to be a dtype of real"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_network_is_named(name):
    make, expected = WRONG[name]
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value).startswith(expected)


def test_a_library_that_is_missing_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "haiku", None)
    like = type("Transformed", (), {"init": None, "apply": None})()
    with pytest.raises(ImportError, match="from_haiku: dm-haiku is not installed"):
        fnn.from_haiku(like)
