"""Compiled programs on the disk: in the folder that was named last, and nowhere once that is turned off."""

import os
import stat
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import fnn

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
SETTINGS += ("jax_persistent_cache_min_entry_size_bytes",)


@pytest.fixture(autouse=True)
def settings_are_as_before():
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax.jit(lambda x: x - 1)(1.0)  # so that JAX looks at the setting


def count(folder):
    return len(os.listdir(folder))


def test_the_folder_named_last_counts_and_none_when_it_is_off(tmp_path):
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))
    fnn.enable_compile_cache(first)
    jax.jit(lambda x: x + 1)(1.0)
    kept = count(first)
    assert kept > 0
    jax.config.update("jax_compilation_cache_dir", None)
    jax.jit(lambda x: x + 2)(1.0)
    assert count(first) == kept
    fnn.enable_compile_cache(second)
    jax.jit(lambda x: x + 3)(1.0)
    assert count(first) == kept and count(second) > 0
    fnn.enable_compile_cache(first)
    jax.jit(lambda x: x + 4)(1.0)
    assert count(first) > kept
    os.mkdir(third)
    jax.config.update("jax_compilation_cache_dir", third)  # by JAX alone
    jax.jit(lambda x: x + 5)(1.0)
    assert count(third) > 0


def test_a_run_is_kept_and_found(tmp_path):
    x = np.ones((7, 3), "float32")
    parts = fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.1), (x, x[:, :1])

    def train():
        fnn.fit(*parts, epochs=1, progress=False)

    fnn.enable_compile_cache(tmp_path / "programs")
    train()
    kept = set(os.listdir(tmp_path / "programs"))
    assert any("run" in name for name in kept)
    fnn.clear_caches()
    jax.clear_caches()
    train()
    assert {name for name in os.listdir(tmp_path / "programs") if not name.endswith("atime")} <= kept


def test_the_default_is_a_folder_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fnn.enable_compile_cache()
    folder = tmp_path / "fnn" / "programs"
    assert jax.config.jax_compilation_cache_dir == str(folder) and stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for none in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        fnn.enable_compile_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "home" / ".cache" / "fnn" / "programs")


def test_a_default_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(PermissionError, match=r"folder: expected .* to belong to you"):
        fnn.enable_compile_cache()
    fnn.enable_compile_cache(tmp_path / "fnn" / "programs")  # the hint: what is named is taken


def test_programs_that_were_not_used_for_longest_go(tmp_path):
    for age, name in enumerate(("newest-cache", "middle-cache", "oldest-cache", "mine.txt")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    fnn.enable_compile_cache(tmp_path, most_bytes=250)
    assert sorted(os.listdir(tmp_path)) == ["middle-cache", "mine.txt", "newest-cache"]
    fnn.enable_compile_cache(tmp_path, most_bytes=0)
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.slow
def test_a_variable_of_the_environment_enables_it(tmp_path):
    program = "import fnn, jax; print(jax.config.jax_compilation_cache_dir)"
    for value, folder in (("", "None"), (str(tmp_path / "programs"), str(tmp_path / "programs"))):
        environment = os.environ | {"FNN_COMPILE_CACHE": value, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert run.stdout.strip() == folder, run.stderr
