"""Random optimizers: optax' own, wrapped once or twice, and some that are written with `lax.cond` and loops."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from optax import contrib

import fnn

Make = Callable[[Random], optax.GradientTransformation]


def _conditional(r: Random) -> optax.GradientTransformation:
    """Every second step is half as long, by `lax.cond`."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        halved = lax.cond(state % 2 == 0, lambda u: jax.tree.map(lambda a: 0.5 * a, u), lambda u: u, updates)
        return halved, state + 1

    return optax.chain(optax.sgd(0.1), optax.GradientTransformation(lambda params: jnp.int32(0), update))


def _skipping(r: Random) -> optax.GradientTransformation:
    """The first step is left out, by `lax.cond` that makes an update of 0."""
    inner = optax.adam(0.02)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        count, within = state
        made = lax.cond(
            count > 0,
            lambda: inner.update(updates, within, params),
            lambda: (jax.tree.map(jnp.zeros_like, updates), within),
        )
        return made[0], (count + 1, made[1])

    return optax.GradientTransformation(lambda params: (jnp.int32(0), inner.init(params)), update)


def _looping(r: Random) -> optax.GradientTransformation:
    """Halves the step until it is short, by `lax.while_loop`."""

    def short(updates: Any, params: Any = None) -> Any:
        factor = lax.while_loop(lambda f: f * optax.global_norm(updates) > 0.3, lambda f: 0.5 * f, jnp.float32(1))
        return jax.tree.map(lambda a: factor * a, updates)

    return optax.chain(optax.sgd(0.1), optax.stateless(short))


def _injected(r: Random) -> optax.GradientTransformation:
    return optax.inject_hyperparams(optax.sgd)(
        learning_rate=r.choice([0.05, optax.linear_schedule(0.1, 0.01, 5)]), momentum=0.9
    )


def _clipped_by_hand(r: Random) -> optax.GradientTransformation:
    """Clips with `lax.clamp`."""
    by = optax.stateless(lambda updates, params=None: jax.tree.map(lambda a: lax.clamp(-0.05, a, 0.05), updates))
    return optax.chain(by, optax.sgd(0.2))


SIMPLE: dict[str, Make] = {
    "sgd": lambda r: optax.sgd(r.choice([0.2, 0.05, 0.01])),
    "momentum": lambda r: optax.sgd(0.05, momentum=0.9),
    "nesterov": lambda r: optax.sgd(0.05, momentum=0.8, nesterov=True),
    "lr 0": lambda r: optax.sgd(0.0),
    "lr 1": lambda r: optax.chain(optax.scale(0.02), optax.sgd(1.0)),
    "momentum 1": lambda r: optax.sgd(0.02, momentum=1.0),
    "adabelief": lambda r: optax.adabelief(0.02, eps=1e-4),
    "adadelta": lambda r: optax.adadelta(0.5, eps=1e-3),
    "adafactor": lambda r: optax.adafactor(0.02, min_dim_size_to_factor=r.choice([2, 128]), eps=1e-4),
    "adagrad": lambda r: optax.adagrad(0.05),
    "adam": lambda r: optax.adam(0.02, eps=1e-4),
    "adamax": lambda r: optax.adamax(0.02, eps=1e-4),
    "adamw": lambda r: optax.adamw(0.02, eps=1e-4),
    "adan": lambda r: optax.adan(0.02, eps=1e-4),
    "amsgrad": lambda r: optax.amsgrad(0.02, eps=1e-4),
    "fromage": lambda r: optax.fromage(0.02, min_norm=1e-3),
    "lamb": lambda r: optax.lamb(0.02, eps=1e-4),
    "lars": lambda r: optax.lars(0.5, eps=1e-4),
    "lion": lambda r: optax.lion(0.005),
    "nadam": lambda r: optax.nadam(0.02, eps=1e-4),
    "noisy_sgd": lambda r: optax.noisy_sgd(0.05, key=3),
    "novograd": lambda r: optax.novograd(0.02, eps=1e-3),
    "optimistic_adam": lambda r: optax.optimistic_adam_v2(0.02, eps=1e-4),
    "optimistic_gd": lambda r: optax.optimistic_gradient_descent(0.05),
    "radam": lambda r: optax.radam(0.02, eps=1e-4),
    "rmsprop": lambda r: optax.rmsprop(0.02, eps=1e-3, centered=r.random() < 0.3, momentum=r.choice([None, 0.5])),
    "rprop": lambda r: optax.rprop(0.01),
    "sign_sgd": lambda r: optax.sign_sgd(0.01),
    "sm3": lambda r: optax.sm3(0.02),
    "yogi": lambda r: optax.yogi(0.02),
    "ademamix": lambda r: contrib.ademamix(0.02, eps=1e-4),
    "schedule_free": lambda r: contrib.schedule_free_sgd(0.05),
    "conditional": _conditional,
    "skipping": _skipping,
    "looping": _looping,
    "inject_hyperparams": _injected,
    "clamp": _clipped_by_hand,
    "exponential_decay": lambda r: optax.sgd(fnn.schedules.exponential_decay(0.1, 3, 0.5)),
    "piecewise": lambda r: optax.sgd(fnn.schedules.piecewise_constant([2, 4], [0.1, 0.05, 0.02])),
    "cosine": lambda r: optax.adam(optax.cosine_decay_schedule(0.02, 10), eps=1e-4),
    "one cycle": lambda r: optax.sgd(optax.cosine_onecycle_schedule(12, 0.1)),
    "proximal_l1": lambda r: optax.chain(optax.sgd(0.05), fnn.penalties.proximal_l1(0.1, learning_rate=0.05)),
    "fista": lambda r: fnn.penalties.fista(0.05, learning_rate=0.02, restart=r.random() < 0.5),
    "set_to_zero": lambda r: optax.set_to_zero(),
    "identity": lambda r: optax.chain(optax.identity(), optax.scale(-0.05)),
    "no state": lambda r: optax.stateless(lambda updates, params=None: jax.tree.map(lambda a: -0.05 * a, updates)),
}
ALONE = ("proximal_l1", "fista")  # these say themselves what may stand around them


def _first_frozen(params: Any) -> Any:
    """A label for each leaf: every second one is frozen."""
    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, ["frozen" if i % 2 == 0 else "moved" for i in range(len(leaves))])


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda a: a.ndim > 1, params)


def _partitioned(inner: Any, r: Random) -> optax.GradientTransformation:
    return optax.partition({"frozen": optax.set_to_zero(), "moved": inner}, _first_frozen)


def _accumulated(inner: Any, r: Random) -> optax.GradientTransformation:
    return optax.MultiSteps(inner, r.choice([1, 2, 3])).gradient_transformation()


WRAPPERS: dict[str, Callable[[Any, Random], optax.GradientTransformation]] = {
    "MultiSteps": _accumulated,
    "add_decayed_weights": lambda inner, r: optax.chain(optax.add_decayed_weights(0.01), inner),
    "add_noise": lambda inner, r: optax.chain(optax.add_noise(0.01, 0.5, key=1), inner),
    "adaptive_grad_clip": lambda inner, r: optax.chain(optax.adaptive_grad_clip(0.1), inner),
    "all frozen": lambda inner, r: optax.chain(inner, optax.set_to_zero()),
    "apply_every": lambda inner, r: optax.chain(optax.apply_every(2), inner),
    "apply_if_finite": lambda inner, r: optax.apply_if_finite(inner, 3),
    "centralize": lambda inner, r: optax.chain(optax.centralize(), inner),
    "clip": lambda inner, r: optax.chain(optax.clip(0.1), inner),
    "clip_by_global_norm": lambda inner, r: optax.chain(optax.clip_by_global_norm(0.2), inner),
    "conditionally_mask": lambda inner, r: optax.conditionally_mask(inner, lambda step: step > 1),
    "conditionally_transform": lambda inner, r: optax.conditionally_transform(inner, lambda step: step % 2 == 0),
    "ema": lambda inner, r: optax.chain(inner, optax.ema(0.5)),
    "flatten": lambda inner, r: optax.flatten(inner),
    "frozen": _partitioned,
    "keep_params_nonnegative": lambda inner, r: optax.chain(inner, optax.keep_params_nonnegative()),
    "masked": lambda inner, r: optax.masked(inner, _matrices),
    "none masked": lambda inner, r: optax.masked(inner, lambda params: jax.tree.map(lambda a: False, params)),
    "scale 0": lambda inner, r: optax.chain(inner, optax.scale(0.0)),
    "scale_by_schedule": lambda inner, r: optax.chain(inner, optax.scale_by_schedule(lambda step: 1 / (1 + step))),
    "zero_nans": lambda inner, r: optax.chain(optax.zero_nans(), inner),
}

# functions of the settings, which a sweep gives
SWEPT: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "sgd of lr": lambda s: optax.sgd(s["lr"]),
    "momentum of lr": lambda s: optax.sgd(s["lr"], momentum=0.9),
    "adam of lr": lambda s: optax.adam(s["lr"], eps=1e-4),
    "decay of lr": lambda s: optax.sgd(fnn.schedules.exponential_decay(s["lr"], 3, 0.5)),
    "MultiSteps of lr": lambda s: optax.MultiSteps(optax.sgd(s["lr"]), 2).gradient_transformation(),
    "apply_if_finite of lr": lambda s: optax.apply_if_finite(optax.sgd(s["lr"]), 3),
}


class Optimizer(NamedTuple):
    """A function of the settings, whether it reads them, and how it reads."""

    of: Callable[[Any], Any]
    swept: bool
    about: str


def random_optimizer(r: Random, swept: bool) -> Optimizer:
    """An optimizer, half of them wrapped; `swept`: one that reads a setting `lr`."""
    if swept:
        name = r.choice(list(SWEPT))
        return Optimizer(SWEPT[name], True, name)
    name = r.choice(list(SIMPLE))
    made, about = SIMPLE[name](r), name
    wraps = 0 if name in ALONE else r.choice([0, 0, 1, 1, 2])
    for _ in range(wraps):
        by = r.choice(list(WRAPPERS))
        made, about = WRAPPERS[by](made, r), f"{by}({about})"
    return Optimizer(lambda settings: made, False, about)
