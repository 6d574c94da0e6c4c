"""C files: compiled without a warning, they say what `predict` says."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import fnn
from tests.helpers.exported import a_run, inputs

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
FLAGS = ["-std=c99", "-O2", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fPIC", "-shared"]
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

EACH = [fnn.relu, fnn.leaky_relu(), fnn.elu(0.7), fnn.selu, fnn.gelu, fnn.silu, fnn.softplus, fnn.softsign]
EACH += [fnn.sigmoid, fnn.tanh, fnn.softmax, fnn.prelu(), fnn.rrelu(), fnn.elu(np.float32([0.1, 0.2, 0.3, 0.4]))]
EACH += [fnn.batch_norm(), fnn.layer_norm(), fnn.dropout(0.5), fnn.gaussian_noise(0.1), fnn.rescale(0.5, -1.0)]
EACH += [fnn.residual(fnn.dense(4), fnn.relu), fnn.repeat(fnn.serial(fnn.dense(4), fnn.tanh), 3), fnn.dense(3)]
EACH += [fnn.rms_norm(), fnn.group_norm(2), fnn.group_norm(1, scale=False)]
CATEGORIES = fnn.serial(fnn.embedding(5, 3), fnn.group_norm(3), fnn.flatten(), fnn.dense(2))
NETS = {
    **{str(layer): (fnn.serial(layer), (4,)) for layer in EACH},
    "many inputs": (fnn.serial(fnn.dense(50), fnn.batch_norm(), fnn.relu, fnn.dense(10)), (784,)),
    "flatten": (fnn.serial(fnn.prelu(), fnn.layer_norm(), fnn.flatten(), fnn.dense(2)), (3, 4)),
}


def compile_c(tmp_path, name="fnn_predict"):
    subprocess.run([COMPILER, *FLAGS, "net.c", "-o", "net.so", "-lm"], cwd=tmp_path, check=True)
    return getattr(ctypes.CDLL(str(tmp_path / "net.so")), name)


def call_c(function, x, out_shape):
    floats = ctypes.POINTER(ctypes.c_float)
    outputs = np.empty((len(x), *out_shape), np.float32)
    for row, y in zip(np.ascontiguousarray(x), outputs, strict=True):
        function(row.ctypes.data_as(floats), y.ctypes.data_as(floats))
    return outputs


@needs_compiler
def test_each_layer_and_a_network_of_many_inputs(tmp_path):
    """One library has a function for each."""
    files = []
    for i, (net, in_shape) in enumerate(NETS.values()):
        fnn.export_c(tmp_path / f"net{i}.c", net, a_run(net, in_shape), function=f"f{i}")
        files.append(f"net{i}.c")
    subprocess.run([COMPILER, *FLAGS, *files, "-o", "net.so", "-lm"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "net.so"))
    off = {}
    for i, (name, (net, in_shape)) in enumerate(NETS.items()):
        x = inputs(in_shape)
        expected = fnn.predict(net, a_run(net, in_shape), x)
        y = call_c(library[f"f{i}"], x, expected.shape[1:])
        off[name] = np.abs(y - expected).max() / np.abs(expected).max()
    assert {name: value for name, value in off.items() if not value <= 1e-6} == {}


@needs_compiler
def test_categories_are_looked_up_and_others_are_nan(tmp_path):
    run, x = a_run(CATEGORIES, (2,)), np.float32([[0, 4], [3, 3], [2, 1]])
    fnn.export_c(tmp_path / "net.c", CATEGORIES, run)
    function = compile_c(tmp_path)
    np.testing.assert_allclose(call_c(function, x, (2,)), fnn.predict(CATEGORIES, run, x), rtol=1e-5)
    assert np.isnan(call_c(function, np.float32([[5, 0], [-1, 0], [0.5, 0], [np.nan, 0], [1e30, 0]]), (2,))).all()


@needs_compiler
def test_the_standardiser_is_a_part_of_the_function(tmp_path):
    measured = (1e6 + inputs((3,), 50)).astype("float32")
    scale, net = fnn.standardiser(measured), fnn.serial(fnn.dense(4), fnn.tanh)
    run = a_run(net, (3,))
    stated = fnn.export_c(tmp_path / "net.c", net, run, standardiser=scale)
    assert stated.endswith("standardises itself by (x - mean)/deviation; output y: float32 (4)")
    y = call_c(compile_c(tmp_path), measured, (4,))
    np.testing.assert_allclose(y, fnn.predict(net, run, scale(measured)), atol=1e-6)


def test_the_file_states_its_inputs_and_outputs(tmp_path):
    net = fnn.serial(fnn.dense(4), fnn.tanh)
    fnn.export_c(tmp_path / "net.c", net, a_run(net, (3,)))
    head = (tmp_path / "net.c").read_text().partition("*/")[0]
    assert "input x: float32 (3)" in head and "output y: float32 (4)" in head and "two threads" in head


def test_what_c_cannot_have_is_refused(tmp_path):
    images = fnn.serial(fnn.conv2d(2, 3), fnn.relu)
    with pytest.raises(TypeError, match="expected dense layers and activations of fnn, got convolution"):
        fnn.export_c(tmp_path / "net.c", images, a_run(images, (5, 5, 1)))
    net = fnn.serial(fnn.dense(2))
    for name in ("two words", "int", "main", "tanhf", "exp", "INFINITY"):
        with pytest.raises(ValueError, match="function: expected a name in C, got"):
            fnn.export_c(tmp_path / "net.c", net, a_run(net, (3,)), function=name)
    assert list(tmp_path.iterdir()) == []
