"""Runs and networks in files, and checkpoints: back to the same bits, strictly, whatever dies on the way."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

import fnn
from experiments.derivatives.activations import ACTIVATIONS
from experiments.derivatives.layers import LAYERS
from fnn.arguments import trees
from fnn.storage import files
from fnn.storage.checkpoints import read_checkpoint, write_checkpoint
from fnn.storage.saving import load, save
from tests.storage.test_files import DTYPES, arrays, nested

KEY = jax.random.key(0)
NET = fnn.serial(fnn.dense(4), fnn.leaky_relu(0.1), fnn.residual(fnn.dense(4), fnn.tanh), fnn.dense(2, bias=False))
HISTORY = fnn.History(
    np.float32([3, 2]), {"top/1": np.float32([0, 1]), "a": np.float32([1, np.nan])}, np.float32([4, 5]), {}
)
MEND = "Hand the network over: fnn.load(path, net=net)."


def a_run(net, in_shape=(3,), history=HISTORY):
    """A run with numbers that are drawn by NumPy: nothing compiles."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(KEY, in_shape)[:2])
    params, state = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), shapes)
    return fnn.Run(params, state, history, None, in_shape)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "net.safetensors")


def same(a, b):
    """The same tree, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def error(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---- a run and its network come back


def test_a_trained_run_comes_back_and_predicts_the_same_bits(path):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    t = x[:, :2]
    loss = fnn.losses.squared_error
    part = (x[:5], t[:5])
    run = fnn.fit(NET, loss, optax.adam(0.1), (x, t), epochs=3, validation=part, metrics={"error": loss})
    before = fnn.predict(NET, run, x)
    save(path, NET, run._replace(in_shape=(3,)))
    net, again = load(path)
    assert net == NET and again.train_state is None and again.in_shape == (3,)
    assert fnn.predict(net, again, x).tobytes() == before.tobytes()
    for name in ("params", "state", "history"):
        same(getattr(again, name), getattr(run, name))
    assert type(again.history) is fnn.History and len(again.history.validation_metrics["error"]) == 3
    assert {type(leaf) for leaf in jax.tree.leaves(again.history)} == {np.ndarray}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(again.params))


RUN_DTYPES = tuple(set(DTYPES) - {"int1", "uint1", "float6_e2m3fn", "float6_e3m2fn"})  # no array of JAX has these


@pytest.mark.slow
@given(params=nested(arrays(sorted(RUN_DTYPES))), state=nested(arrays(("bfloat16", "uint32", "bool"))))
def test_any_params_and_state_come_back_to_the_same_bits(tmp_path_factory, params, state):
    path = tmp_path_factory.getbasetemp() / "any_run.safetensors"
    with jax.enable_x64(True):
        save(path, fnn.serial(), fnn.Run(params, state, None, None))
        net, run = load(path)
        assert str(net) == "serial()" and run.history is None and run.in_shape is None
        same((run.params, run.state), (params, state))


def test_names_and_order_of_the_metrics_stay(path):
    save(path, NET, a_run(NET))
    history = load(path)[1].history
    assert list(history.metrics) == ["top/1", "a"] and history.validation_metrics == {}
    same(history, HISTORY)


@pytest.mark.parametrize("loss", [np.complex64([3, 2]), np.float32([3]), np.float32([[3, 2]])])
def test_a_history_that_cannot_be_is_neither_saved_nor_read(path, loss):
    text = error(ValueError, save, path, NET, a_run(NET, history=HISTORY._replace(loss=loss)))
    assert text.startswith("run.history: expected real numbers, as many in each figure, got ")
    save(path, NET, a_run(NET))
    leaves, about = files.read(path)
    files.write(path, leaves | {"history/loss": loss}, about)
    assert "got ValueError: run.history: expected real numbers" in error(files.DamagedFile, load, path)


def test_bfloat16_parameters_stay_so_though_the_network_starts_with_float32(path):
    run = a_run(NET)
    run = run._replace(params=jax.tree.map(lambda a: a.astype(jnp.bfloat16), run.params))
    save(path, NET, run)
    same(load(path)[1].params, run.params)


def test_float64_needs_jax_to_hold_it_and_float32_does_not(path):
    with jax.enable_x64(True):
        run = a_run(NET)
        save(path, NET, run)
    assert error(ValueError, load, path) == (
        "params/0/b: expected 32-bit numbers, since JAX is set to these, got float64. "
        'Run jax.config.update("jax_enable_x64", True) first.'
    )
    with jax.enable_x64(True):
        same(load(path)[1].params, run.params)
    save(path, NET, a_run(NET))
    with jax.enable_x64(True):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(load(path)[1].params)} == {"float32"}


# ---- the closed vocabulary


MADE_BY_FACTORIES = [case for case in LAYERS if case.name not in dict(ACTIVATIONS)]


@pytest.mark.parametrize("case", MADE_BY_FACTORIES, ids=lambda case: f"{case.layer}")
def test_every_layer_of_the_table_comes_back_or_asks_for_the_network(path, case):
    run = a_run(case.layer, case.in_shape)
    save(path, case.layer, run)
    if unknown := files.read(path)[1]["unknown"]:
        assert not {name.split("(")[0] for name in unknown} & set(vars(fnn)), "a layer of fnn has no words"
        assert error(ValueError, load, path).endswith(f" not. {MEND}")
    else:
        assert load(path)[0] == case.layer
    same(load(path, net=case.layer)[1].params, run.params)


def test_every_activation_comes_back(path):
    activations = [thing for thing in vars(fnn).values() if isinstance(thing, fnn.Activation)]
    assert len(activations) >= 9
    net = fnn.serial(*activations, fnn.elu(0.5), fnn.repeat(fnn.dense(3), times=2))
    save(path, net, a_run(net))
    assert load(path)[0] == net


@fnn.factory
def peculiar(*layers, a=None, b=(1, (2.5, "x")), c=True):
    """A factory with every kind of argument."""
    return fnn.serial(*layers)._replace(spec=None)


ARGUMENTS = [
    {"a": 1, "b": (), "c": False},
    {"a": 1.0, "b": "text", "c": None},
    {"a": float("inf"), "b": -0.0, "c": 10**30},
    {"a": [1, [2]], "b": ((0, 1), (1, 0)), "c": 0.1},
]


def test_a_new_public_factory_is_found_with_every_kind_of_argument(path, monkeypatch):
    for arguments in ARGUMENTS:
        net = fnn.serial(peculiar(fnn.dense(2), fnn.relu, **arguments))
        run = a_run(net)
        save(path, net, run)
        assert error(ValueError, load, path).endswith(f", in which {net.spec.arguments[0][1][0]} is not. {MEND}")
        with monkeypatch.context() as patch:
            patch.setattr(fnn, "peculiar", peculiar, raising=False)
            save(path, net, run)
            assert load(path)[0] == net, arguments
        assert "(no 'peculiar'). " in error(ValueError, load, path)  # an older fnn, say


def test_arrays_and_numpy_numbers_as_arguments(path, monkeypatch):
    monkeypatch.setattr(fnn, "peculiar", peculiar, raising=False)
    given_ = {"a": np.arange(6.0).reshape(2, 3), "b": jnp.ones(2, jnp.bfloat16), "c": np.int8(3)}
    net = peculiar(**given_)
    save(path, net, fnn.Run((), (), None, None))
    arguments = dict(load(path)[0].spec.arguments)
    del arguments["layers"]
    assert type(arguments["c"]) is int and arguments.pop("c") == given_.pop(
        "c"
    )  # a factory makes a Python number of it
    same(arguments, given_)
    assert [type(a) for a in jax.tree.leaves(arguments)] == [type(a) for a in jax.tree.leaves(given_)]


def test_a_jax_array_of_64_bits_as_an_argument_needs_jax_to_hold_it(path, monkeypatch):
    monkeypatch.setattr(fnn, "peculiar", peculiar, raising=False)
    with jax.enable_x64(True):
        save(path, peculiar(a=jnp.ones(1)), fnn.Run((), (), None, None))
    assert error(ValueError, load, path).startswith(
        "net: expected 32-bit numbers, since JAX is set to these, got float"
    )


def mine(x):
    return 2 * x


def dense(features):
    """Named as one of fnn's."""
    return fnn.serial(fnn.dense(features), mine)


IMPOSTOR = fnn.elementwise("relu", mine, jnp.ones_like)
OWN = fnn.Layer("own", *fnn.as_layer(fnn.relu).parts()[1:])
CHANGED = fnn.dense(3)._replace(forward=lambda params, state, x, key, train: (x, state, x))
CHANGED_SLOPE = fnn.leaky_relu(0.3)._replace(value=mine)


@pytest.mark.parametrize(
    "layer, unknown",
    [
        (jnp.sin, "sin is"),
        (mine, "mine is"),
        (lambda x: x, "<lambda> is"),
        (OWN, "own is"),
        (IMPOSTOR, "relu is"),
        (fnn.factory(dense)(3), "dense(3) is"),
        (CHANGED, "dense(3) is"),
        (CHANGED_SLOPE, "leaky_relu(alpha=0.3) is"),
        (fnn.dense(3, weight_init=mine), "mine is"),
        (fnn.residual(fnn.serial(mine), jnp.sin, mine), "mine, sin are"),
        (fnn.serial(peculiar()), "peculiar() is"),
    ],
    ids=lambda thing: thing if isinstance(thing, str) else "layer",
)
def test_a_network_with_something_else_in_it_must_be_handed_over(path, layer, unknown):
    net = fnn.serial(fnn.dense(3), layer)
    run = a_run(fnn.serial(fnn.dense(3), fnn.relu))._replace(in_shape=None)
    save(path, net, run)
    assert error(ValueError, load, path) == (
        f"{path}: expected a network of fnn's own layers, got {net}, in which {unknown} not. {MEND}"
    )
    got, again = load(path, net=net)
    assert got is net
    same(again.params, run.params)


def described(path, words):
    """A file in which the network is described by these words."""
    save(path, fnn.serial(), fnn.Run((), (), None, None))
    leaves, about = files.read(path)
    files.write(path, leaves, about | {"net": words})


@pytest.mark.parametrize(
    "words, reason",
    [
        ({"factory": "fit", "arguments": {}}, "(no 'fit')"),
        ({"factory": "os.system", "arguments": {"command": "touch exploded"}}, "(no 'os.system')"),
        ({"factory": "__builtins__", "arguments": {}}, "(no '__builtins__')"),
        ({"factory": "factory", "arguments": {}}, "(no 'factory')"),
        ({"factory": "relu", "arguments": {}}, "(relu is an activation)"),
        ({"activation": "dense"}, "(dense is a factory)"),
        ({"activation": "np"}, "(no 'np')"),
        ({"factory": "dense", "arguments": {"features": 0}}, "at least 1, got 0"),
        ({"factory": "dense", "arguments": {"features": 1, "colour": 2}}, "(dense has no argument 'colour')"),
        ({"factory": "dense", "arguments": {}}, "features"),
        ({"factory": "dense", "arguments": {"features": {"array": 0, "kind": "numpy"}}}, "(no 'net/0')"),
        ({"nothing": 1}, "(no 'factory')"),
    ],
)
def test_words_that_are_not_in_the_vocabulary_are_refused(path, tmp_path, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    described(path, words)
    text = error(ValueError, load, path)
    assert text.startswith(f"{path}: expected a network that this version of fnn can make, got serial() (")
    assert reason in text and text.endswith(MEND)
    assert os.listdir(tmp_path) == ["net.safetensors"]
    assert load(path, net=fnn.serial())[1].params == ()


@pytest.mark.parametrize("words, got", [(3, "3"), (None, "None"), ({"activation": "relu"}, "relu")])
def test_words_that_are_no_network_are_refused(path, words, got):
    described(path, words)
    assert error(ValueError, load, path) == f"{path}: expected a network, got {got}. {MEND}"


# ---- strict


def test_every_leaf_that_is_not_the_networks_is_listed(path):
    save(path, NET, a_run(NET))
    other = fnn.serial(fnn.dense(4, bias=False), fnn.leaky_relu(0.1), fnn.dense(4), fnn.dense(3), fnn.dense(1))
    assert error(fnn.ShapeError, load, path, net=other) == (
        f"{path}: expected the parameters of {other}, got 9 that differ:\n"
        "  params/2/b: expected float32(4,), got none\n"
        "  params/2/w: expected float32(4, 4), got none\n"
        "  params/3/b: expected float32(3,), got none\n"
        "  params/3/w: expected float32(4, 3), got float32(4, 2)\n"
        "  params/4/b: expected float32(1,), got none\n"
        "  params/4/w: expected float32(3, 1), got none\n"
        "  params/0/b: expected none, got float32(4,)\n"
        "  params/2/0/b: expected none, got float32(4,)\n"
        "  params/2/0/w: expected none, got float32(4, 4)\n"
        "Pass the network that was trained."
    )
    assert load(path, net=fnn.serial(*NET.spec.arguments[0][1]))[0] == NET


def test_leaves_of_another_kind_of_number_are_listed(path):
    run = a_run(NET)
    bad = jax.tree.map(lambda a: a.astype(jnp.int32) if a.ndim == 1 else a, run.params)
    text = error(fnn.ShapeError, save, path, NET, run._replace(params=bad))
    assert "got 2 that differ:\n  params/0/b: expected float32(4,), got int32(4,)\n  params/2/0/b: " in text
    assert not os.path.exists(path)


def test_a_layer_without_parameters_more_or_less_is_found(path):
    save(path, NET, a_run(NET))
    text = error(fnn.ShapeError, load, path, net=fnn.serial(*NET.spec.arguments[0][1], fnn.relu))
    assert text.startswith(f"{path}: expected the parameters of serial(dense(4), ") and ", as PyTreeDef(" in text


def test_the_wrong_network_is_refused_when_it_is_saved(path):
    text = error(fnn.ShapeError, save, path, fnn.serial(fnn.dense(4)), a_run(NET))
    assert text.startswith("run: expected the parameters of serial(dense(4)), got 3 that differ:\n  params/2/0/b: ")
    assert not os.path.exists(path)


def test_without_the_shape_of_an_example_nothing_is_compared(path):
    save(path, fnn.serial(fnn.dense(4)), a_run(NET)._replace(in_shape=None))
    same(load(path)[1].params, a_run(NET).params)


@pytest.mark.parametrize(
    "params, got",
    [
        ({"w": [1]}, "run/params/w: expected dicts (with text as keys), tuples and arrays, got list"),
        (({1: np.ones(1)},), "run/params/0: expected dicts (with text as keys), tuples and arrays, got dict"),
        ((np.ones(1), 1.0), "run/params/1: expected dicts (with text as keys), tuples and arrays, got float"),
        (optax.EmptyState(), "run/params: expected dicts (with text as keys), tuples and arrays, got EmptyState"),
    ],
)
def test_params_of_something_else_are_refused(path, params, got):
    text = error(TypeError, save, path, NET, fnn.Run(params, (), None, None))
    assert text == f"{got}. Return these from the layer's init and forward."


def test_a_typed_key_in_the_state_is_refused(path):
    text = error(TypeError, save, path, NET, fnn.Run((), (KEY,), None, None))
    assert text == ("state/0: expected an array, got key<fry>. Use jnp.asarray, and jax.random.key_data for a key.")


@pytest.mark.parametrize("where", ["~/net.safetensors", Path("~") / "net.safetensors"])
def test_the_home_folder_has_a_short_name(where, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = a_run(NET)
    save(where, NET, run)
    assert os.listdir(tmp_path) == ["net.safetensors"]
    same(load(where)[1].params, run.params)
    write_checkpoint("~/checkpoints", 0, {"n": np.array(3)})
    assert read_checkpoint("~/checkpoints").leaves["n"] == 3
    files.write("~/more", {"n": np.array(4)})
    assert files.read("~/more")[0]["n"] == 4 and len(os.listdir(tmp_path)) == 3


def test_arguments_of_other_types_are_refused(path):
    run, hint = a_run(NET), "Pass the network that was trained."
    assert error(TypeError, save, path, fnn.relu, run) == f"net: expected a Layer, got Activation. {hint}"
    assert error(TypeError, save, path, NET, 3) == "run: expected a Run, got int. Pass what fit returned."
    assert error(TypeError, load, path, 3) == f"net: expected a Layer, got int. {hint}"
    assert "[Errno 2]" in error(FileNotFoundError, load, path)


def test_files_of_another_kind_are_refused(path, tmp_path):
    hint = "Read a run by fnn.load, and a checkpoint by fit."
    whole = write_checkpoint(tmp_path, 0, ())
    assert error(files.DamagedFile, load, whole) == f"{whole}: expected a run, got a checkpoint. {hint}"
    files.write(path, {}, ["else"])
    assert error(files.DamagedFile, load, path) == f"{path}: expected a run, got a file of another kind. {hint}"
    save(path, NET, a_run(NET))
    leaves, about = files.read(path)
    files.write(path, leaves, about | {"format": 2})
    text = f"{path}: expected format 1, got 2. Update fnn: a later one wrote it."
    assert error(files.DamagedFile, load, path) == text
    os.truncate(path, 1000)
    assert "expected the check sum" in error(files.DamagedFile, load, path)


# ---- checkpoints


def test_a_training_state_comes_back_to_the_same_bits_and_differences_are_listed(tmp_path):
    data = fnn.Data(fnn.Part(jnp.ones((4, 3)), jnp.ones((4, 2))), fnn.Part(jnp.ones((4, 3)), jnp.ones((4, 2))))
    optimizer = optax.chain(optax.clip(1.0), optax.adam(0.1))
    state = fnn.trainer(NET, fnn.losses.squared_error, optimizer).init(KEY, data, {"lr": 0.1})
    write_checkpoint(tmp_path, 3, {"state": state, "history": HISTORY}, {"epochs": 7})
    found = read_checkpoint(tmp_path)
    assert (found.number, found.description, found.damaged) == (3, {"epochs": 7}, ())
    assert {"state/params/0/w", "state/optimizer/1/0/mu/2/0/b", "state/key", "history/metrics/a"} <= set(found.leaves)
    like = jax.eval_shape(lambda: {"state": state, "history": HISTORY})
    same(trees.unflatten_named(like, found.leaves), {"state": state, "history": HISTORY})
    text = error(fnn.ShapeError, trees.unflatten_named, {"state": like["state"]}, found.leaves, str(tmp_path))
    assert text.startswith(
        f"{tmp_path}: expected those of this program, got 4 that differ:\n  history/loss: expected none"
    )


def names(folder):
    return sorted(os.listdir(folder))


def spoil(folder, number):
    with open(folder / f"checkpoint-{number}.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\7")


def test_the_last_two_are_kept_and_temporaries_of_the_dead_removed(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert read_checkpoint(folder) is None
    for number in range(12):
        written = write_checkpoint(folder, number, {"n": np.array(number)})
        assert written == str(folder / f"checkpoint-{number}.safetensors")
        (folder / ".checkpoint-5.safetensors.0123.tmp").write_text("stale")
        (folder / "mine.tmp").write_text("not ours")
        (folder / "checkpoint-x.safetensors").write_text("not ours")
        assert read_checkpoint(folder).leaves["n"] == number
    write_checkpoint(folder, 12, ())
    ours = ["checkpoint-11.safetensors", "checkpoint-12.safetensors", "checkpoint-x.safetensors"]
    assert names(folder) == [*ours, "mine.tmp"]


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(tmp_path):
    for number in (4, 5):
        write_checkpoint(tmp_path, number, {"n": np.array(number)})
    spoil(tmp_path, 5)
    found = read_checkpoint(tmp_path)
    assert found.number == 4 and found.leaves["n"] == 4
    assert len(found.damaged) == 1 and found.damaged[0].startswith(f"{tmp_path}/checkpoint-5.safetensors: expected ")
    assert names(tmp_path) == ["checkpoint-4.safetensors", "checkpoint-5.safetensors"]
    write_checkpoint(tmp_path, 5, {"n": np.array(55)})  # the run goes on from 4: two whole ones again
    assert names(tmp_path) == ["checkpoint-4.safetensors", "checkpoint-5.safetensors"]
    assert read_checkpoint(tmp_path).leaves["n"] == 55 and read_checkpoint(tmp_path).damaged == ()


def test_truncated_at_any_kib_or_with_any_bit_flipped_the_one_before_it_is_used(tmp_path):
    w = np.random.default_rng(0).integers(0, 255, 60_000, dtype=np.uint8)
    for number in (0, 1):
        write_checkpoint(tmp_path, number, {"w": w + np.uint8(number)})
    path = tmp_path / "checkpoint-1.safetensors"
    whole = path.read_bytes()

    def the_one_before():
        found = read_checkpoint(tmp_path)
        return found.number == 0 and len(found.damaged) == 1 and found.leaves["w"].tobytes() == w.tobytes()

    for bit in np.random.default_rng(1).choice(8 * len(whole), 1000, replace=False):
        place, mask = divmod(int(bit), 8)
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(bytes([whole[place] ^ 1 << mask]))
        assert the_one_before(), bit
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(whole[place : place + 1])
    assert read_checkpoint(tmp_path).number == 1
    for length in range(len(whole) // 1024 * 1024, -1, -1024):
        os.truncate(path, length)
        assert the_one_before(), length


def test_where_all_are_damaged_nothing_starts_anew_in_silence(tmp_path):
    for number in (0, 1):
        write_checkpoint(tmp_path, number, ())
        spoil(tmp_path, number)
    text = error(files.DamagedFile, read_checkpoint, tmp_path)
    assert text.startswith(
        f"{tmp_path}: expected a whole checkpoint, got 2 damaged or unreadable: checkpoint-1.safetensors, "
        "checkpoint-0.safetensors (expected the check sum '"
    )
    assert text.endswith(". Restore one from a copy, or delete them to start anew.") and len(text) <= 300
    assert len(names(tmp_path)) == 2


def test_a_number_below_that_of_a_whole_one_is_refused_and_of_a_damaged_one_taken(tmp_path):
    for number in (6, 7):
        write_checkpoint(tmp_path, number, {"n": np.array(number)})
    text = f"{tmp_path}: expected a number above 7, got 0. Read_checkpoint first."
    assert error(ValueError, write_checkpoint, tmp_path, 0, ()) == text
    spoil(tmp_path, 7)
    assert "expected a number above 6, got 5" in error(ValueError, write_checkpoint, tmp_path, 5, ())
    write_checkpoint(tmp_path, 6, {"n": np.array(66)})
    assert read_checkpoint(tmp_path).leaves["n"] == 66


# ---- processes that die, disks that are full

BEGIN = """
    import json, os, random, resource, shutil, signal, sys, tempfile, time
    import numpy as np
    import fnn.storage.files
    from fnn.storage.checkpoints import read_checkpoint, write_checkpoint
    folder, number = sys.argv[1], int(sys.argv[2])
    fnn.storage.files.import_safetensors()
    w = np.random.default_rng(0).integers(0, 255, 300_000, dtype=np.uint8)
"""

KILLS = """
    random.seed(0)
    seen, stale, written = [], 0, 0
    def names():
        return sorted(os.listdir(folder))
    for kill in range(number):
        begin = 0 if (found := read_checkpoint(folder)) is None else found.number + 1
        child = os.fork()
        if child == 0:
            for i in range(begin, 10**9):
                write_checkpoint(folder, i, {"w": w + np.uint8(i % 251)}, {"number": i})
        # after so many changes of what is in the folder, and not after so many seconds: the machine may be busy
        changes, before = random.randrange(9), names()
        written += changes >= 6  # a stale temporary removed, one made, renamed, the older one removed, another made
        while changes:
            changes, before = changes - (names() != before), names()
        while kill % 3 == 0 and not any(name.endswith(".tmp") for name in names()):
            pass
        time.sleep(random.uniform(0.0, 0.001))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        found = read_checkpoint(folder)
        if found is None:
            seen.append([-1, True, 0])
        else:
            right = found.leaves["w"] == w + np.uint8(found.number % 251)
            right = bool(right.all()) and found.description == {"number": found.number}
            seen.append([found.number, right, len(found.damaged)])
        kept = [name for name in os.listdir(folder) if name.startswith("checkpoint-")]
        assert len(kept) <= 3, kept
        stale += any(name.endswith(".tmp") for name in os.listdir(folder))
    write_checkpoint(folder, 10**9, {})
    print(json.dumps([seen, stale, written, os.listdir(folder)]))
"""

FULL = """
    old = write_checkpoint(folder, 0, {"w": w})
    before = open(old, "rb").read()
    def tried(folder, limit=resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write_checkpoint(folder, 1, {"w": w})
            said = None
        except OSError as error:
            said = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        return said, os.listdir(folder)
    full = [tried(folder, limit) for limit in (0, 1, 1000, number)]
    assert open(old, "rb").read() == before and read_checkpoint(folder).number == 0
    locked = tempfile.mkdtemp()  # not under pytest's own, which only its user may enter
    os.chmod(locked, 0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may write to anything
    read_only = locked, *tried(locked)
    if os.getuid() == 0:
        os.seteuid(0)
    shutil.rmtree(locked)
    print(json.dumps([full, read_only, tried(folder)]))
"""


def in_a_process(code, folder, number):
    code = textwrap.dedent(BEGIN) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(number)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SHARDED = """
    import jax
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
    spec = jax.sharding.PartitionSpec
    table = np.arange(8.0, dtype="float32").reshape(2, 4)
    made = [jax.device_put(table.astype(dtype), jax.sharding.NamedSharding(mesh, spec(*axes)))
            for dtype in ("float32", jax.numpy.bfloat16) for axes in (("d",), (None, "d"), ())]
    assert all(len(array.sharding.device_set) == number for array in made)
    write_checkpoint(folder, 0, made)
    leaves = read_checkpoint(folder).leaves
    print(json.dumps([bool((leaves[str(i)] == table).all()) for i in range(len(made))]))
"""


def test_arrays_that_lie_on_two_devices_are_written(tmp_path):
    assert in_a_process(SHARDED, tmp_path, 2) == [True] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")
@pytest.mark.parametrize("kills", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_killed_in_the_midst_of_writing_the_newest_is_whole(tmp_path, kills):
    seen, stale, written, left = in_a_process(KILLS, tmp_path, kills)
    numbers = [number for number, _, _ in seen]
    assert numbers == sorted(numbers) and numbers[-1] >= written - 1 > kills / 6  # none is lost that was there before
    assert all(right and damaged == 0 for _, right, damaged in seen)
    assert stale > kills / 10, "never killed in the midst: the test shows nothing"
    assert sorted(left) == sorted([f"checkpoint-{max(numbers)}.safetensors", "checkpoint-1000000000.safetensors"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits")
def test_a_full_disk_and_a_read_only_folder_lose_nothing(tmp_path):
    full, (locked, said, left), at_last = in_a_process(FULL, tmp_path, 200_000)
    hint = "Free space, or choose a folder that exists and may be written to."
    new = tmp_path / "checkpoint-1.safetensors"
    for text, kept in full:
        assert kept == ["checkpoint-0.safetensors"]
        was = "what was there before is as it was"
        assert text == f"[Errno 27] {new}: expected to write the file, got 'File too large'; {was}. {hint}"
    assert said.startswith(f"[Errno 13] {locked}/checkpoint-1.safetensors: expected to write the file, got 'Permission")
    assert left == []
    assert at_last[0] is None and sorted(at_last[1]) == ["checkpoint-0.safetensors", "checkpoint-1.safetensors"]
