"""Python started in places where something usual is missing: everything works, or one clear line says what does not."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = str(Path(__file__).parent / "helpers" / "small_program.py")
LIMIT = 300  # seconds, to end a hang
NO_HOME = {"HOME": None, "XDG_CACHE_HOME": None}
NO_TEMPORARY = {"TMPDIR": "/there/is/none"}
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
# name -> what of the environment is another (None: not there), which of the first three files are closed
PLACES = {
    "no HOME": (NO_HOME, ()),
    "a HOME that is not there": ({"HOME": "/there/is/none"}, ()),
    "no TMPDIR": ({"TMPDIR": None}, ()),
    "a TMPDIR that is not there": (NO_TEMPORARY, ()),
    "no environment at all": (dict.fromkeys(os.environ), ()),
    "closed stdin": ({}, (0,)),
    "closed stdout": ({}, (1,)),
    "closed stderr": ({}, (2,)),
    "all closed": ({}, (0, 1, 2)),
    "an ASCII locale": (ASCII, ()),
    "without docstrings and assertions": ({"PYTHONOPTIMIZE": "2"}, ()),
    "all of these": (NO_HOME | NO_TEMPORARY | ASCII, (0, 1, 2)),
}


def start(*arguments, environment=None, closed=()):
    """Python, as a shell starts it with `<&-` and the like; errors go to a file, for there may be no stderr."""
    own = {name: value for name, value in (os.environ | (environment or {})).items() if value is not None}
    own |= {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    shut = " ".join(f"{number}>&-" for number in closed)
    command = ["/bin/sh", "-c", f'exec "$@" {shut}', "sh", sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=LIMIT, check=False)


def check_place(name, folder):
    environment, closed = PLACES[name]
    done = start(PROGRAM, folder, environment=environment, closed=closed)
    said = (folder / "said").read_text(encoding="utf-8") if (folder / "said").exists() else ""
    assert done.returncode == 0 and said.endswith("all is well\n"), (said, done.stdout, done.stderr)
    assert 1 in closed or done.stdout.endswith("all is well\n")


@pytest.mark.slow
def test_where_everything_is_missing_it_works(tmp_path):
    check_place("all of these", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLACES if name != "all of these"])
def test_where_one_thing_is_missing_it_works(name, tmp_path):
    check_place(name, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("home", ["none", "read-only"])
def test_another_user_works(home, tmp_path):
    """Somebody whom the system does not know, who may write into one folder alone."""
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        os.chmod(folder, os.stat(folder).st_mode | 0o011)
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o777)
    (tmp_path / "home").mkdir(mode=0o555)
    program = f"""
        import os, safetensors.numpy, tests.helpers.small_program as program
        os.setgid(54321)
        os.setuid(54321)
        os.environ.pop("HOME") if {home == "none"} else os.environ.update(HOME={str(tmp_path / "home")!r})
        program.main({str(tmp_path / "work")!r})
        """
    done = start("-c", textwrap.dedent(program))
    assert done.stdout.endswith("all is well\n"), done.stderr


TRAIN = """
import os, signal, sys, threading, time
import numpy as np, optax, fnn
x = np.ones((40, 3), "float32")
def train(epochs=2):
    data = x, x[:, :1]
    return fnn.fit(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, optax.sgd(0.01), data, epochs=epochs)
def swept(epochs=2):
    more = {"over": {"lr": [0.1, 0.2, 0.3]}, "epochs": epochs}
    fnn.sweep(fnn.serial(fnn.dense(1)), fnn.losses.squared_error, lambda s: optax.sgd(s["lr"]), (x, x[:, :1]), **more)
"""


def run(code):
    done = start("-c", TRAIN + textwrap.dedent(code))
    return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize(
    "work, seconds",
    [
        ("train(10**8)", 0.2),
        pytest.param("train(10**8)", 1.5, marks=pytest.mark.slow),
        pytest.param("swept(10**8)", 1.5, marks=pytest.mark.slow),
    ],
)
def test_a_daemon_thread_dies_quietly_with_the_program(work, seconds):
    """Whether it traces, compiles or trains. A thread that comes back from compiled code after that aborts Python."""
    code = f"""
        threading.Thread(target=lambda: {work}, daemon=True).start()
        time.sleep({seconds})
        print("the end")
        """
    assert run(code) == (0, "the end", "")


def test_a_thread_that_outlives_the_main_one_trains():
    """In Python 3.12 it cannot start threads then."""
    code = """
        def late():
            while threading.main_thread().is_alive():
                time.sleep(0.01)
            print(len(train().history.loss))
            swept()
            data = lambda: [(x, x[:, :1])]
            net, loss = fnn.serial(fnn.dense(1)), fnn.losses.squared_error
            print(len(fnn.fit(net, loss, optax.sgd(0.01), data, epochs=3, batch_size=8).history.loss))
        threading.Thread(target=late).start()
        """
    assert run(code) == (0, "2\n3", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("before", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_fork_works_before_anything_has_been_computed_and_says_so_after(before):
    code = f"""
        import warnings
        warnings.simplefilter("ignore")  # JAX warns of forks
        if {before}:
            train()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                print(len(train().history.loss), flush=True)
            except RuntimeError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """
    status, said, _ = run(code)
    expected = "process: expected one that was started by itself, got a fork of process "
    assert status == 0 and (said.startswith(expected) if before else said == "2"), said
    assert not before or "multiprocessing.get_context('spawn')" in said
