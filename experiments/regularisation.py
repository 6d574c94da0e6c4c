"""Regularisation: L1 makes weights zero, L2 makes them small.

Question: does L1 select features and L2 shrink weights, as the documents draw it, and does our L1 reach exact zeros?
Source:   D0: `J = J0 + α Σ|w|` (Lasso) and `J = J0 + α Σ w²` (Ridge), contours with diamond and circle, the choice of
          λ for |x|, weight decay. Data: scikit-learn's diabetes study, 442 patients, 10 features, standardised.
Command:  python -m experiments regularisation
Time:     about 9 seconds on two CPU cores.
Expected: Lasso and Ridge as scikit-learn solves them: objective to 1e-8 and the same weights exactly zero at five α,
          Ridge's weights to 1e-6; F(x) = ½(x-1)² + λ|x| has its minimum at 0.5 for λ = 0.5 and at 0 for λ = 2; one step
          of l2 is D0's formula to 4 units in the last place.
"""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure as Picture
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, Ridge

import fnn
from experiments.report import OURS, Figure, Result, Row, at_most, holds
from fnn import penalties, plots

LASSO_ALPHAS = (0.1, 1.0, 3.0, 10.0, 30.0)  # compared with scikit-learn: of 1/(2n) ‖Xw - t‖² + α ‖w‖₁
RIDGE_ALPHAS = (0.1, 10.0, 100.0, 1e3, 1e4)  # of ‖Xw - t‖² + α ‖w‖²
SELECTING = 10.0  # the Lasso's α whose features are named
LAMBDAS = (0.5, 2.0)  # D0's picture of |x|
RATE, DECAYS, SHOWN_STEPS = 0.01, (0.0, 200.0, 2000.0), 300  # of weight decay: learning rate, λ, steps drawn
SHIFT = 0.1  # of every feature, in standard deviations
TILT = np.array([[1.0, 0.3], [0.3, 0.8]])  # curvature of the J0 whose contours are drawn
CENTRE = np.array([0.2, 1.6])  # its minimum
PAIR_ALPHAS = (0.4, 0.7)  # of the diamond that its contour touches, and of one that has shrunk


class Settings(NamedTuple):
    """Sizes."""

    alphas: int = 40  # of each regularisation path
    steps: int = 1_500  # of accelerated descent
    plain_steps: int = 8_000  # of descent without acceleration


class Diabetes(NamedTuple):
    """The rows, standardised, in float64, and what they are."""

    x: np.ndarray
    t: np.ndarray  # progression of the disease after a year, from 25 to 346
    names: list[str]

    @property
    def step(self) -> float:
        """The largest learning rate that is sure to descend: 1 over the largest curvature of half the mean square."""
        return 0.999 / max(1.0, float(np.linalg.eigvalsh(self.x.T @ self.x / len(self.x)).max()))


class Path(NamedTuple):
    """Solutions, one per row, at as many α."""

    alphas: np.ndarray
    w: np.ndarray  # (alphas, features)
    b: np.ndarray  # (alphas,)


def main(settings: Settings) -> Result:
    """All of D0's pictures, and the real data."""
    with jax.enable_x64(True):  # 1e-8 has no room in float32
        data = diabetes()
        lasso = lasso_path(data, np.array([*LASSO_ALPHAS, *np.geomspace(0.03, 60, settings.alphas)]), settings.steps)
        ridge = ridge_path(data, np.array([*RIDGE_ALPHAS, *np.geomspace(0.1, 1e6, settings.alphas)]), settings.steps)
        plain = plain_lasso(data, np.array(LASSO_ALPHAS), settings.plain_steps)
        diamonds, circle = two_weights("l1"), two_weights("l2")[0]
        minima = minima_of_f()
        ulps, factor = decay_step(data)
        decays = decay_runs(data)
    return Result(
        title="Regularisation",
        question="Does L1 select features and L2 shrink weights, as drawn, and does our L1 reach exact zeros?",
        rows=[*minimum_rows(minima), *touching_rows(diamonds, circle), *decay_rows(ulps, factor, decays),
              *lasso_rows(data, lasso, plain), *ridge_rows(data, ridge), *selection_rows(data, lasso, ridge)],
        figures=figures(data, lasso, ridge, (*diamonds, circle), minima, decays),
        notes=notes(data, lasso),
        numbers={"minima": minima, "ulps": ulps, "lasso": lasso, "ridge": ridge, "plain": plain,
                 "diamonds": diamonds, "circle": circle},
    )  # fmt: skip


def diabetes() -> Diabetes:
    """Features to mean 0 and standard deviation 1; the targets as they are, a bias takes their mean."""
    loaded = load_diabetes(scaled=False)
    return Diabetes(fnn.standardise(loaded.data), loaded.target, list(loaded.feature_names))


# ---- training: linear models, all α at once


def trained(
    x: Any, t: Any, alphas: Any, steps: int, optimizer: Any, penalty: Any, loss: fnn.Loss, bias: bool = True
) -> Any:
    """The ends of full-batch runs from weights 0, one for every α: one vmapped program."""
    net = fnn.serial(fnn.dense(1, bias=bias, weight_init=0.0))
    rows = fnn.Data(fnn.Part(jnp.asarray(x), jnp.asarray(t)[:, None]))
    training = fnn.trainer(net, loss, optimizer, penalty=penalty)

    def one(alpha: Any) -> Any:
        return training.run(training.init(jax.random.key(0), rows, {"alpha": alpha}), rows, steps)[0]

    return jax.jit(jax.vmap(one))(jnp.asarray(alphas))


def lasso_path(data: Diabetes, alphas: np.ndarray, steps: int) -> Path:
    """By accelerated proximal descent: `1/(2n) ‖Xw - t‖² + α ‖w‖₁`, half a squared error as mean over the rows."""
    half = fnn.losses.half_squared_error
    end = trained(
        data.x, data.t, alphas, steps, lambda s: penalties.fista(s["alpha"], learning_rate=data.step), None, half
    )
    return path(alphas, penalties.fista_solution(end.optimizer))


def plain_lasso(data: Diabetes, alphas: np.ndarray, steps: int) -> Path:
    """The same by plain SGD and `proximal_l1`, which needs more steps."""

    def optimizer(s: Any) -> Any:
        return optax.chain(optax.sgd(data.step), penalties.proximal_l1(s["alpha"], learning_rate=data.step))

    half = fnn.losses.half_squared_error
    return path(alphas, trained(data.x, data.t, alphas, steps, optimizer, None, half).params)


def ridge_path(data: Diabetes, alphas: np.ndarray, steps: int) -> Path:
    """`‖Xw - t‖² + α ‖w‖²`, both divided by the rows, so that one learning rate does; accelerated, without L1."""
    n = len(data.x)
    end = trained(data.x, data.t, alphas, steps,
                  lambda s: penalties.fista(0.0, learning_rate=0.5 / (1 / data.step + s["alpha"] / n)),
                  lambda s: penalties.l2(s["alpha"] / n), fnn.losses.squared_error)  # fmt: skip
    return path(alphas, penalties.fista_solution(end.optimizer))


def path(alphas: np.ndarray, params: Any) -> Path:
    """The weights of each run as a row."""
    return Path(alphas, np.asarray(params[0]["w"])[:, :, 0], np.asarray(params[0]["b"])[:, 0])


def minima_of_f() -> np.ndarray:
    """Where `½(x-1)² + λ|x|` has its minimum, for each λ: a model of one weight on one row, `1·x = 1`."""

    def optimizer(s: Any) -> Any:
        return optax.chain(optax.sgd(0.1), penalties.proximal_l1(s["alpha"], learning_rate=0.1))

    half, one = fnn.losses.half_squared_error, np.ones((1, 1))
    return np.asarray(trained(one, one[0], LAMBDAS, 400, optimizer, None, half, bias=False).params[0]["w"])[:, 0, 0]


def two_weights(kind: str) -> np.ndarray:
    """Where `½ (w-c)ᵀ A (w-c)` and α times the penalty have their minimum: a linear model of two rows; one row an α."""
    root = np.linalg.cholesky(TILT).T * np.sqrt(2)  # the mean over two rows halves
    end = trained(root, root @ CENTRE, PAIR_ALPHAS, 500,
                  lambda s: penalties.fista(s["alpha"] if kind == "l1" else 0.0, learning_rate=0.3),
                  (lambda s: penalties.l2(s["alpha"])) if kind == "l2" else None,
                  fnn.losses.half_squared_error, bias=False)  # fmt: skip
    return np.asarray(penalties.fista_solution(end.optimizer)[0]["w"])[:, :, 0]


# ---- weight decay


def decay_step(data: Diabetes) -> tuple[float, float]:
    """One step with l2 against D0's formula, in units of the last place of the weight; and the factor of the decay."""
    rate, lam, m = RATE, 200.0, len(data.x)
    theta = 5.0 + np.arange(data.x.shape[1])  # none near 0, where the rounding of the sums would be many units of it
    penalty, optimizer = penalties.l2(lam / (2 * m)), optax.sgd(rate)
    net, half = fnn.serial(fnn.dense(1, bias=False)), fnn.losses.half_squared_error
    training = fnn.trainer(net, half, optimizer, penalty=penalty)
    rows = fnn.Data(fnn.Part(jnp.asarray(data.x), jnp.asarray(data.t)[:, None]))
    start = training.init(jax.random.key(0), rows, params=({"w": jnp.asarray(theta)[:, None]},))
    end, _ = jax.jit(training.run, static_argnums=2)(start, rows, 1)
    factor = 1 - rate * lam / m
    formula = theta * factor - rate / m * (data.x @ theta - data.t) @ data.x
    off = np.abs(np.asarray(end.params[0]["w"])[:, 0] - formula)
    return float((off / np.spacing(np.abs(formula))).max()), factor


def decay_runs(data: Diabetes) -> np.ndarray:
    """The length of the weights before each step: from one start of length 300, one row a λ of `DECAYS`."""
    m, features = data.x.shape
    net, half = fnn.serial(fnn.dense(1)), fnn.losses.half_squared_error
    training = fnn.trainer(net, half, optax.sgd(RATE), penalty=lambda s: penalties.l2(s["lambda"] / (2 * m)))
    rows = fnn.Data(fnn.Part(jnp.asarray(data.x), jnp.asarray(data.t)[:, None]))
    params = ({"w": jnp.full((features, 1), 300 / np.sqrt(features)), "b": jnp.asarray([data.t.mean()])},)

    def run(lam: Any) -> Any:
        def one(state: Any, _: None) -> Any:
            return training.run(state, rows, 1)[0], jnp.linalg.norm(state.params[0]["w"])

        start = training.init(jax.random.key(0), rows, {"lambda": lam}, params=params)
        return jax.lax.scan(one, start, length=SHOWN_STEPS)[1]

    return np.asarray(jax.jit(jax.vmap(run))(jnp.asarray(DECAYS)))


# ---- what is reported


def minimum_rows(minima: np.ndarray) -> list[Row]:
    """D0's choice of λ."""
    (small, large), (some, none) = LAMBDAS, minima
    return [
        holds(f"Minimum of ½(x-1)² + λ|x|, λ = {small:g}, by proximal_l1", "at 0.5", f"{some:.12g}", "± 1e-12",
              abs(some - 0.5) <= 1e-12),
        holds(f"Minimum of ½(x-1)² + λ|x|, λ = {large:g}, by proximal_l1", "at 0", f"{none:.12g}", "exactly 0",
              none == 0),
    ]  # fmt: skip


def touching_rows(diamonds: np.ndarray, circle: np.ndarray) -> list[Row]:
    """D0's figures 1 and 2."""
    sizes = [float(np.abs(w).sum()) for w in diamonds]
    return [
        holds("Contour and diamond touch at", "(0, w), a corner", f"({diamonds[0][0]:g}, {diamonds[0][1]:.4f})",
              "w1 exactly 0, w2 not", diamonds[0][0] == 0 != diamonds[0][1]),
        holds("Contour and circle touch at", "no zero", f"({circle[0]:.4f}, {circle[1]:.4f})", "neither is 0",
              bool((circle != 0).all())),
        holds("The diamond as α grows", "shrinks", f"{sizes[0]:.3f} at α = {PAIR_ALPHAS[0]}, {sizes[1]:.3f} at "
              f"{PAIR_ALPHAS[1]}", "|w1| + |w2| is smaller", sizes[1] < sizes[0]),
    ]  # fmt: skip


def decay_rows(ulps: float, factor: float, decays: np.ndarray) -> list[Row]:
    """D0's weight decay."""
    ends = decays[:, -1]
    return [
        at_most("One step of l2(λ/(2m)) against D0's formula, units in the last place, float64", 4, ulps),
        holds("The factor 1 - αλ/m, α = 0.01, λ = 200, m = 442", "below 1", f"{factor:.6f}", "above 0 and below 1",
              0 < factor < 1),
        holds(f"Length of the weights before step {SHOWN_STEPS}, λ = {', '.join(f'{lam:g}' for lam in DECAYS)}",
              "a larger λ shrinks faster", ", ".join(f"{end:.1f}" for end in ends), "falling",
              bool((np.diff(ends) < 0).all())),
    ]  # fmt: skip


def lasso_rows(data: Diabetes, lasso: Path, plain: Path) -> list[Row]:
    """Both ways to the Lasso against scikit-learn's coordinate descent."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is asked for more than it can tell
        theirs = [Lasso(alpha=a, tol=1e-14, max_iter=200_000).fit(data.x, data.t) for a in LASSO_ALPHAS]
    for name, ours in (("fista", lasso), ("proximal_l1", plain)):
        off, zeros, same = 0.0, [], True
        for i, (alpha, model) in enumerate(zip(LASSO_ALPHAS, theirs, strict=True)):
            expected = lasso_objective(data, model.coef_, model.intercept_, alpha)
            off = max(off, abs(lasso_objective(data, ours.w[i], ours.b[i], alpha) / expected - 1))
            zeros.append(int((ours.w[i] == 0).sum()))
            same = same and bool(((ours.w[i] == 0) == (model.coef_ == 0)).all())
        title = f"Lasso by {name}, α = {', '.join(f'{a:g}' for a in LASSO_ALPHAS)}"
        counts = ", ".join(f"{int((m.coef_ == 0).sum())}" for m in theirs)
        rows += [
            at_most(f"{title}: objective against scikit-learn's, relative", 1e-8, off),
            holds(f"Lasso by {name}: weights exactly zero, of 10", f"{counts} (scikit-learn)",
                  ", ".join(map(str, zeros)), "the same weights", same, OURS),
        ]  # fmt: skip
    return rows


def lasso_objective(data: Diabetes, w: np.ndarray, b: float, alpha: float) -> float:
    """`1/(2n) ‖Xw + b - t‖² + α ‖w‖₁`."""
    return float(0.5 * np.mean((data.x @ w + b - data.t) ** 2) + alpha * np.abs(w).sum())


def ridge_rows(data: Diabetes, ridge: Path) -> list[Row]:
    """Ridge against scikit-learn's direct solution."""
    off = 0.0
    for i, alpha in enumerate(RIDGE_ALPHAS):
        w = Ridge(alpha=alpha, solver="cholesky").fit(data.x, data.t).coef_
        off = max(off, float(np.abs(ridge.w[i] - w).max() / np.abs(w).max()))
    title = f"Ridge, α = {', '.join(f'{a:g}' for a in RIDGE_ALPHAS)}"
    return [at_most(f"{title}: weights against scikit-learn's, relative", 1e-6, off)]


def selection_rows(data: Diabetes, lasso: Path, ridge: Path) -> list[Row]:
    """What the penalties are for."""
    chosen = lasso.w[LASSO_ALPHAS.index(SELECTING)]
    kept = [name for name, w in zip(data.names, chosen, strict=True) if w != 0]
    lengths = np.linalg.norm(ridge.w[np.unique(ridge.alphas, return_index=True)[1]], axis=1)
    free, small = ridge.w[RIDGE_ALPHAS.index(0.1)], ridge.w[RIDGE_ALPHAS.index(1e3)]
    moved = [change(data, w) for w in (free, small)]
    return [
        holds(f"Features that L1 keeps at α = {SELECTING:g}, of 10", "some: sparse weights",
              f"{len(kept)}: {', '.join(kept)}", "from 1 to 9", 0 < len(kept) < len(data.names)),
        holds(f"Weights that L2 makes zero, at {len(ridge.alphas)} values of α", "none is likely",
              f"{int((ridge.w == 0).sum())}", "0", not (ridge.w == 0).any()),
        holds("Length of Ridge's weights as α grows", "all weights get small",
              f"{lengths[0]:.1f} to {lengths[-1]:.2f}", "falls at every α", bool((np.diff(lengths) < 0).all())),
        holds(f"Prediction when every feature shifts by N(0, {SHIFT}²), α = 0.1 and 1,000",
              "small weights: changes little", f"by {moved[0]:.2f} and {moved[1]:.2f} (root mean square)",
              "less with small weights", moved[1] < moved[0]),
    ]  # fmt: skip


def change(data: Diabetes, w: np.ndarray) -> float:
    """How far predictions move when the data shift a little."""
    shift = np.random.default_rng(0).normal(0, SHIFT, data.x.shape)
    return float(np.sqrt(np.mean((shift @ w) ** 2)))


def notes(data: Diabetes, lasso: Path) -> list[str]:
    """What the table cannot say."""
    return [
        f"Diabetes: {len(data.x)} patients, {len(data.names)} features (age, sex, body mass index, blood pressure, six "
        "blood serum values s1 to s6), standardised; the target is a measure of progression after a year, 25 to 346.",
        "The bias is not penalised. Lasso is 1/(2n) ‖Xw - t‖² + α ‖w‖₁, Ridge ‖Xw - t‖² + α ‖w‖²: the two α are not "
        f"on one scale. All {len(lasso.alphas)} solutions of a path are one vmapped program, in float64.",
        "|w| has no derivative at 0. The penalty l1 takes 0 there, and descent along it only comes near to zeros; "
        "proximal_l1 and fista reach them exactly, as scikit-learn does.",
        "f of D0's picture of |x| is not given there: ½(x-1)² is ours, and so is the J0 of the contours.",
    ]


# ---- pictures


def figures(data: Diabetes, lasso: Path, ridge: Path, touching: Any, minima: Any, decays: Any) -> list[Figure]:
    """D0's, and the paths."""
    near, far, circle = touching
    return [
        Figure("L1: contours and diamond", "J0 grows away from its minimum; where its contour first touches the "
               "diamond, a corner, is the solution, (0, w). Dashed: the diamond of a larger α.",
               contours(near, "l1", far)),
        Figure("L2: contours and circle", "The same J0: the circle has no corners, and neither weight is 0.",
               contours(circle, "l2")),
        Figure("The choice of λ", "F(x) = ½(x-1)² + λ|x|. A large enough λ puts the minimum at 0, where |x| has its "
               "kink.", choice(minima)),
        Figure("Weight decay", "Length of the weights of the diabetes model at learning rate 0.01. Each step "
               "first multiplies them by 1 - αλ/m.", decay(decays)),
        Figure("Regularisation paths", "Left: L1 sets one weight after another to exactly 0; dotted, the α whose "
               "features are named above. Right: L2 makes them all small together.", paths(data, lasso, ridge)),
    ]  # fmt: skip


def contours(w: np.ndarray, kind: str, shrunk: Any = None) -> Picture:
    """J0's contours, the one through the solution thicker, and the set of weights with as large a penalty."""
    picture, ax = _axes()
    picture.set_size_inches(5.6, 5.6)
    x, y = np.meshgrid(np.linspace(-1.5, 1.9, 200), np.linspace(-1.5, 2.7, 200))
    level = j0(w[0], w[1])
    ax.contour(x, y, j0(x, y), levels=[level * f for f in (0.1, 0.4, 2, 4, 7, 12, 20)], linewidths=0.8,
               colors=plots.LINE_COLOURS[0], alpha=0.5)  # fmt: skip
    ax.contour(x, y, j0(x, y), levels=[level], colors=plots.LINE_COLOURS[0], linewidths=1.6)
    angle = np.linspace(0, 2 * np.pi, 401)
    edge = np.stack([np.cos(angle), np.sin(angle)])
    edge = edge / np.abs(edge).sum(0) if kind == "l1" else edge
    sizes = [np.abs(v).sum() if kind == "l1" else np.linalg.norm(v) for v in (w, shrunk) if v is not None]
    label = "$|w_1| + |w_2|$ of the solution" if kind == "l1" else "$w_1^2 + w_2^2$ of the solution"
    ax.fill(*(sizes[0] * edge), color=plots.LINE_COLOURS[1], alpha=0.15)
    for size, style, name in zip(sizes, ("-", "--"), (label, f"the same, α = {PAIR_ALPHAS[1]}"), strict=False):
        ax.plot(*(size * edge), color=plots.LINE_COLOURS[1], linestyle=style, label=name)
    ax.plot(*CENTRE, "+", color=plots.LINE_COLOURS[0], markersize=10, label="minimum of $J_0$")
    ax.plot(*w, "o", color=plots.INK, zorder=3, label=f"solution, α = {PAIR_ALPHAS[0]}: ({w[0]:.2f}, {w[1]:.2f})")
    ax.axhline(0, color="#bbbbbb", linewidth=0.8)
    ax.axvline(0, color="#bbbbbb", linewidth=0.8)
    ax.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
    ax.plot([], [], color=plots.LINE_COLOURS[0], label="contours of $J_0$")
    picture.legend(
        *ax.get_legend_handles_labels(), frameon=False, fontsize="small", loc="outside upper center", ncols=2
    )
    return picture


def j0(w1: Any, w2: Any) -> Any:
    """`½ (w-c)ᵀ A (w-c)`."""
    u, v = w1 - CENTRE[0], w2 - CENTRE[1]
    return 0.5 * (TILT[0, 0] * u * u + 2 * TILT[0, 1] * u * v + TILT[1, 1] * v * v)


def choice(minima: np.ndarray) -> Picture:
    """F for both λ, with the minima that were found."""
    picture, ax = _axes()
    x = np.linspace(-1, 2, 601)
    ax.plot(x, 0.5 * (x - 1) ** 2, color="#aaaaaa", linestyle=":", label="f(x) = ½(x-1)²")
    for lam, at, colour in zip(LAMBDAS, minima, plots.LINE_COLOURS, strict=False):
        ax.plot(x, 0.5 * (x - 1) ** 2 + lam * np.abs(x), color=colour, label=f"F(x), λ = {lam:g}")
        ax.plot(at, 0.5 * (at - 1) ** 2 + lam * abs(at), "o", color=colour, label=f"found minimum: {at:.3g}")
    ax.set(xlabel="x", ylabel="F(x)", ylim=(0, 4.5))
    ax.legend(frameon=False, fontsize="small")
    return picture


def decay(decays: np.ndarray) -> Picture:
    """The length of the weights against the step."""
    picture, ax = _axes()
    for lam, lengths, colour in zip(DECAYS, decays, plots.LINE_COLOURS, strict=False):
        ax.plot(lengths, color=colour, label=f"λ = {lam:g}")
    ax.set(xlabel="step", ylabel="$\\Vert w \\Vert$ (target's unit a standard deviation)", ylim=(0, None))
    ax.legend(frameon=False, fontsize="small")
    return picture


def paths(data: Diabetes, lasso: Path, ridge: Path) -> Picture:
    """Every weight against α."""
    picture = Picture(figsize=(11, 4.4), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True)
    for ax, found, name in ((left, lasso, "Lasso"), (right, ridge, "Ridge")):
        order = np.argsort(found.alphas)
        for j, feature in enumerate(data.names):
            ax.plot(found.alphas[order], found.w[order, j], label=feature, color=plots.LINE_COLOURS[j % 6],
                    linestyle="-" if j < 6 else "--")  # fmt: skip
        ax.axhline(0, color="#bbbbbb", linewidth=0.8)
        ax.set(xlabel=f"α of {name}", xscale="log")
        ax.set_title(name, fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize="small")
    left.set_ylabel("weight (target's unit a standard deviation)")
    left.axvline(SELECTING, color="#bbbbbb", linewidth=0.8, linestyle=":")
    picture.legend(*left.get_legend_handles_labels(), frameon=False, fontsize="small", loc="outside right upper")
    return picture


def _axes() -> tuple[Picture, Any]:
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    ax = picture.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize="small")
    return picture, ax
