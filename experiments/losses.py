"""Losses: every number the documents print for one.

Question: do the losses give the numbers that the documents print, in each of the forms they are written in?
Source:   D1: half squared error and cross-entropy of two predictions, single rows, batches, class numbers.
          D3: MSE, categorical cross-entropy, softmax cross-entropy on logits, sparse labels, equivalent forms; the
          losses of boxes and of classes that it names for object detection.
Command:  python -m experiments losses
Time:     about 4 seconds on two CPU cores.
Expected: D3's to float32's printing, 2e-7; D1's, whose digits are fewer, in float64 to half a unit of the last.
          Cross-entropy as D1 writes it, with 1e-7 added to y, is a loss of one's own here: ours clips y to
          [1e-7, 1 - 1e-7] as D0 and D3 do, so it gives -ln 0.05 exactly.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure as Picture

import fnn
from experiments.report import IN_WORDS, OURS, PUBLISHED, Figure, Result, Row, at_most, close, holds
from fnn import losses, plots

TARGET = (0, 1, 0, 0)
WRONG, RIGHT = (0.1, 0.05, 0.05, 0.8), (0.1, 0.8, 0.05, 0.05)  # D1's two predictions
DELTA = 1e-7
ONE_HOT, LABELS = ((1, 0, 0), (0, 1, 0)), (0, 1)
LOGITS = ((4.0, 2.0, 1.0), (0.0, 5.0, 1.0))
SOFTMAX = (0.16984604, 0.02474492)  # D3, of both rows
FORMS = (0.16984606, 0.02474495)  # D3, as -Σ t log softmax(z) written out
# The logarithm of a probability near 1 has that one's rounding, 6e-8, and no fewer: these are compared absolutely.
LAST_DIGITS = 2 * float(np.finfo(np.float32).epsneg)


class Settings(NamedTuple):
    """Sizes."""

    points: int = 401  # of each curve


# D1 adds δ to y where we clip y. A loss of one's own is a function of outputs and targets, one number per row.
with_delta = losses.from_function(lambda y, t: -(t * jnp.log(y + DELTA)).sum(-1), name="cross_entropy_with_delta")


def main(settings: Settings) -> Result:
    """Every printed number, through the public API."""
    return Result(
        title="Losses",
        question="The losses give the numbers that the documents print, in each of the forms they are written in?",
        rows=[*rows_of_d1(), *rows_of_batches(), *rows_of_d3(), *rows_of_forms(), box_row()],
        figures=figures(settings.points),
        notes=[
            "D1's target is [0,1,0,0]. It shows what its functions return as pictures: the values claimed for D1 are "
            "those of its formulas, and the check is ours.",
            "D1 adds δ = 1e-7 to y, so that its cross-entropy of y = 0.05 is 2.9957303; ours clips y to [1e-7, 1 - "
            "1e-7], as D0 and D3 do, which changes nothing here: 2.9957323 = -ln 0.05. The rows 'with δ' are a loss of "
            "one's own, made by fnn.losses.from_function.",
            "D1 calls half the sum of squares the mean squared error; ours is half_squared_error, and "
            "mean_squared_error is D3's.",
            "Softmax cross-entropy on logits keeps its digits; as the logarithm of a probability written out it has "
            "the rounding of a number near 1. So the forms are compared to two units of float32's last place below 1, "
            f"{LAST_DIGITS:.2g}: D3's own forms differ among themselves by 3e-8.",
        ],
        numbers={"with δ": d1_value(with_delta, WRONG), "without": d1_value(losses.cross_entropy, WRONG)},
    )


def d1_value(loss: fnn.Loss, y: Any) -> float:
    """A loss of one of D1's predictions, in float64: the rounding of float32 is as large as that of D1's digits."""
    with jax.enable_x64(True):
        return float(loss(jnp.array([y], jnp.float64), jnp.array([TARGET], jnp.float64))[0])


def written_out(logits: Any, t: Any) -> jax.Array:
    """The equivalent form of softmax cross-entropy: cross-entropy of the probabilities."""
    return losses.cross_entropy(fnn.softmax(logits), t)


# ---- what is reported


def rows_of_d1() -> list[Row]:
    """Both losses of both predictions."""
    rows = []
    for title, loss, values, digits in (
        ("Half squared error", losses.half_squared_error, (0.7775, 0.0275), 4),
        ("Cross-entropy", losses.cross_entropy, (2.9957323, 0.2231436), 7),
        ("Cross-entropy with δ", with_delta, (2.9957303, 0.2231434), 7),
    ):
        for y, claimed in zip((WRONG, RIGHT), values, strict=True):
            value, half = d1_value(loss, y), 0.5 * 10**-digits
            rows.append(Row(f"{title}, y = {shown(y)}", OURS, str(claimed), f"{value:.8g}", f"{value - claimed:+.2g}",
                            f"± {half:g}, half a unit of the last digit", abs(value - claimed) <= half))  # fmt: skip
    for title, loss in (("Half squared error", losses.half_squared_error), ("Cross-entropy", losses.cross_entropy)):
        better, worse = d1_value(loss, RIGHT), d1_value(loss, WRONG)
        rows.append(holds(f"{title}: the better prediction", "has the lower loss", f"{better:.4f} < {worse:.4f}",
                          "lower", better < worse, IN_WORDS))  # fmt: skip
    return rows


def rows_of_batches() -> list[Row]:
    """A mean over rows, single rows, class numbers instead of one-hot rows."""
    y, t = np.array([WRONG, RIGHT], np.float32), np.array([TARGET, TARGET], np.float32)
    mean, tripled = (float(losses.cross_entropy(np.tile(y, (n, 1)), np.tile(t, (n, 1))).mean()) for n in (1, 3))
    single = losses.cross_entropy(y[0], t[0])
    probabilities = fnn.softmax(np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32))
    labels = np.array([2, 5, 7, 3, 4])
    by_number = losses.sparse_cross_entropy(probabilities, labels)
    by_row = losses.cross_entropy(probabilities, np.eye(10, dtype=np.float32)[labels])
    return [
        close("Cross-entropy, mean of 6 rows, against the same 2", mean, tripled, origin=OURS),
        holds("Cross-entropy of one row, 1-D", "as a batch of one", f"{single[0]:.7f}, shape {single.shape}",
              "equal", single.shape == (1,) and bool(single[0] == losses.cross_entropy(y, t)[0])),
        at_most("Class numbers [2,5,7,3,4], batch of 5, 10 classes, against one-hot rows: relative difference", 2e-7,
                float(np.abs(by_number / by_row - 1).max()), IN_WORDS),
    ]  # fmt: skip


def rows_of_d3() -> list[Row]:
    """MSE, and cross-entropies on probabilities and on logits."""
    mse = losses.mean_squared_error(jnp.array([[1.0, 1.0]]), jnp.array([[0.5, 0.8]]))
    t, logits = jnp.array(ONE_HOT, jnp.float32), jnp.array(LOGITS)
    rows = [close("MSE, t = [0.5,0.8], y = [1,1]", 0.145, float(mse[0]))]
    for y, claimed in (((0.5, 0.4, 0.1), 0.6931472), ((0.8, 0.1, 0.1), 0.22314353)):
        value = losses.cross_entropy(jnp.array([y]), t[:1])
        rows.append(close(f"Categorical cross-entropy, t = [1,0,0], y = {list(y)}", claimed, float(value[0])))
    for title, values in (
        ("Softmax cross-entropy on logits", losses.softmax_cross_entropy(logits, t)),
        ("Sparse softmax cross-entropy", losses.sparse_softmax_cross_entropy(logits, jnp.array(LABELS))),
    ):
        rows += [
            close(f"{title}, logits {z}", claimed, float(value))
            for z, claimed, value in zip(map(shown, LOGITS), SOFTMAX, values, strict=True)
        ]
    return rows


def rows_of_forms() -> list[Row]:
    """The equivalent form, to the rounding of the probability in it."""
    values = written_out(jnp.array(LOGITS), jnp.array(ONE_HOT, jnp.float32))
    rows = []
    for z, claimed, value in zip(LOGITS, FORMS, values, strict=True):
        off = float(value) - claimed
        rows.append(Row(f"-Σ t log softmax(z), logits {shown(z)}", PUBLISHED, f"{claimed:.8g}", f"{value:.8g}",
                        f"{off:+.2g}", f"± {LAST_DIGITS:.2g}: last digit or two", abs(off) <= LAST_DIGITS))  # fmt: skip
    return rows


def box_row() -> Row:
    """Intersection over union of boxes with themselves, square and not."""
    boxes = jnp.array([[0.0, 0, 2, 2], [1, 2, 1.5, 9], [-3, 0.1, 7, 0.3]])
    found = fnn.boxes.iou(boxes, boxes)
    return holds("IoU of a box with itself, three boxes", "1", ", ".join(f"{v:g}" for v in found), "exactly 1",
                 bool((found == 1).all()), OURS)  # fmt: skip


def shown(numbers: tuple[float, ...]) -> str:
    """As the documents write a vector."""
    return "[" + ",".join(f"{n:g}" for n in numbers) + "]"


# ---- pictures


def figures(points: int) -> list[Figure]:
    """ln x, and the losses."""
    return [
        Figure("The natural logarithm", "Why cross-entropy is what it is: ln 1 = 0, and ln x falls without bound "
               "towards 0. Circles: D1's outputs for the right class, 0.05 and 0.8.", logarithm(points)),
        Figure("Losses of a probability", "The right class's probability, two classes. A confident mistake costs "
               "cross-entropy any amount, half the squared errors at most 1. Focal: γ = 2.", of_probability(points)),
        Figure("Losses of an error", "Squares, absolute values, what lies between them, and what takes sides.",
               of_error(points)),
        Figure("Losses of a box", "A box of 3 × 0.5 slides along x over one of 0.5 × 3. Where they are apart, IoU "
               "alone is flat and gives no direction; CIoU counts the difference in shape as well.", of_boxes(points)),
    ]  # fmt: skip


def logarithm(points: int) -> Picture:
    """ln x, D1's picture."""
    x, marks = np.linspace(0.005, 1.5, points), np.array([WRONG[1], RIGHT[1]])
    picture, ax = _axes("x", "ln x (nats)")
    ax.axhline(0, color="#cccccc", linewidth=0.8)
    ax.plot(x, np.log(x), color=plots.LINE_COLOURS[0], label="$\\ln x$")
    ax.plot(marks, np.log(marks), "o", color=plots.LINE_COLOURS[1], markerfacecolor="white", label="D1's outputs")
    return _finished(picture)


def of_probability(points: int) -> Picture:
    """What is lost at each probability of the right class, of two."""
    p = np.linspace(0.002, 0.998, points, dtype=np.float32)
    y, t = np.stack([p, 1 - p], 1), np.tile(np.array([1, 0], np.float32), (points, 1))
    shapes: dict[str, Any] = {
        "cross-entropy": losses.cross_entropy,
        "focal, on logits": lambda y, t: losses.softmax_focal(2.0)(jnp.log(y), t),
        "half squared error": losses.half_squared_error,
    }
    return _drawn(p, _values(shapes, y, t), "probability of the right class", "loss (nats; squared error: none)")


def of_error(points: int) -> Picture:
    """What is lost at each error."""
    e = np.linspace(-3, 3, points, dtype=np.float32)
    shapes = {
        "half squared": losses.half_squared_error,
        "absolute": losses.absolute_error,
        "huber(1)": losses.huber(1.0),
        "smooth_l1(0.5)": losses.smooth_l1(0.5),
        "asymmetric(over=2, under=0.5)": losses.asymmetric(over=2, under=0.5),
        "quantile(0.9)": losses.quantile(0.9),
    }
    values = _values(shapes, e[:, None], np.zeros_like(e[:, None]))
    return _drawn(e, values, "error y - t (unit of the target)", "loss (that unit; squared where squared)")


def of_boxes(points: int) -> Picture:
    """What is lost at each distance between two boxes."""
    shift = np.linspace(-4, 4, points, dtype=np.float32)
    y = shift[:, None] * np.array([1, 0, 1, 0], np.float32) + np.array([-1.5, -0.25, 1.5, 0.25], np.float32)
    t = np.tile(np.array([-0.25, -1.5, 0.25, 1.5], np.float32), (points, 1))
    shapes = {"IoU": losses.iou_loss, "GIoU": losses.giou_loss, "DIoU": losses.diou_loss, "CIoU": losses.ciou_loss()}
    return _drawn(shift, _values(shapes, y, t), "distance between the centres (unit of the corners)", "loss (no unit)")


def _values(shapes: Mapping[str, Callable[..., Any]], y: Any, t: Any) -> dict[str, Any]:
    """All losses of the same rows: one program, which compiles sooner than its operations one by one."""
    values = jax.jit(lambda y, t: [loss(y, t) for loss in shapes.values()])(y, t)
    return dict(zip(shapes, values, strict=True))


def _drawn(x: Any, values: dict[str, Any], xlabel: str, ylabel: str) -> Picture:
    """One line a loss; dashes where lines lie on each other."""
    picture, ax = _axes(xlabel, ylabel)
    for i, (name, colour) in enumerate(zip(values, plots.LINE_COLOURS, strict=False)):
        ax.plot(x, values[name], color=colour, linestyle=("-", "--", "-.")[i // 2], label=name)
    return _finished(picture)


def _axes(xlabel: str, ylabel: str) -> tuple[Picture, Any]:
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize="small")
    return picture, ax


def _finished(picture: Picture) -> Picture:
    picture.axes[0].legend(frameon=False, fontsize="small")
    return picture
