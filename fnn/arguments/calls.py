"""Calls with arguments that a function does not have: what it has in their place."""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, TypeVar

from fnn.arguments.values import describe_value

P = ParamSpec("P")
T = TypeVar("T")

ELSEWHERE = {  # our argument -> what other libraries call it, and what to write
    "optimizer": (
        "lr learning_rate learning_rate_init",
        "Pass the rate to the optimizer: optax.adam(0.001).",
    ),
    "epochs": ("epoch n_epochs num_epochs nb_epoch max_iter n_iter steps", "Pass epochs=10."),
    "batch_size": ("batchsize bs batch minibatch_size", "Pass batch_size=32."),
    "validation": (
        "validation_split validation_data validation_fraction val eval_set test_size",
        "Pass validation=(x, t), or a share: validation=0.2.",
    ),
    "key": ("seed random_state random_seed rng prng_key", "Pass key=0."),
    "on_segment": ("callbacks callback", "Pass a function as on_segment=; patience= ends a run early."),
    "patience": ("early_stopping n_iter_no_change", "Pass validation=0.2, patience=10."),
    "weights": ("sample_weight sample_weights", "Pass weights=, one per row."),
    "loss": ("class_weight", "Pass loss=fnn.losses.class_weighted(loss, weights)."),
    "penalty": ("l2 weight_decay alpha regularizer", "Pass penalty=fnn.penalties.l2(1e-4)."),
    "metrics": ("metric scoring", "Pass metrics={'accuracy': fnn.accuracy}."),
    "progress": ("verbose", "Pass progress=False for no bar."),
    "checkpoint": ("checkpoint_dir ckpt_dir resume", "Pass checkpoint=folder."),
    "over": ("param_grid params grid space", "Pass over={'lr': [0.01, 0.1]}."),
    "folds": ("cv k n_splits", "Pass folds=5."),
    "members": ("n_estimators n_members", "Pass members=10."),
    "features": ("units out_features n_units", "Pass features=10."),
    "bias": ("use_bias with_bias", "Pass bias=False."),
    "rate": ("p drop_rate dropout_rate", "Pass rate=0.5."),
}
OF_LAYERS = {"activation": "Put it after the layer: fnn.serial(fnn.dense(10), fnn.relu)."}


def argument_hint(name: str, known: Collection[str]) -> str:
    """What to write where a function has no argument of this name, but those that are known.

    >>> from fnn.arguments import argument_hint
    >>> argument_hint("seed", ["epochs", "key"]), argument_hint("epocs", ["epochs", "key"])
    ('Pass key=0.', 'Write epochs= instead.')
    """
    for own, (names, hint) in ELSEWHERE.items():
        if own in known and name in names.split():
            return hint
    if name in OF_LAYERS:
        return OF_LAYERS[name]
    close = difflib.get_close_matches(name, known, 1)
    return f"Write {close[0]}= instead." if close else ""


def explain_call(function: Callable[P, T]) -> Callable[P, T]:
    """The function, where a call that does not fit it raises an error that says what to write."""

    @functools.wraps(function)
    def call(*args: P.args, **more: P.kwargs) -> T:
        try:
            return function(*args, **more)
        except TypeError as error:
            trace = error.__traceback__
            if trace is None or trace.tb_next is not None:  # it has been called, and something in it raised this
                raise
            said = error
        raise TypeError(_explain(function, args, more) or str(said))

    return call


PLACES = ("losses", "metrics", "penalties", "optimizers", "schedules", "activations", "boxes", "plots")  # in `fnn`


def public_name(function: Callable[..., Any]) -> str:
    """The name of a function as a user writes it.

    >>> import fnn
    >>> from fnn.arguments import public_name
    >>> public_name(fnn.fit), public_name(fnn.metrics.of), public_name(len)
    ('fnn.fit', 'fnn.metrics.of', 'len')
    """
    name, parts = getattr(function, "__name__", type(function).__name__), function.__module__.split(".")
    if parts[0] != "fnn":
        return name
    place = next((part for part in reversed(parts) if part in PLACES), "")
    return ".".join(["fnn", *([place] if place else []), name])


def _explain(function: Callable[..., Any], args: tuple[Any, ...], more: dict[str, Any]) -> str:
    """What is wrong with a call; "" where nothing is known to be."""
    name, parameters = function.__name__, inspect.signature(function).parameters
    usage = f"Call help({public_name(function)})."
    places = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if open_ended else [given for given in more if given not in parameters]
    if unknown:
        got = f"{unknown[0]}={describe_value(more[unknown[0]])}"
        return f"{name}: expected arguments of its own, got {got}. {argument_hint(unknown[0], parameters) or usage}"
    if len(args) > len(places):
        hint = "Write inputs and targets as a pair: (x, t)." if "data" in places else usage
        return f"{name}: expected {len(places)} arguments without a name, {', '.join(places)}, got {len(args)}. {hint}"
    given = {*places[: len(args)], *more}
    missing = [p.name for p in parameters.values() if p.name not in given and p.default is p.empty and p.kind in NAMED]
    if missing:
        hint = ELSEWHERE[missing[0]][1] if missing[0] in ("epochs", "over") else usage
        if {"params", "state"} <= parameters.keys() and any(hasattr(thing, "train_state") for thing in args):
            hint = "Pass run.params, run.state in place of the run."
        return f"{name}: expected the argument {missing[0]!r}, got none. {hint}"
    return ""


NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
