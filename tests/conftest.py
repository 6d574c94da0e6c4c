"""What all tests share: no silent mixing of dtypes, and float64 for the tests that ask for it."""

import gc
import os
import shutil
import signal
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest
from hypothesis import settings
from jax._src.interpreters import mlir

import fnn
from fnn.data import checks
from fnn.kernels import matmul

# Compiling small programs is most of a test's time, so XLA is told to do it plainly: 283 s instead of 441, and in one
# piece, another 11 % less. Set XLA_FLAGS (to nothing, say) to test with what users have. The last two flags are for JAX
# before 0.11: the emitters are always on since then, and one piece gains nothing.
FLAGS = ["--xla_backend_optimization_level=0"]
OLD_FLAGS = ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS if jax.__version_info__ >= (0, 11) else FLAGS + OLD_FLAGS))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_traceback_in_locations_limit", 0)  # Python lines of each operation cost 2 % of the time
settings.register_profile("fnn", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("fnn")


# A shell starts what is to run in the background without Ctrl-C, and tests of signals would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test makes many short-lived objects beside the modules that stay: collected less often, it takes 7 % less time.
gc.set_threshold(20_000, 20, 20)


def pytest_configure(config):
    """Keep compiled programs in pytest's cache folder: of two workers one compiles, and the next run finds them.

    Without the folder (`-p no:cacheprovider`) each worker compiles all of its own.
    """
    if hasattr(config, "cache"):
        kept = config.cache.mkdir("programs")
        if not hasattr(config, "workerinput") and sum(f.stat().st_size for f in kept.iterdir()) > MOST_KEPT:
            shutil.rmtree(kept)  # those of older versions of the code are in there too
        folders.append(str(config.cache.mkdir("programs")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_compilation_cache_dir", folders[0])


MOST_KEPT = 10**9  # bytes
folders = []  # where compiled programs are kept, if anywhere


@pytest.fixture(autouse=True)
def programs_are_kept():
    """Also after a test of the compile cache, which names another folder."""
    if folders and jax.config.jax_compilation_cache_dir != folders[0]:
        jax.config.update("jax_compilation_cache_dir", folders[0])


def pytest_collection_finish():
    gc.collect()
    gc.freeze()


if not all(map(find_spec, ("flax", "equinox", "haiku"))):  # programs for tests that are left out where one is missing
    collect_ignore = ["helpers/foreign.py", "helpers/killed_foreign.py"]

MOST_MEGABYTES = 2_000  # of a process of tests; JAX keeps every program that it has compiled


@pytest.fixture(autouse=True, scope="module")
def one_context():
    """JAX lowers each program in a context of its own, which takes 3 ms to make: one serves a file of tests."""
    make = getattr(mlir, "make_ir_context", None)  # where JAX has it no longer, all is as without
    with pytest.MonkeyPatch.context() as patch:
        if make:
            patch.setattr(mlir, "make_ir_context", lru_cache(make))
        yield


@pytest.fixture(autouse=True, scope="module")
def memory_is_given_back():
    """After a file of tests, when there is much to give back: else a process of many files takes over 5 GB.

    What JAX keeps is frozen: a collection of garbage that a test asks for would look at it again, for a second or
    three. Its caches let go of it all the same.
    """
    yield
    if resident_megabytes() > MOST_MEGABYTES:
        jax.clear_caches()
        fnn.clear_caches()
    gc.freeze()


def resident_megabytes():
    """Where Linux tells it; else 0."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    except OSError:
        return 0
    return int(lines["VmRSS"].split()[0]) // 1024


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=1, help="how often test_kill kills a training run")
    parser.addoption("--signals", type=int, default=300, help="how many signals the long run of test_signals sends")
    parser.addoption("--programs", type=int, default=200, help="how many programs the long run of test_fuzz has")
    parser.addoption("--seed", type=int, default=0, help="which program is the first, at which times signals come")
    parser.addoption("--children", type=int, default=1, help="how many of them run at a time")
    parser.addoption("--networks", type=int, default=2000, help="how many right networks the slow test checks")


@pytest.fixture
def kills(request):
    """How often to kill."""
    return request.config.getoption("--kills")


@pytest.fixture
def signals(request):
    """How many signals, and the seed of their times."""
    return request.config.getoption("--signals"), request.config.getoption("--seed")


@pytest.fixture
def programs(request):
    """How many programs, the first one's seed, and how many at a time."""
    return tuple(request.config.getoption(f"--{name}") for name in ("programs", "seed", "children"))


@pytest.fixture
def networks(request):
    """How many right networks; a quarter as many with a mistake."""
    return request.config.getoption("--networks")


@pytest.fixture(autouse=True)
def warnings_are_new():
    """A process is warned of float64 data once, and so is every test."""
    checks.said_in_process.clear()


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def exact_products():
    """Products of float32 as exact as float32 is, for one test: a GPU rounds their factors to 10 bits otherwise."""
    with matmul.exact_products():
        yield


@pytest.fixture
def compiled():
    """Names of what has been compiled since the start of the test."""
    names = []

    def listen(event, duration, **more):
        if "backend_compile" in event:
            names.append(more.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)
