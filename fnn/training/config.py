"""What a run is made of: the network, the loss, the optimizer and the others, once the settings are known."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from fnn import arguments
from fnn.activations.elementwise import Activation
from fnn.arguments import one_of
from fnn.gradients.cost import GradientFunction, autodiff
from fnn.losses import as_loss
from fnn.losses.aggregation import RowMetric, SumMetric
from fnn.optimizers.second_order import full_batch_name
from fnn.runs import check_distinct, history_columns
from fnn.training.layout import Layout
from fnn.types import Gradients, Layer, Loss, LossLike, Metric, OfSettings, OptimizerState, Penalty, Tree

OPTIMIZER_NUMBERS = "optimizer"  # the setting that holds the numbers of the optimizer's program
RESERVED_SETTINGS = ("patience", "min_delta", OPTIMIZER_NUMBERS)


NO_SETTINGS = (Layer, Loss, Penalty, SumMetric, RowMetric, Activation, optax.GradientTransformation, type)
HINTS: dict[type, str] = {  # what to pass where something else was given
    Layer: "Pass a network, such as fnn.serial(fnn.dense(10)); one of your own as fnn.Layer(…).",
    Penalty: "Pass one of fnn.penalties, such as fnn.penalties.l2(1e-4).",
    optax.GradientTransformation: "Pass an optimizer, such as optax.sgd(0.1); a learning rate goes into one.",
}


class TrainerConfig(NamedTuple):
    """What a run is made of: net, loss, optimizer and penalty may be functions of the settings.

    `bind` calls these functions.

    Compared, and hashed, by what its parts compute where that is known
    (`fnn.compilation.programs.identify`), else by the parts.
    """

    net: Any
    loss: Any
    optimizer: Any
    penalty: Any
    gradient: Callable[..., Any]
    metrics: tuple[tuple[str, Callable[..., Any]], ...]
    batch_size: int | None
    shuffle: bool
    reduction: str
    monitor: str = "loss"  # or the metric on the validation rows that tells which parameters are best
    mode: str = "min"  # or "max": which of it is best
    identity: Any = None  # what the parts compute; can be hashed
    layout: Layout | None = None  # how it lies on several devices

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics, in their order."""
        return tuple(name for name, _ in self.metrics)

    def _comparison_key(self) -> tuple[Any, ...]:
        asked = self.batch_size, self.shuffle, self.reduction, self.monitor, self.mode, self.layout
        parts = self[:6] if self.identity is None else ()
        return self.identity, *asked, *parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainerConfig) and self._comparison_key() == other._comparison_key()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._comparison_key())


def bind(config: TrainerConfig, settings: Mapping[str, Any]) -> TrainerConfig:
    """Return the configuration with its functions of the settings called: network, loss, optimizer and penalty."""
    return config._replace(
        net=resolve("net", config.net, Layer, settings),
        penalty=resolve("penalty", config.penalty, Penalty, settings),
        loss=resolve_loss(config.loss, settings),
        optimizer=resolve("optimizer", config.optimizer, optax.GradientTransformation, settings),
    )


def check_full_batch(state: OptimizerState, got: str) -> None:
    """Raise where the optimizer of this state needs all rows in one batch and there are fewer."""
    name = full_batch_name(state)
    if name is not None:
        other = "pass a learning rate" if "learning rate" in name else "use optax.lbfgs()"
        hint = f"Leave batch_size out, or {other}." if got != "a stream" else "Pass the rows as arrays."
        raise ValueError(f"batch_size: expected all rows in one batch for {name}, got {got}. {hint}")


def cost_gradient(config: TrainerConfig) -> Callable[..., Gradients]:
    """Return the function that computes the gradient of a batch's cost; of a bound configuration."""
    parts = config.net, config.loss, config.penalty, config.reduction
    made = arguments.call("gradient", config.gradient, *parts)
    if not callable(made):
        got = arguments.describe_thing(made)
        raise TypeError(f"gradient: expected one that returns a function, as fnn.autodiff does, got {got}. Return one.")

    def gradient(*given: Any) -> Gradients:
        found = made(*given)
        if not isinstance(found, tuple) or len(found) != len(Gradients._fields):
            wanted, got = ", ".join(Gradients._fields), arguments.describe_thing(found)
            raise TypeError(f"gradient: expected its function to return ({wanted}), got {got}. Return fnn's Gradients.")
        return Gradients(*found)

    return gradient


def resolve(name: str, thing: Any, kind: type, settings: Mapping[str, Any]) -> Any:
    """A part of the run, which may be given as a function of the settings."""
    if isinstance(thing, kind) or (thing is None and kind is Penalty):
        return thing
    wanted = f"a {kind.__name__}"
    if hasattr(thing, "gradient_transformation"):  # optax.MultiSteps
        got, hint = type(thing).__name__, "Pass its .gradient_transformation()."
        raise TypeError(f"{name}: expected {wanted}, got {got}. {hint}")
    module, closure = str(getattr(thing, "__module__", "")), "<locals>" in getattr(thing, "__qualname__", "")
    if kind is optax.GradientTransformation and closure and module.startswith(("fnn.schedules", "optax.")):
        raise TypeError(f"{name}: expected {wanted}, got a schedule. Pass optax.sgd(schedule), say.")
    makers = ("optax.", "fnn.optimizers.", "fnn.penalties.proximal")
    makes_optimizer = inspect.isfunction(thing) and not closure and module.startswith(makers)
    if getattr(thing, "is_factory", False) or makes_optimizer:
        raise TypeError(f"{name}: expected {wanted}, got the factory {thing.__name__}. Call it.")
    adapter = arguments.adapter_hint(thing) if kind is Layer else ""
    if adapter or isinstance(thing, NO_SETTINGS) or not callable(thing):
        raise TypeError(f"{name}: expected {wanted}, got {arguments.describe_thing(thing)}. {adapter or HINTS[kind]}")
    of_settings = f"{wanted}, or a function of the settings that makes one"
    made = call_with_settings(name, arguments.function(name, thing, 1, of_settings, HINTS[kind]), settings, HINTS[kind])
    if not isinstance(made, kind):
        got = arguments.describe_thing(made)
        hint = "Return its .gradient_transformation()." if hasattr(made, "gradient_transformation") else "Return one."
        raise TypeError(f"{name}: expected {wanted}, got a function of the settings that makes {got}. {hint}")
    return made


def check_settings_are_used(config: TrainerConfig, names: Iterable[str]) -> None:
    """Settings to be swept over that no part can read are a mistake: all members would be the same."""
    loss_reads = takes_settings(config.loss) if not isinstance(config.loss, Loss) else False
    fixed = (Layer, Penalty, optax.GradientTransformation, type(None))
    if not loss_reads and all(isinstance(part, fixed) for part in (config.net, config.optimizer, config.penalty)):
        for name in names:
            raise ValueError(
                f"over: expected a function that reads {name!r} as net, loss, optimizer or penalty, got none. "
                f"Write optimizer=lambda s: optax.sgd(s['lr']), say, or leave {name!r} out."
            )


def takes_settings(function: Any) -> bool:
    """Whether a plain function takes the settings, and not, as a loss, outputs and targets.

    By its signature; one with a default for its second argument, which may be either, by what it makes of settings.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin without a signature
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2 or positional[1].default is positional[1].empty:
        return len(positional) == 1
    try:
        return callable(function(_Halves()))
    except Exception:  # it calculates with outputs
        return False


class _Halves(dict[str, float]):
    """Settings of any name, all of them 0.5."""

    def __missing__(self, name: str) -> float:
        return 0.5


def call_with_settings(name: str, function: Callable[..., Any], settings: Mapping[str, Any], hint: str) -> Any:
    """What a function of the settings makes; a setting that it misses is named."""
    try:
        return function(settings)
    except KeyError as missing:
        got = sorted(set(settings).difference(RESERVED_SETTINGS)) or "none"
        raise ValueError(
            f"settings: expected a number named {missing}, got {got}. Pass settings={{{missing}: …}}."
        ) from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if arguments.OUR_FORM.match(str(error)):
            raise
        got = f"{arguments.describe_thing(function)}, which raises {arguments.describe_error(error)}"
        raise TypeError(f"{name}: expected a function of the settings, got {got}. {hint}") from error


def resolve_loss(loss: Any, settings: Mapping[str, Any]) -> Loss:
    """A loss, or a function of outputs and targets, or a function of the settings that makes either."""
    if not isinstance(loss, NO_SETTINGS) and callable(loss) and not getattr(loss, "is_factory", False):
        hint = "Pass one of fnn.losses."
        loss = call_with_settings("loss", loss, settings, hint) if takes_settings(loss) else loss
    return as_loss(loss)


def missing_targets(loss: Any, *settings: Mapping[str, Any] | None) -> Tree:
    """What a loss says of targets that are missing; None where it cannot be made, which is said when it is traced.

    >>> import fnn
    >>> from fnn.training.config import missing_targets
    >>> missing_targets(lambda s: fnn.losses.masked(fnn.losses.huber(s["delta"]), -1), {"delta": 0.5})
    -1
    """
    try:
        whole = {name: value for some in settings for name, value in (some or {}).items()}
        return (loss if isinstance(loss, Loss) else resolve_loss(loss, whole)).missing
    except Exception:
        return None


def check_settings_dict(value: Any, reserved: tuple[str, ...]) -> dict[str, float]:
    """Named finite numbers."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(
            f"settings: expected a dict of numbers, got {arguments.describe_thing(value)}. "
            "Write settings={'lr': 0.1}."
        )
    for name, number in value.items():
        if not isinstance(name, str):
            raise TypeError(f"settings: expected names as keys, got {name!r}. Write settings={{'lr': 0.1}}.")
        if name in reserved:
            raise ValueError(f"settings: expected your own names, got {name!r}, which is an argument. Pass {name}=….")
        plain = bool(number) if isinstance(number, (bool, np.bool_)) else number
        if not isinstance(plain, bool):
            place, hint = f"settings[{name!r}]", "Pass a float."
            plain = arguments.finite(
                place, "a finite number", arguments.real_number(place, "one number", plain, hint), hint
            )
        if isinstance(plain, jax.core.Tracer):
            got = arguments.describe_thing(plain)
            raise TypeError(
                f"settings[{name!r}]: expected a known number, got {got}. Use fnn.trainer inside of jit, grad and vmap."
            )
    return dict(value)


def check_gradient(value: Any) -> Any:
    """`fnn.autodiff`, `fnn.backprop`, or one's own of their signature."""
    if isinstance(value, NO_SETTINGS) or not callable(value):
        got = arguments.describe_value(value)
        raise TypeError(f"gradient: expected fnn.autodiff or fnn.backprop, got {got}. Pass the function.")
    return arguments.function("gradient", value, 4, "fnn.autodiff or fnn.backprop", "Pass the function.")


def check_metrics(value: Any) -> dict[str, Any]:
    """Functions by name."""
    if value is not None and not isinstance(value, dict):
        got = arguments.describe_thing(value)
        raise TypeError(f"metrics: expected a dict, name -> function, got {got}. Write {{'accuracy': fnn.accuracy}}.")
    for name, metric in (value or {}).items():
        if not isinstance(name, str):
            got = arguments.describe_thing(name)
            raise TypeError(f"metrics: expected names as keys, got {got}. Write {{'accuracy': fnn.accuracy}}.")
        if hasattr(metric, "cache_info") or getattr(metric, "is_factory", False):
            factory = metric.__name__
            raise TypeError(f"metrics[{name!r}]: expected a function, got the factory {factory}. Call it: {factory}().")
        arguments.function(f"metrics[{name!r}]", metric, 2, "a function of outputs and targets", "Pass fnn.accuracy.")
    return dict(value or {})


def refuse_row_metrics(name: str, metrics: Mapping[str, Any]) -> None:
    """Raise a ValueError where a metric needs all rows at once, and they come as a stream."""
    for own, metric in metrics.items():
        if isinstance(metric, RowMetric):
            raise ValueError(
                f"{name}: expected arrays for metrics[{own!r}], got a stream, whose rows are never all in memory; "
                f"{metric} needs all at once. Pass arrays, or one from sums, such as fnn.metrics.balanced_accuracy()."
            )


def check_monitor(monitor: Any, mode: Any, patience: Any, metrics: Any, validates: bool) -> str:
    """Whether "min" or "max" of what is monitored is best; it must be said for a metric."""
    if not validates:
        for name, value, default in (("patience", patience, None), ("monitor", monitor, "loss"), ("mode", mode, None)):
            if value is not default and not (isinstance(value, str) and value == default):
                raise ValueError(
                    f"{name}: expected validation data to judge by, got none. Pass validation=(x, t) or a share."
                )
    if not isinstance(monitor, str) or (monitor != "loss" and monitor not in (metrics or {})):
        names = ", ".join(map(repr, metrics or {})) or "there is none"
        got = arguments.describe_value(monitor)
        hint = f"Pass the metric too: metrics={{{got}: …}}." if isinstance(monitor, str) else "Write monitor='loss'."
        raise ValueError(f"monitor: expected 'loss' or a metric's name ({names}), got {got}. {hint}")
    if mode is None and monitor != "loss":
        mode = getattr(metrics[monitor], "mode", None)
    if mode is None and monitor != "loss":
        raise ValueError(
            f"mode: expected 'min' or 'max' for the metric {monitor!r}, got None. Say mode='max' if more is better."
        )
    if isinstance(mode, str) and mode == "max" and monitor == "loss":
        raise ValueError(
            "mode: expected 'min' for the loss, got 'max', which would choose the worst epoch. "
            "Name what more of is better: monitor='accuracy'."
        )
    return one_of("mode", "min" if mode is None else mode, ("min", "max"))


def trainer_config(
    net: OfSettings[Layer],
    loss: OfSettings[LossLike],
    optimizer: OfSettings[optax.GradientTransformation],
    *,
    penalty: OfSettings[Penalty] | None = None,
    gradient: Callable[..., GradientFunction] = autodiff,
    metrics: Mapping[str, Metric] | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    reduction: str = "mean",
    monitor: str = "loss",
    mode: str | None = None,
    patience: int | None = None,
    validates: bool = False,
    layout: Layout | None = None,
) -> TrainerConfig:
    """The arguments of `fit` that say what a run is, checked."""
    measured = check_metrics(metrics)
    check_distinct(history_columns(measured))
    return TrainerConfig(
        net=net,
        loss=loss,
        optimizer=optimizer,
        penalty=penalty,
        gradient=check_gradient(gradient),
        metrics=tuple(measured.items()),
        batch_size=None if batch_size is None else arguments.whole_number("batch_size", batch_size, 1),
        shuffle=arguments.flag("shuffle", shuffle),
        reduction=arguments.one_of("reduction", reduction, ("mean", "sum")),
        monitor=monitor,
        mode=check_monitor(monitor, mode, patience, metrics, validates),
        layout=layout,
    )


def loop_settings(patience: Any, min_delta: Any) -> dict[str, float]:
    """The settings that early stopping goes by."""
    return {
        "patience": np.inf if patience is None else arguments.whole_number("patience", patience, 1),
        "min_delta": arguments.number("min_delta", min_delta, 0),
    }
