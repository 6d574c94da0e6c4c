"""StableHLO programs: the bits of the network's own program, for any number of rows."""

import sys

import jax
import numpy as np
import pytest

import fnn
from tests.helpers.exported import a_run, inputs

DENSE = fnn.serial(fnn.dense(8), fnn.batch_norm(), fnn.tanh, lambda x: x + x.sum(-1, keepdims=True), fnn.dense(2))
IMAGES = fnn.serial(
    fnn.conv2d(4, 3, groups=2), fnn.relu, fnn.max_pool(2), fnn.dropout(0.5), fnn.flatten(), fnn.dense(3)
)
NETS = {"dense, with a function of one's own": (DENSE, (3,)), "images": (IMAGES, (7, 6, 2))}


@pytest.mark.parametrize("name", NETS)
def test_the_program_of_the_file_gives_the_same_bits(name, tmp_path):
    net, in_shape = NETS[name]
    run = a_run(net, in_shape)
    stated = fnn.export_stablehlo(tmp_path / "net.stablehlo", net, run)
    program = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda") and f"float32 {(*program.in_avals[0].shape,)}" in stated
    own = jax.jit(lambda x: net.forward(run.params, run.state, x, None, False)[0])
    for rows in (1, 8, 17):
        x = inputs(in_shape, rows)
        y = np.asarray(jax.jit(program.call)(x))
        np.testing.assert_array_equal(y, own(x))
        np.testing.assert_allclose(y, fnn.predict(net, run, x), 1e-6, 1e-6)


def test_the_standardiser_is_a_part_of_the_program(tmp_path):
    measured = (1e6 + inputs((3,), 50)).astype("float32")
    scale, net = fnn.standardiser(measured), fnn.serial(fnn.dense(4), fnn.tanh)
    run = a_run(net, (3,))
    assert "standardises itself" in fnn.export_stablehlo(tmp_path / "a", net, run, standardiser=scale)
    program = jax.export.deserialize(bytearray((tmp_path / "a").read_bytes()))
    np.testing.assert_allclose(program.call(measured), fnn.predict(net, run, scale(measured)), atol=1e-6)
    fnn.export_stablehlo(tmp_path / "a", net, run)
    assert not np.allclose(jax.export.deserialize(bytearray((tmp_path / "a").read_bytes())).call(measured), 0.5)


@pytest.mark.parametrize("function, package", [(fnn.export_stablehlo, "flatbuffers"), (fnn.export_onnx, "onnx")])
def test_a_missing_package_is_named_with_its_install_line(function, package, monkeypatch, tmp_path):
    net = fnn.serial(fnn.dense(2))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed\. Run: pip install \"fnn\[export\]\""):
        function(tmp_path / "file", net, a_run(net, (3,)))
    assert not list(tmp_path.iterdir())
