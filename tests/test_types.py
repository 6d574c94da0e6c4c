"""The contracts, held by every layer, activation, loss and penalty of the registry, which leaves none out."""

import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from experiments.derivatives import convolutions
from experiments.derivatives.activations import ACTIVATIONS
from experiments.derivatives.boxes import BOX_LOSSES
from experiments.derivatives.layers import LAYERS
from experiments.derivatives.losses import LOSSES, TRANSFORMED
from experiments.derivatives.penalties import PENALTIES
from fnn import activations, losses, penalties
from fnn.layers import combinators, embedding, linear, noise
from fnn.layers.branches import joining, splitting
from fnn.layers.images import augmentation, convolution, pooling, sequences, transposed, upsampling
from fnn.layers.normalisations import batch, features
from tests.helpers.compare import normwise

IMAGE_LAYERS = [case.name for case in convolutions.LAYERS]
every_layer = pytest.mark.parametrize("case", LAYERS, ids=lambda case: f"{case.layer}")
KEY, DRAW = jax.random.key(0), jax.random.key(7)


# ---- nothing is missing from the registry

# modules of small functions that others take
HELPERS = ("fnn.arguments", "fnn.activations.limits", "fnn.kernels", "fnn.layers.passes")
HELPERS += ("fnn.layers.normalisations.affine", "fnn.layers.normalisations.statistics")
NUMBERS = {"elementwise", "as_floats", "float32_or_wider"}
PROXIMAL = {"proximal_l1", "fista", "fista_solution", "soft_threshold", "check_proximal"}  # in test_proximal


def public(module, but):
    """What a module offers: its activations, losses and functions; also those it takes from its parts."""
    return {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and name not in but
        and thing is not fnn.factory
        and not (getattr(thing, "__module__", None) or "").startswith(HELPERS)
        and (
            isinstance(thing, (fnn.Activation, fnn.Loss))
            or (isinstance(thing, types.FunctionType) and thing.__module__.startswith("fnn."))
        )
    }


@pytest.mark.parametrize(
    "module, cases, but",
    [
        (activations, [name for name, _ in ACTIVATIONS] + [case.name for case in LAYERS], NUMBERS),
        (linear, [case.name for case in LAYERS], {"initial_values", "initial_deviation"}),
        (
            embedding,
            [case.name for case in LAYERS],
            {"initial_values", "initial_deviation", "check_categories", "entries", *NUMBERS},
        ),
        (convolution, IMAGE_LAYERS, {"as_floats", "window_spec", "kernel_spec"}),
        (sequences, IMAGE_LAYERS, {"as_floats", "axis_windows", "sequence_spec", "kernel_spec"}),
        (transposed, IMAGE_LAYERS, {"as_floats", "window_spec", "kernel_spec"}),
        (upsampling, IMAGE_LAYERS, {"check_images", "pair", "one_of", "describe_value", *NUMBERS}),
        (pooling, IMAGE_LAYERS, {"window_spec", "taps", "add_taps", *NUMBERS}),
        (augmentation, IMAGE_LAYERS, {"random_layer", "require_key", *NUMBERS}),
        (batch, [case.name for case in LAYERS], NUMBERS),
        (features, [case.name for case in LAYERS], NUMBERS),
        (noise, [case.name for case in LAYERS] + IMAGE_LAYERS, {"random_layer", "require_key", *NUMBERS}),
        (combinators, [case.name for case in LAYERS], {"as_layer", "layer_of", "memoise_constants", "note_call"}),
        (splitting, [case.name for case in LAYERS], {"layer_of"}),
        (joining, [case.name for case in LAYERS], set()),
        (losses, [case.name for case in (*LOSSES, *TRANSFORMED)] + [name for name, _ in BOX_LOSSES], {"as_loss"}),
        (penalties, [case.name for case in PENALTIES], {*PROXIMAL, "weight_mask", "map_weights"}),
    ],
    ids=[
        "activations",
        "linear",
        "embedding",
        "conv",
        "conv1d",
        "conv transposed",
        "upsample",
        "pooling",
        "augment",
        "batch norm",
        "norms",
        "noise",
        "combine",
        "split",
        "join",
        "losses",
        "penalties",
    ],
)
def test_everything_public_has_a_record(module, cases, but):
    names = public(module, but)
    assert names, "nothing found: the search is broken"
    assert names <= set(cases), f"without a record in experiments/derivatives: {sorted(names - set(cases))}"


def test_the_names_in_the_registry_are_those_of_the_things():
    for name, activation in ACTIVATIONS:
        assert str(activation).split("(")[0] == name
    for case in LOSSES:
        public_thing = getattr(losses, case.name)
        assert public_thing is case.loss or public_thing.is_factory
        assert str(case.loss).split("(")[0] == case.name
    for case in PENALTIES:
        assert str(case.penalty).split("(")[0] == case.name


# ---- layers


def point(case, rows=5):
    params, state, out_shape = case.layer.init(KEY, case.in_shape)
    x = np.random.default_rng(0).normal(size=(rows, *case.in_shape))
    return params, state, out_shape, jnp.asarray(case.inputs(x), x.dtype)  # categories as floats, which stay


@every_layer
def test_layer_gives_the_shapes_and_the_dtype_it_announces(case, x64):
    params, state, out_shape, x = point(case)
    assert jax.tree.all(jax.tree.map(lambda a: isinstance(a, jax.Array) and a.dtype == x.dtype, params))
    for rows in (5, 1):
        y, new_state, _ = jax.eval_shape(lambda x: case.layer.forward(params, state, x, DRAW, True), x[:rows])
        assert y.shape == (rows, *out_shape) and y.dtype == x.dtype
        assert jax.tree.structure(new_state) == jax.tree.structure(state)


@every_layer
def test_layer_is_pure_and_predicts_without_a_key(case, x64):
    params, state, _, x = point(case)
    assert normwise(case.layer.init(KEY, case.in_shape)[0], params) == 0
    for key, train in ((None, False), (DRAW, True), (DRAW, fnn.Rows(jnp.ones(5, bool)))):
        one, two = (jax.jit(lambda x, k=key, t=train: case.layer.forward(params, state, x, k, t)[0])(x) for _ in "ab")
        assert normwise(one, two) == 0


@every_layer
def test_layer_does_not_mix_rows(case, x64):
    params, state, _, x = point(case)
    moved = x.at[1:].set((x[1:] + 1) % case.categories if case.categories else -3.0 * x[1:])
    forward = jax.jit(lambda x: case.layer.forward(params, state, x, None, False)[0])
    one, other = forward(x), forward(moved)
    np.testing.assert_array_equal(one[0], other[0])
    assert (one[1:] != other[1:]).any()


@every_layer
def test_layer_goes_backward_as_autodiff_does(case, x64):
    """With `train` True and False; the proof has `Rows(mask)`."""
    params, state, _, x = point(case)

    def both(params, x, key, train):
        y, pull = jax.vjp(lambda params, x: case.layer.forward(params, state, x, key, train)[0], params, x)
        dy = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
        return case.layer.backward(params, case.layer.forward(params, state, x, key, train)[2], dy), pull(dy)

    for key, train in ((DRAW, True), (None, False)):
        by_hand, by_autodiff = jax.jit(lambda params, x, k=key, t=train: both(params, x, k, t))(params, x)
        assert normwise(by_hand, by_autodiff) < 1e-12


@every_layer
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_layer_takes_integers_for_the_numbers_that_they_are(case, dtype, x64):
    if case.name in ("repeat", "residual", "from_function"):
        pytest.skip("adds its inputs to floats, or is the user's own")
    params, state, _, x = point(case)
    x = jnp.round(3 * x) if dtype == "int32" else jnp.round(3 * jnp.abs(x))
    as_integers = case.layer.forward(params, state, x.astype(dtype), None, False)[0]
    as_floats = case.layer.forward(params, state, x, None, False)[0]
    np.testing.assert_allclose(np.asarray(as_integers, np.float32), as_floats, rtol=1e-6)


# ---- a run prints as a few lines


def fit(epochs=3, **more):
    x = np.linspace(-1, 1, 20, dtype="float32")[:, None]
    given = {"epochs": epochs, "progress": False} | more
    return fnn.fit(fnn.dense(1), fnn.losses.squared_error, optax.sgd(0.1), (x, 3 * x), **given)


def test_a_run_prints_as_what_it_came_to():
    lines = repr(fit(validation=0.2, metrics={"error": lambda y, t: abs(y - t).sum(-1)})).splitlines()
    assert lines[:2] == ["run: parameters 2, inputs (1,)", "  epochs: 3"]
    names = [line.split(":")[0].strip() for line in lines[2:]]
    assert names == ["loss", "error", "validation_loss", "validation_error", "best epoch", "diverged"]
    first, last = (float(number) for number in lines[2].split(":")[1].split("->"))
    assert first > last > 0 and lines[-2:] == ["  best epoch: 2, counted from 0", "  diverged: no"]


def test_a_run_that_diverged_says_where():
    x = np.full((4, 1), 1e30, "float32")
    with pytest.warns(fnn.TrainingDiverged):
        run = fnn.fit(fnn.dense(1), fnn.losses.squared_error, optax.sgd(1.0), (x, x), epochs=2, progress=False)
    assert "  diverged: in epoch 0, step 0" in repr(run).splitlines()


def test_runs_of_every_form_print():
    run = fit(epochs=0)
    assert repr(run).splitlines()[1:] == ["  epochs: 0", "  diverged: no"]
    assert repr(fnn.Run(run.params, run.state, None, None)) == "run: parameters 2"
    many = jax.tree.map(lambda a: np.stack([a, a]), run._replace(in_shape=None))
    assert repr(many) == "run: parameters 4"
    seen = []
    jax.jit(lambda run: (seen.append(repr(run)), run)[1])(run._replace(in_shape=None, columns=None))
    assert seen == ["run, traced"]
    for whatever in (fnn.Run(1, 2, 3, 4), jax.tree.map(np.shape, run), jax.tree.map(lambda a: None, run)):
        assert repr(whatever).startswith("run")


def test_a_network_prints_as_the_call_that_makes_it():
    assert repr(fnn.serial(fnn.dense(3), fnn.relu)) == "serial(dense(3), relu)"


# ---- the types of a user's program


@pytest.mark.slow
def test_a_program_with_dicts_tuples_streams_and_frames_passes_mypy():
    api = pytest.importorskip("mypy.api")
    root = Path(__file__).parent.parent
    found = api.run(["--config-file", f"{root}/pyproject.toml", f"{root}/tests/helpers/typed_program.py"])
    assert found[2] == 0, found[0] + found[1]
