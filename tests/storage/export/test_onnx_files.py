"""ONNX files: onnxruntime says what `predict` says, for every layer and activation, alone and in random networks."""

import errno
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.activations import Activation
from fnn.devices import atomic
from tests.helpers.exported import (
    CHANNELWISE,
    PRODUCTS,
    WORDS,
    a_run,
    inputs,
    random_fitting_network,
    random_sequence_network,
)
from tests.helpers.faults import Faults

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BRANCHES = [name for name in PRODUCTS if "parallel(" in name]
ALONE = [name for name in PRODUCTS if name not in BRANCHES]
QUICK = ALONE[::4]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ALONE if name not in QUICK]


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def difference(path, net, run, x, standardiser=None, reference=None):
    """Largest difference from `predict` over the largest output, of all rows and of one alone."""
    fnn.export_onnx(path, net, run, standardiser=standardiser)
    onnx.checker.check_model(path, full_check=True)
    runtime = session(path)
    y = np.concatenate([runtime.run(["y"], {"x": x[:1]})[0], runtime.run(["y"], {"x": x})[0]])
    scaled = x if standardiser is None else standardiser(x)
    expected = fnn.predict(net if reference is None else reference, run, scaled)
    expected = np.concatenate([expected[:1], expected])
    assert y.shape == expected.shape and y.dtype == np.float32
    return np.abs(y - expected).max() / max(np.abs(expected).max(), 1e-30)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "net.onnx")


def test_all_that_predicts_is_a_product_or_a_part_of_one():
    kinds = {name for name, thing in vars(fnn).items() if isinstance(thing, Activation)}
    kinds |= {name for name, thing in vars(fnn).items() if getattr(thing, "is_factory", False)} - {"binary_accuracy"}
    text = " ".join([*PRODUCTS, *(str(net) for net, _ in PRODUCTS.values())])
    assert [kind for kind in sorted(kinds) if kind not in text] == []


@pytest.mark.parametrize("name", BRANCHES)
def test_networks_that_branch_are_refused_and_stablehlo_takes_them(name, path):
    net, in_shape = PRODUCTS[name]
    run, x = a_run(net, in_shape), inputs(in_shape)
    with pytest.raises(TypeError, match=r"expected layers that it can write, got parallel.* Use export_stablehlo"):
        fnn.export_onnx(path, net, run)
    fnn.export_stablehlo(path, net, run)
    with open(path, "rb") as file:
        program = jax.export.deserialize(bytearray(file.read()))
    np.testing.assert_allclose(program.call(x), fnn.predict(net, run, x), 1e-6, 1e-6)


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_each_layer_alone(name, path):
    net, in_shape = PRODUCTS[name]
    run = a_run(net, in_shape)
    # mixed precision is exported in float32
    plain = dict(net.spec.arguments)["net"] if name == "mixed_precision" else None
    assert difference(path, net, run, inputs(in_shape, product=name), reference=plain) <= 1e-5


@pytest.mark.parametrize("number", [*range(4), *(pytest.param(i, marks=pytest.mark.slow) for i in range(4, 50))])
def test_random_networks(number, path):
    net, in_shape = random_fitting_network(number)
    assert difference(path, net, a_run(net, in_shape, number), inputs(in_shape)) <= 1e-5, net


def test_what_is_no_category_is_nan_as_in_the_layer(path):
    net = fnn.embedding(3, 2)
    run = a_run(net, (4,))
    fnn.export_onnx(path, net, run)
    x = np.float32([[0, 1, 2, 3], [-1, 0.5, np.nan, -0.0]])
    expected = net.forward(run.params, (), jnp.asarray(x), None, False)[0]
    assert np.isnan(expected).sum() == 8
    np.testing.assert_array_equal(session(path).run(["y"], {"x": x})[0], expected)


@pytest.mark.parametrize("number", [0, 1, *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 50))])
def test_random_networks_of_words(number, path):
    net, in_shape = random_fitting_network(number, random_sequence_network)
    words = np.random.default_rng(number).integers(0, WORDS, (17, *in_shape)).astype("float32")
    assert difference(path, net, a_run(net, in_shape, number), words) <= 1e-5, net


def test_a_wrong_number_is_seen(path):
    net, in_shape = PRODUCTS["mixed_precision"]
    run = a_run(net, in_shape)
    assert difference(path, net, run, inputs(in_shape)) > 1e-5  # bfloat16 is another network


def test_images_are_turned_round_once_on_the_way_in_and_batch_norm_is_a_part_of_the_weights(path):
    block = (fnn.conv2d(4, 3), fnn.batch_norm(), fnn.relu)
    net = fnn.serial(*block, fnn.max_pool(2), *block, fnn.flatten(), fnn.dense(3), fnn.batch_norm())
    assert difference(path, net, a_run(net, (8, 8, 2)), inputs((8, 8, 2))) <= 1e-5
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == ["Transpose", "Conv", "Relu", "MaxPool", "Conv", "Relu", "Transpose", "Flatten", "Gemm", "Identity"]


def test_the_standardiser_is_a_part_of_the_program_and_the_file_says_so(path):
    rng = np.random.default_rng(0)
    measured = (1e6 + rng.normal(size=(50, 3))).astype("float32")
    scale = fnn.standardiser(measured)
    net = fnn.serial(fnn.dense(4), fnn.tanh)
    assert difference(path, net, a_run(net, (3,)), measured[:17], scale) <= 1e-5
    model = onnx.load(path)
    assert "which the program standardises itself" in model.doc_string and "float32 (batch, 4)" in model.doc_string
    assert [entry.version for entry in model.opset_import] == [17]
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["x", "y"]


PLAIN = {  # functions of the user's
    "jnp.sin": jnp.sin,
    "jax.nn.gelu": jax.nn.gelu,
    "arithmetic": lambda x: jnp.where(x > 0, jnp.log1p(x), x**3) / (1 + jnp.exp(-x)),
    "elementwise": fnn.elementwise("square", lambda x: x * x, lambda x: 2 * x),
    "with a constant": lambda x: x * jnp.array([1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_functions_of_each_element(name, path):
    net = fnn.serial(PLAIN[name])
    assert difference(path, net, a_run(net, (4,)), inputs((4,))) <= 1e-5


REFUSED = {
    "own layer": (fnn.Layer("own", lambda k, s: ((), (), s), lambda p, s, x, k, t: (x, s, x), None), "got own. Use"),
    "sum": (lambda x: x.sum(-1, keepdims=True), "one with another shape. Use export_stablehlo"),
    "cumulative sum": (lambda x: jnp.cumsum(x, -1), "one with cumsum. Use export_stablehlo"),
    "reversed": (lambda x: x[:, ::-1], "one with rev. Use export_stablehlo"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_nodes_is_refused_by_name(name, path):
    layer, expected = REFUSED[name]
    net = fnn.serial(fnn.dense(4), layer)
    with pytest.raises(TypeError, match=expected):
        fnn.export_onnx(path, net, a_run(net, (3,)))
    assert not os.path.exists(path)


def test_a_full_disk_leaves_the_file_that_was_there(path, monkeypatch):
    net = fnn.serial(fnn.dense(4))
    fnn.export_onnx(path, net, a_run(net, (3,)))
    before = Path(path).read_bytes()
    Faults(monkeypatch, atomic).fail("write", 0, errno.ENOSPC)
    with pytest.raises(OSError, match="is as it was"):
        fnn.export_onnx(path, net, a_run(net, (3,), 1))
    assert Path(path).read_bytes() == before and os.listdir(os.path.dirname(path)) == ["net.onnx"]


def test_arguments_that_do_not_fit_are_named(path):
    net = fnn.serial(fnn.dense(4))
    run = a_run(net, (3,))
    with pytest.raises(ValueError, match="in_shape: expected the shape of one example, got None"):
        fnn.export_onnx(path, net, run._replace(in_shape=None))
    with pytest.raises(fnn.ShapeError, match="run: expected the parameters"):
        fnn.export_onnx(path, net, run, (5,))
    with pytest.raises(fnn.ShapeError, match=r"standardiser: expected one for examples of shape \(3,\)"):
        fnn.export_onnx(path, net, run, standardiser=fnn.standardiser(inputs((2,))))
    with pytest.raises(ValueError, match="expected finite numbers, got nan or inf"):
        fnn.export_onnx(path, net, run._replace(params=jax.tree.map(lambda a: a * np.nan, run.params)))


def test_what_keeps_the_shape_is_in_the_random_networks():
    text = " ".join(str(random_fitting_network(i)[0]) for i in range(50))
    assert [str(layer) for layer in CHANNELWISE if str(layer) not in text] == []
    for part in (
        "SAME",
        "VALID",
        "padding=((",
        "groups=2",
        "groups=4",
        "stride=(2",
        "dilation=(",
        "avg_pool",
        "bias=F",
        "conv_transpose2d",
        "upsample",
        "bilinear",
    ):
        assert part in text or part == "SAME", part  # "SAME" is the default, which is not printed
