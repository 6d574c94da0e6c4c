"""Which shapes share a program: what an optimizer or a penalty does to padding is found, and then it is so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.optimizers.protocol import init_optimizer, stand_in_cost, update_optimizer
from fnn.studies.padding.families import UnknownSettingError, VisibleSettings, padding_changes_nothing
from fnn.studies.padding.layers import cut, pad
from fnn.studies.padding.networks import family
from fnn.training.config import trainer_config
from tests.helpers.every_optimizer import CONTRIB, OPTAX

OPTIMIZERS = OPTAX | {f"contrib.{name}": make for name, make in CONTRIB.items()}
NETS = family([fnn.serial(fnn.dense(width), fnn.tanh, fnn.dense(2)) for width in (3, 6)])
PART = fnn.Part(jax.ShapeDtypeStruct((8, 4), "float32"), jax.ShapeDtypeStruct((8, 2), "float32"))
PARAMS = [net.init(jax.random.key(1), (4,))[0] for net in (NETS.nets[0], NETS.widest())]


def changes_nothing(optimizer, penalty=None, settings=(), **more):
    config = trainer_config(NETS.network, fnn.losses.squared_error, optimizer, penalty=penalty, batch_size=4, **more)
    return padding_changes_nothing(config, NETS, dict(settings), PART)


# elementwise ones, norms of all, and what the seldom used ones are made of
OFTEN = ["adam", "adamw", "sgd", "rmsprop", "clip_by_global_norm", "lion", "nadam", "trace", "clip", "adagrad", "chain"]
OFTEN += ["add_decayed_weights", "amsgrad", "ema", "masked", "partition", "inject_hyperparams", "scale_by_schedule"]


@pytest.mark.parametrize("name", OFTEN)
def test_optimizers_that_are_often_used_leave_padding_alone(name):
    assert changes_nothing(OPTIMIZERS[name]())


def large_ones_by_another_rule(params):
    return jax.tree.map(lambda a: a.size > 11, params)


def test_padding_in_any_layer_counts():
    """No one network is narrow in both layers."""
    nets = family([fnn.serial(fnn.dense(a), fnn.tanh, fnn.dense(b), fnn.dense(2)) for a, b in ((3, 6), (6, 3))])
    optimizer = optax.chain(optax.sgd(0.1), optax.masked(optax.set_to_zero(), large_ones_by_another_rule))
    config = trainer_config(nets.network, fnn.losses.squared_error, optimizer, batch_size=4)
    assert [net.layers[0] for net in (nets.widest(), nets.narrowest())] == [fnn.dense(6), fnn.dense(3)]
    assert nets.narrowest().layers[2] == fnn.dense(3) and not padding_changes_nothing(config, nets, {}, PART)


@pytest.mark.parametrize("name", ["adafactor", "clip_by_block_rms", "add_noise", "centralize", "contrib.muon", "lbfgs"])
def test_what_counts_or_moves_padding_is_found(name):
    """A mean, noise, a mean that is taken off, a matrix made orthogonal, a search along a line."""
    assert not changes_nothing(OPTIMIZERS[name]())


def gradients(step):
    """Random ones, of the narrow network and with zeros in the padding."""
    leaves, structure = jax.tree.flatten(PARAMS[0])
    keys = jax.random.split(jax.random.key(step), len(leaves))
    narrow = jax.tree.unflatten(structure, [jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)])
    return narrow, pad(narrow, PARAMS[1])


LATER = dict.fromkeys(OPTIMIZERS.keys() - {"adam", "clip_by_global_norm", "adagrad"}, pytest.mark.slow)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning", "ignore:Specifying a key:UserWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=LATER.get(name, ())) for name in OPTIMIZERS])
def test_what_is_found_is_so(name):
    optimizer = OPTIMIZERS[name]()
    if not changes_nothing(optimizer):
        pytest.skip("has a program for each width")
    both = [PARAMS[0], pad(PARAMS[0], PARAMS[1])]
    states = [init_optimizer(optimizer, params) for params in both]
    with jax.numpy_dtype_promotion("standard"):
        for step in range(4):
            for i, grads in enumerate(gradients(step)):
                cost = functools.partial(stand_in_cost, grads, both[i], jnp.float32(0.5))
                updates, states[i] = update_optimizer(optimizer, grads, states[i], both[i], cost)
                both[i] = optax.apply_updates(both[i], updates)
    narrow = cut((both[1], states[1]), (both[0], states[0]))
    for ours, theirs in zip(jax.tree.leaves(narrow), jax.tree.leaves((both[0], states[0])), strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=1e-7)
    again = pad(cut(both[1], both[0]), both[1])
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(both[1]))), "padding has moved"


def mean_square(params):
    return sum((a * a).mean() for a in jax.tree.leaves(params))


def nearest_to_one(params):
    return sum(jnp.square(a - 1).sum() for a in jax.tree.leaves(params))


PENALTIES = {
    "l1": (fnn.penalties.l1(0.1), True),
    "l2": (fnn.penalties.l2(0.1), True),
    "elastic net": (fnn.penalties.elastic_net(0.1, 0.1), True),
    "a mean": (fnn.Penalty("mean", mean_square, jax.grad(mean_square)), False),
    "not 0 at 0": (fnn.Penalty("ones", nearest_to_one, jax.grad(nearest_to_one)), False),
    "by hand another": (fnn.Penalty("other", fnn.penalties.l2(1.0).value, jax.grad(nearest_to_one)), False),
    "by autodiff another": (fnn.Penalty("other", nearest_to_one, fnn.penalties.l2(1.0).grad), False),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties(name):
    penalty, expected = PENALTIES[name]
    assert changes_nothing(optax.adam(0.1), penalty) == expected
    of_settings = {"penalty": lambda s: penalty, "settings": {"l2": 0.1}}
    assert changes_nothing(optax.adam(0.1), **of_settings) == expected


def test_a_gradient_of_ones_own_is_not_known():
    assert not changes_nothing(optax.adam(0.1), gradient=lambda *parts: fnn.autodiff(*parts))
    assert changes_nothing(optax.adam(0.1), gradient=fnn.backprop)


def test_numbers_that_are_settings():
    assert changes_nothing(lambda s: optax.adamw(s["lr"], weight_decay=s["decay"]), settings={"lr": 0.1, "decay": 0.1})


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s["width"],
        lambda s: s.get("width", 8),
        lambda s: "width" in s,
        lambda s: {**s},
        lambda s: dict(s),
        lambda s: list(s),
        lambda s: s | {"lr": 1.0},
        lambda s: s.items(),
        lambda s: s.copy(),
        lambda s: len(s),
    ],
)
def test_who_asks_for_a_hidden_setting_or_for_all_is_found(ask):
    settings = VisibleSettings({"lr": 0.5}, ["width"])
    assert settings["lr"] == settings.get("lr") == 0.5 and "lr" in settings and settings.get("l2", 1) == 1
    with pytest.raises(UnknownSettingError):
        ask(settings)
