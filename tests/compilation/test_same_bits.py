"""On a GPU what fnn compiles has the same bits each time it is compiled, unless the user says otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.compilation import frozen
from fnn.compilation.same_bits import SAME_BITS, same_bits_options

DETERMINISTIC = {SAME_BITS: True}


def test_a_gpu_is_told_to_use_the_same_algorithms_each_time(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert same_bits_options() == DETERMINISTIC
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert same_bits_options() == {}


@pytest.mark.parametrize("value", ["true", "false"])
def test_who_names_the_option_has_decided(value, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_gpu_autotune_level=2 --{SAME_BITS}={value}")
    assert same_bits_options() == {}


def test_xla_knows_the_option():
    assert jax.jit(lambda x: 2 * x, compiler_options=DETERMINISTIC)(3.0) == 6
    with pytest.raises(RuntimeError, match="No such compile option"):
        jax.jit(lambda x: 2 * x, compiler_options={"xla_gpu_no_such_option": True})(3.0)


def test_each_program_of_a_run_has_the_option(monkeypatch):
    given, jit = [], jax.jit

    def note(function, **options):
        if "donate_argnums" in options:  # not where shapes alone are asked for
            given.append(options["compiler_options"])
        return jit(function, **options)

    monkeypatch.setattr(frozen, "same_bits_options", lambda: DETERMINISTIC)
    monkeypatch.setattr(frozen.jax, "jit", note)
    rng = np.random.default_rng(0)
    x, slope = rng.normal(size=(17, 3)).astype("float32"), jnp.asarray(rng.normal(size=5_000), "float32")
    net = fnn.serial(fnn.dense(7), lambda x: x * slope[:1], fnn.dense(1))  # with an array that it has captured
    loss, data, how = fnn.losses.squared_error, (x, x[:, :1]), dict(epochs=2, batch_size=5, progress=False)
    run = fnn.fit(net, loss, optax.sgd(0.1), data, **how)
    fnn.predict(net, run, x)
    fnn.evaluate(net, run, data, {"error": loss})
    fnn.sweep(net, loss, lambda s: optax.sgd(s["lr"]), data, over={"lr": [0.1, 0.2]}, **how)
    assert len(given) >= 6  # two for the fit, two for its outputs, two for the sweep
    assert all(options[SAME_BITS] for options in given)
