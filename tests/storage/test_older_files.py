"""What an earlier fnn has written, whose modules had other names, is read and gone on with by this one."""

import shutil
import warnings

import numpy as np

import fnn
from tests.helpers.compare import close
from tests.helpers.older_files import FILES, X, run


def test_a_saved_network_predicts_as_before():
    net, made = fnn.load(FILES / "saved.fnn")
    close(fnn.predict(net, made, X), np.load(FILES / "outputs.npy"), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_is_gone_on_with(tmp_path):
    folder = shutil.copytree(FILES / "checkpoint", tmp_path / "checkpoint")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*JAX")  # written by one version, read by several
        longer = run(5, checkpoint=folder)
    _, made = fnn.load(FILES / "saved.fnn")
    assert longer.history.loss.shape == (5,)
    np.testing.assert_array_equal(longer.history.loss[:3], made.history.loss)  # not trained anew
