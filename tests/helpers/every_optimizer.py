"""Every public optimizer of optax and optax.contrib, with how to make one that trains a small network."""

import inspect
from typing import Any

import jax
import optax
from optax import contrib


def weights_alone(params: Any) -> Any:
    """A mask: True for weights, False for biases."""
    return jax.tree.map(lambda a: a.ndim > 1, params)


def by_kind(params: Any) -> Any:
    """The name of a group for each parameter."""
    return jax.tree.map(lambda a: "weights" if a.ndim > 1 else "biases", params)


def on(count: int, *_: Any, **__: Any) -> Any:
    """A condition on the number of the step."""
    return count % 2 == 0


def small(updates: Any, params: Any = None) -> Any:
    """Steps of a hundredth of the gradient."""
    return jax.tree.map(lambda a: -0.01 * a, updates)


def after(first: Any) -> Any:
    """A transformation before a step down the gradient."""
    return optax.chain(first, optax.sgd(0.05))


def rows_and_columns(params: Any) -> Any:
    """What `scale_by_muon` is told of each weight."""
    return jax.tree.map(lambda a: contrib.MuonDimensionNumbers(), params)


SGD = optax.sgd(0.05)
ALONE = (
    "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars lion nadam nadamw "
)
ALONE += (
    "noisy_sgd novograd optimistic_gradient_descent optimistic_adam_v2 radam rmsprop rprop sgd sign_sgd signum sm3 "
)
ALONE += "yogi"
SCALES = "adadelta adam adamax adan amsgrad belief distance_over_gradients lion novograd optimistic_gradient "
SCALES += "param_block_norm param_block_rms radam rms rss sign sm3 stddev trust_ratio yogi"
OPTAX: dict[str, Any] = {name: lambda name=name: getattr(optax, name)(0.02) for name in ALONE.split()}
OPTAX |= {f"scale_by_{name}": lambda name=name: after(getattr(optax, f"scale_by_{name}")()) for name in SCALES.split()}
OPTAX |= {
    "adaptive_grad_clip": lambda: after(optax.adaptive_grad_clip(0.1)),
    "add_decayed_weights": lambda: after(optax.add_decayed_weights(0.1)),
    "add_noise": lambda: after(optax.add_noise(0.01, 0.5, 3)),
    "apply_every": lambda: optax.chain(optax.sgd(0.05), optax.apply_every(2)),
    "apply_if_finite": lambda: optax.apply_if_finite(SGD, 3),
    "centralize": lambda: after(optax.centralize()),
    "chain": lambda: optax.chain(optax.clip(0.5), SGD),
    "clip": lambda: after(optax.clip(0.5)),
    "clip_by_block_rms": lambda: after(optax.clip_by_block_rms(0.5)),
    "clip_by_global_norm": lambda: after(optax.clip_by_global_norm(0.5)),
    "conditionally_mask": lambda: optax.conditionally_mask(SGD, on),
    "conditionally_transform": lambda: optax.chain(SGD, optax.conditionally_transform(optax.scale(0.5), on)),
    "ema": lambda: after(optax.ema(0.9)),
    "flatten": lambda: optax.flatten(SGD),
    "freeze": lambda: optax.chain(SGD, optax.freeze(({"b": True, "w": False}, (), {"b": False, "w": False}))),
    "identity": lambda: after(optax.identity()),
    "keep_params_nonnegative": lambda: optax.chain(SGD, optax.keep_params_nonnegative()),
    "lbfgs": lambda: optax.lbfgs(),
    "lookahead": lambda: optax.lookahead(SGD, 3, 0.5),
    "masked": lambda: optax.chain(SGD, optax.masked(optax.set_to_zero(), weights_alone)),
    "multi_transform": lambda: optax.multi_transform({"weights": SGD, "biases": optax.adam(0.01)}, by_kind),
    "named_chain": lambda: optax.named_chain(("clip", optax.clip(0.5)), ("sgd", SGD)),
    "normalize_by_update_norm": lambda: after(optax.normalize_by_update_norm()),
    "optimistic_adam": lambda: optax.optimistic_adam(0.02),
    "partition": lambda: optax.partition({"weights": SGD, "biases": optax.set_to_zero()}, by_kind),
    "polyak_sgd": lambda: optax.polyak_sgd(0.1),
    "scale": lambda: optax.scale(-0.05),
    "scale_by_backtracking_linesearch": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=8)
    ),
    "scale_by_lbfgs": lambda: after(optax.scale_by_lbfgs()),
    "scale_by_learning_rate": lambda: optax.scale_by_learning_rate(0.05),
    "scale_by_polyak": lambda: after(optax.scale_by_polyak()),
    "scale_by_rprop": lambda: optax.chain(optax.scale_by_rprop(0.02), optax.scale(-1.0)),
    "scale_by_schedule": lambda: optax.scale_by_schedule(lambda step: -0.05 / (1 + step)),
    "scale_by_zoom_linesearch": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(8)),
    "selective_transform": lambda: optax.selective_transform(
        SGD, freeze_mask=({"b": True, "w": False}, (), {"b": False, "w": False})
    ),
    "set_to_zero": lambda: optax.set_to_zero(),
    "snapshot": lambda: optax.chain(SGD, optax.snapshot("norm", optax.tree.norm)),
    "stateless": lambda: optax.stateless(small),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(lambda g, p: -0.05 * g),
    "trace": lambda: after(optax.trace(0.5)),
    "with_extra_args_support": lambda: optax.with_extra_args_support(SGD),
    "zero_nans": lambda: after(optax.zero_nans()),
    "MultiSteps": lambda: optax.MultiSteps(SGD, 2).gradient_transformation(),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=0.05),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(optax.sgd)(
        learning_rate=optax.linear_schedule(0.05, 0.01, 9)
    ),
    "scale_by_factored_rms": lambda: after(optax.scale_by_factored_rms()),
}
ALONE = "acprop ademamix adopt dadapt_adamw galore madgrad momo momo_adam muon prodigy "
ALONE += "simplified_ademamix sophia schedule_free_adamw schedule_free_sgd cocob dog dowg"
CONTRIB: dict[str, Any] = {name: lambda name=name: getattr(contrib, name)(0.02) for name in ALONE.split()}
SCALES = "acprop ademamix adopt cocob galore muon simplified_ademamix"
CONTRIB |= {
    f"scale_by_{name}": lambda name=name: after(getattr(contrib, f"scale_by_{name}")()) for name in SCALES.split()
}
CONTRIB |= {
    "scale_by_madgrad": lambda: contrib.scale_by_madgrad(0.02),
    "mechanize": lambda: contrib.mechanize(SGD),
    "normalize": lambda: after(contrib.normalize()),
    "reduce_on_plateau": lambda: optax.chain(SGD, contrib.reduce_on_plateau(0.5, patience=2, rtol=0.1)),
    "sam": lambda: contrib.sam(SGD, optax.chain(contrib.normalize(), optax.sgd(0.1)), opaque_mode=True),
    "schedule_free": lambda: contrib.schedule_free(optax.sgd(0.05), 0.05),
    "split_real_and_imaginary": lambda: contrib.split_real_and_imaginary(SGD),
    # without the dimensions it fails in optax 0.2.8
    "scale_by_muon": lambda: optax.partition(
        {"weights": after(contrib.scale_by_muon(weight_dimension_numbers=rows_and_columns)), "biases": SGD}, by_kind
    ),
    "hutchinson_estimator_diag_hessian": lambda: after(contrib.hutchinson_estimator_diag_hessian()),
}


ROWS = "optimizer: expected one that needs the gradient of a batch, got one that needs the gradient of each row. "
ROWS += "Use another optimizer."
REFUSED: dict[str, Any] = {  # how it is made, and what the refusal says
    "differentially_private_aggregate": (lambda: contrib.differentially_private_aggregate(1.0, 0.1, 0), ROWS),
    "dpsgd": (lambda: contrib.dpsgd(0.02, 1.0, 0.1, 0), ROWS),
    "measure_with_ema": (
        lambda: optax.measure_with_ema(optax.tree.norm, 0.9),
        r"optimizer: expected updates like the parameters and a state, got a traced .* Return \(updates, state\).",
    ),
    "monitor": (
        lambda: optax.chain(optax.monitor({"norm": optax.tree.norm}), SGD),
        "optimizer: expected a state of one structure, got one that changes at an update. Leave out optax.monitor.",
    ),
    "MultiSteps": (
        lambda: optax.MultiSteps(SGD, 2),
        r"optimizer: expected a GradientTransformation, got MultiSteps. Pass its .gradient_transformation\(\).",
    ),
}
NO_OPTIMIZERS = {"schedule_free_eval_params"}  # has no annotation


def public(module: Any) -> set[str]:
    """The names of what makes an optimizer in a module, by what it is said to return."""
    found = set()
    for name, thing in vars(module).items():
        function = getattr(thing, "func", thing)  # optax.nadam is a partial of optax.adam
        if name[0] == "_" or not inspect.isfunction(function):
            continue
        returned = inspect.signature(function).return_annotation
        unsaid = returned is inspect.Signature.empty and function.__module__.startswith("optax.contrib")
        if unsaid or "GradientTransformation" in str(returned):
            found.add(name)
    return found
