"""Every argument of every public function with values that are wrong: a named error, or none where they are right."""

import contextlib
import inspect
import io
import os
import re
import tempfile
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn import losses, metrics, penalties, plots, schedules
from tests.helpers.compare import has_hint
from tests.helpers.public_calls import Call, calls
from tests.helpers.wrong_values import FINE, NUMBER, TABLE, VALUES

# what a message may name in place of the argument: where the value went
NAMES = [
    "layer",
    "loss",
    "dense(",
    "sparse_softmax_cross_entropy",
    "accuracy",
    "data",
    "function",
    "tanh",
    "validation",
    "batch_size",
    "expected the arguments",
]
OWN = str(Path(fnn.__file__).parent)


def put(arguments, place, value):
    """The arguments, with a value at a place in them."""
    name, *inner = place if isinstance(place, tuple) else (place,)
    if not inner:
        return arguments | {name: value}
    thing = arguments.get(name)
    if isinstance(thing, dict):
        return arguments | {name: put(thing, tuple(inner), value)}
    items = dict(enumerate(thing))
    return arguments | {name: type(thing)(put(items, tuple(inner), value).values())}


def run(call, arguments):
    """Call the function, and use what it returns."""
    signature = inspect.signature(call.function)
    more = {name: value for name, value in arguments.items() if name not in signature.parameters}
    arguments = {name: arguments[name] for name in signature.parameters if name in arguments}
    if more:  # of `**training`
        place = next(p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD)
        arguments[place] = arguments.get(place, {}) | more
    bound = inspect.BoundArguments(signature, arguments)
    made = call.function(*bound.args, **bound.kwargs)
    return made if call.use is None else call.use(made)


def own_error(error, names):
    """Why an error is not of our form; None: it is."""
    text = str(error)
    if isinstance(error, OSError) or text == "of mine":  # of the disk, of the user
        return None
    if not re.match(r"[^\n]{1,150}?: expected .", text) or not has_hint(text):
        return "not of our form"
    if not isinstance(error, (TypeError, ValueError, IndexError, MemoryError)):
        return "of another type"
    if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(OWN):
        return "raised elsewhere"
    if " at 0x" in text or (len(text) > 600 and "differ" not in text):
        return "too long"
    if not any(name in text for name in [*names, *NAMES]):
        return "does not name the argument"
    return None


def outcome(call, name, place, value):
    """What comes of one value at one place: "" where all is well."""
    kind = call.kinds[place]
    fine = value in FINE[kind] | call.fine.get(place, set())
    names = [str(part) for part in (place if isinstance(place, tuple) else (place,))] + [name.split(".")[-1]]

    def once(given):
        arguments = put(call.arguments, place, given)
        return run(call, arguments)

    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            if value in (NUMBER, TABLE):
                traced = jnp.float32(0.5) if value == NUMBER else jnp.ones((7, 3), jnp.float32)
                jax.make_jaxpr(lambda a: (once(a), 0)[1])(traced)
            else:
                once(VALUES[value]())
    except Exception as error:
        why = own_error(error, names)
        got = f"{type(error).__name__}: {str(error)[:150]!r}"
        return "" if why is None else f"raw ({why}) {got}"
    return "" if fine else "silent"


@pytest.fixture(scope="module")
def table():
    """All calls, in a folder of their own."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        os.chdir(folder)
        try:
            yield calls()
        finally:
            os.chdir(here)
            jax.config.update("jax_compilation_cache_dir", None)


SLOW = {"fit", "sweep", "sweep training", "cross_validate", "ensemble", "trainer", "check_gradients"}
MODULES = [fnn, losses, metrics, penalties, plots, schedules]


def public():
    """Every public function, by the name that it has in the table: `fit`, `losses.huber`."""
    for module in MODULES:
        names = fnn.__all__ if module is fnn else [name for name in vars(module) if name[0] != "_"]
        for name in names:
            thing = getattr(module, name)
            if module is not fnn and thing is getattr(fnn, name, None):
                continue
            own = getattr(thing, "__module__", "").startswith("fnn") or isinstance(thing, (fnn.Loss, fnn.Activation))
            if callable(thing) and own and not isinstance(thing, type) and not name.startswith("as_sch"):
                helper = module is schedules and thing.__module__ != "fnn.schedules"
                if not helper:
                    yield name if module is fnn else f"{module.__name__.rpartition('.')[2]}.{name}", thing


def test_every_argument_of_every_public_function_is_in_the_table(table):
    missing = [name for name, _ in public() if name not in table]
    assert missing == []
    for name, call in table.items():
        places = [place[0] if isinstance(place, tuple) else place for place in call.kinds]
        for parameter in inspect.signature(call.function).parameters.values():
            own = parameter.kind is parameter.VAR_KEYWORD or parameter.name in places or name == "sweep training"
            assert own, (name, parameter.name)


QUICK = [
    "dense",
    "predict",
    "evaluate",
    "save",
    "load",
    "folds",
    "hold_out",
    "grid",
    "draws",
    "standardise",
    "memory_mapped",
    "plots.curves",
]


@pytest.mark.parametrize("names", [QUICK, pytest.param(None, marks=pytest.mark.slow)])
def test_the_calls_of_the_table_work(table, names):
    for name in names or [name for name in table if not name.startswith("from_") or name == "from_function"]:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            run(table[name], table[name].arguments)
    jax.config.update("jax_compilation_cache_dir", None)


def test_what_is_wrong_is_seen(table):
    call = table["dense"]
    assert outcome(call, "dense", "features", "3") == outcome(call, "dense", "features", "-1") == ""
    silent = Call(lambda features: None, {"features": 1}, {"features": "count"})
    assert outcome(silent, "dense", "features", "-1") == "silent"
    raw = Call(lambda features: [0][features], {"features": 0}, {"features": "count"})
    assert "not of our form" in outcome(raw, "dense", "features", "text")
    elsewhere = Call(_raise, {"features": 0}, {"features": "count"})
    assert "raised elsewhere" in outcome(elsewhere, "dense", "features", "text")


def _raise(features):
    raise TypeError("features: expected 1, got 2. Pass 1.")


def failures(table, cases):
    """The cases that do not end as they should."""
    found = {case: outcome(table[case[0]], *case) for case in cases}
    return {case: what for case, what in found.items() if what}


def test_wrong_values_of_each_kind_are_named(table):
    """One argument of each kind, and every fourth value; `test_all_wrong_values_are_named` has all."""
    first = {}
    for name in [name for name in table if name not in SLOW]:
        for place, kind in table[name].kinds.items():
            first.setdefault(kind, (name, place))
    cases = [(*where, value) for k, where in enumerate(first.values()) for value in list(VALUES)[k % 4 :: 4]]
    assert len(first) > 50 and len(cases) > 800
    assert failures(table, cases) == {}


def test_wrong_values_of_fit_are_named(table):
    """Every third value of each argument of `fit`, of those that are wrong."""
    call = table["fit"]
    cases = [("fit", place, value) for k, place in enumerate(call.kinds) for value in list(VALUES)[k % 7 :: 7]]
    wrong = [case for case in cases if case[2] not in FINE[call.kinds[case[1]]] | call.fine.get(case[1], set())]
    assert len(wrong) > 200
    assert failures(table, wrong) == {}


@pytest.mark.slow
def test_all_wrong_values_are_named(table):
    cases = [(name, place, value) for name in table for place in table[name].kinds for value in VALUES]
    assert failures(table, cases) == {}
