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
from tests.helpers.compare import has_hint
from tests.helpers.public_calls import calls
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
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield calls()
        finally:
            os.chdir(here)
            jax.config.update("jax_compilation_cache_dir", None)
