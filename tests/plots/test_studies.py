"""The pictures of studies show what was found, and all of it? The artists are looked at, not the pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import fnn
from fnn import plots
from fnn.plots import axes, study_cells
from fnn.studies.cross_validation import CrossValidation
from fnn.studies.search_space import as_points, log_uniform, uniform
from fnn.studies.sweeps import Sweep

RATES = [1e-3, 1e-2, 1e-1, 1.0]


def swept(over, loss, diverged=lambda s: False, monitor="validation_loss", **more):
    """A sweep that found what a function of the settings says; other figures too."""
    points = as_points(over)
    table = {name: np.array([point[name] for point in points]) for name in points[0]}
    table |= {name: np.array([of(s) for s in points], float) for name, of in {monitor: loss, **more}.items()}
    table["diverged"] = np.array([diverged(s) for s in points])
    return SimpleNamespace(
        points=points, table=table, monitor=monitor, mode="max" if monitor.endswith("accuracy") else "min"
    )


def validated(over, accuracy, std=lambda s: 0.01, lost=lambda s: 0):
    """A cross-validation of five folds, likewise."""
    found = swept(over, accuracy, monitor="validation_accuracy", validation_accuracy_std=std)
    found.table["diverged"], found.folds = np.array([lost(s) for s in found.points]), [None] * 5
    return found


def legend(figure):
    drawn = figure.axes[0].get_legend()
    return [text.get_text() for text in drawn.get_texts()] if drawn else []


def lines(figure):
    """Label -> its points."""
    return {line.get_label(): np.stack(line.get_data(), 1).tolist() for line in figure.axes[0].get_lines()}


def cells(figure):
    """Place -> what is written there, as its lines."""
    return {tuple(map(int, t.get_position())): t.get_text().split("\n") for t in figure.axes[0].texts}


def frame(figure):
    """The place of the best cell."""
    (patch,) = figure.axes[0].patches
    return patch.get_x() + 0.5, patch.get_y() + 0.5


def texts(labels):
    return [label.get_text() for label in labels]


# ---- curves


def test_one_setting_is_a_curve_of_the_figure_that_judged():
    figure = plots.sweep(swept({"lr": RATES}, lambda s: 1 + np.log10(s["lr"]) ** 2))
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale(), ax.get_yscale()) == (
        *("lr", "validation loss"),
        *("log", "linear"),
    )
    assert legend(figure) == ["validation loss", "best: 1 at lr = 1"]
    assert lines(figure)["validation loss"] == [[1e-3, 10], [1e-2, 5], [1e-1, 2], [1, 1]]
    assert lines(figure)["best: 1 at lr = 1"] == [[1, 1]]
    assert texts(ax.get_xticklabels()) == ["0.001", "0.01", "0.1", "1"]
    assert not ax.collections


def test_the_order_of_the_points_does_not_matter():
    figure = plots.sweep(swept([{"lr": rate} for rate in (0.1, 0.3, 0.2)], lambda s: s["lr"]))
    assert lines(figure)["validation loss"] == [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]


def test_seeds_make_a_mean_and_a_band_from_lowest_to_highest():
    figure = plots.sweep(swept({"lr": [1.0, 2.0], "seed": [0, 1, 2]}, lambda s: s["lr"] + s["seed"] ** 2))
    assert legend(figure) == ["mean over 3 seeds", "lowest to highest", "best mean: 2.667 at lr = 1"]
    np.testing.assert_allclose(lines(figure)["mean over 3 seeds"], [[1, 8 / 3], [2, 11 / 3]])
    (band,) = figure.axes[0].collections
    corners = {tuple(v) for v in band.get_paths()[0].vertices}
    assert corners == {(1, 1), (1, 5), (2, 2), (2, 6)}


def test_x_alone_takes_the_other_settings_into_the_mean():
    figure = plots.sweep(swept({"lr": [1.0, 2.0], "l2": [0.0, 4.0], "seed": [0, 1]}, lambda s: s["lr"] + s["l2"]), "lr")
    assert legend(figure)[:2] == ["mean over 2 values of l2 and 2 seeds", "lowest to highest"]
    assert lines(figure)["mean over 2 values of l2 and 2 seeds"] == [[1, 3], [2, 4]]


def test_folds_make_a_band_of_their_standard_deviation():
    figure = plots.sweep(validated({"width": [8, 16]}, lambda s: s["width"] / 20, std=lambda s: s["width"] / 80))
    assert legend(figure) == [
        *("mean over 5 folds", "± one standard deviation over the folds", "best: 0.8 at width = 16"),
    ]
    (band,) = figure.axes[0].collections
    np.testing.assert_allclose(
        sorted({tuple(v) for v in band.get_paths()[0].vertices}), [(8, 0.3), (8, 0.5), (16, 0.6), (16, 1.0)]
    )
    assert texts(figure.axes[0].get_xticklabels()) == ["8", "16"]


def test_0_beside_a_logarithmic_axis_has_its_place():
    ax = plots.sweep(swept({"l2": [0.0, 1e-4, 1e-3, 1e-1]}, lambda s: 1.0)).axes[0]
    assert ax.get_xscale() == "symlog" and texts(ax.get_xticklabels()) == ["0", "0.0001", "0.001", "0.1"]
    at = ax.transData.transform([[x, 1] for x in (0, 1e-4, 1e-3)])[:, 0]
    assert ax.get_window_extent().x0 < at[0] < at[1] - 20 < at[2] - 20
    costs = plots.sweep(swept({"width": [1, 2]}, lambda s: 10.0 ** (3 * s["width"]))).axes[0]
    assert (costs.get_xscale(), costs.get_yscale()) == ("linear", "log")


@pytest.mark.parametrize(
    "values, scale",
    [
        ([1.0, 50.0], "linear"),
        ([1.0, 51.0], "log"),
        ([0.0, 1.0, 50.0], "linear"),
        ([0.0, 1.0, 51.0], "symlog"),
        ([-1.0, 1.0, 100.0], "linear"),
        ([0.0], "linear"),
    ],
)
def test_scales(values, scale):
    ax = plots.sweep(swept({"a": values}, lambda s: 1.0)).axes[0]
    assert ax.get_xscale() == scale


@pytest.mark.parametrize("largest", [False, True])
def test_what_diverged_is_a_cross_at_the_bad_end_and_in_no_mean(largest):
    over = {"lr": [1.0, 2.0, 3.0], "seed": [0, 1]}
    monitor = "accuracy" if largest else "loss"
    lost = lambda s: s["lr"] == 3 or (s["lr"], s["seed"]) == (2, 1)  # noqa: E731
    figure = plots.sweep(swept(over, lambda s: 1e9 if lost(s) else s["lr"], lost, monitor))
    assert lines(figure)["mean over 2 seeds"] == [[1, 1], [2, 2]]
    crosses = np.array(lines(figure)["diverged: no value"])
    assert crosses[:, 0].tolist() == [2, 3] and ((crosses[:, 1] < 0.1) if largest else (crosses[:, 1] > 0.9)).all()
    assert texts(figure.axes[0].texts) == ["1 of 2", "2 of 2"]
    low, high = figure.axes[0].get_xlim()
    assert low < 1 and high > 3
    assert legend(figure)[1] == f"best mean: {2 if largest else 1} at lr = {2 if largest else 1}"


def test_what_has_not_run_is_a_dash():
    figure = plots.sweep(swept({"lr": RATES}, lambda s: np.nan if s["lr"] > 0.05 else s["lr"]))
    assert [x for x, _ in lines(figure)["not run"]] == [0.1, 1.0]
    assert "diverged: no value" not in legend(figure)
    assert legend(figure)[1] == "best: 0.001 at lr = 0.001"


def test_nothing_but_crosses():
    figure = plots.sweep(swept({"lr": RATES}, lambda s: np.nan, lambda s: True))
    assert legend(figure) == ["diverged: no value"] and len(lines(figure)["diverged: no value"]) == 4
    assert list(figure.axes[0].get_yticks()) == []
    figure = plots.sweep(swept({"lr": RATES, "l2": [0.0, 1.0]}, lambda s: np.nan, lambda s: True))
    assert legend(figure) == ["diverged"] and set(map(tuple, cells(figure).values())) == {("×",)}
    assert len(figure.axes) == 1  # no numbers, no bar


# ---- heat maps


def bowl(s):
    return 0.25 + abs(np.log10(s["lr"]) + 1) + 10 * s["l2"]


def test_two_settings_are_a_heat_map_with_numbers_a_frame_and_a_bar():
    figure = plots.sweep(swept({"lr": RATES, "l2": [0.0, 1e-2]}, bowl))
    ax, bar = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("lr", "l2", "validation loss")
    assert texts(ax.get_xticklabels()) == ["0.001", "0.01", "0.1", "1"]
    assert texts(ax.get_yticklabels()) == ["0", "0.01"]
    assert {at: text for at, (text,) in cells(figure).items()} == {
        **{(0, 0): "2.250", (1, 0): "1.250", (2, 0): "0.250", (3, 0): "1.250"},
        **{(0, 1): "2.350", (1, 1): "1.350", (2, 1): "0.350", (3, 1): "1.350"},
    }
    assert frame(figure) == (2, 0)
    assert legend(figure) == ["best: 0.25 at lr = 0.1, l2 = 0"]
    shade = np.asarray(ax.images[0].get_array())[..., :3].sum(-1)
    assert shade[0, 2] == shade.min() and shade[1, 0] == shade.max()  # the darker the better
    assert ax.images[0].origin == "lower"


def test_more_is_better_for_an_accuracy_and_folds_have_a_deviation():
    found = validated({"lr": RATES, "l2": [0.0, 1e-2]}, lambda s: 0.9 - bowl(s) / 10, lost=lambda s: 2 * (s["lr"] == 1))
    figure = plots.sweep(found)
    assert cells(figure)[2, 0] == ["0.8750", "± 0.0100"] and cells(figure)[3, 0] == ["× 2 of 5"]
    assert frame(figure) == (2, 0) and legend(figure) == ["best: 0.875 at lr = 0.1, l2 = 0", "diverged"]
    assert figure.axes[1].get_ylabel() == "validation accuracy, mean over 5 folds"
    shade = np.asarray(figure.axes[0].images[0].get_array())[..., :3].sum(-1)
    assert shade[0, 2] == shade.min() and shade[1, 0] == shade[:, :3].max()


def test_seeds_are_averaged_and_of_other_settings_the_best_is_shown():
    over = {"lr": [1.0, 2.0], "width": [8, 16], "l2": [0.0, 1.0], "seed": [0, 1]}
    found = swept(over, lambda s: s["lr"] + s["l2"] + (s["width"] == 8) * (8 - 9 * s["seed"]))
    figure = plots.sweep(found, "l2", "lr")
    assert {at: float(text) for at, (text,) in cells(figure).items()} == {(0, 0): 1, (1, 0): 2, (0, 1): 2, (1, 1): 3}
    assert figure.axes[1].get_ylabel().replace("\n", " ") == "validation loss, mean over 2 seeds, best over width"
    assert legend(figure) == ["best: 1 at lr = 1, width = 16, l2 = 0"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("l2", "lr")


def test_a_setting_with_one_value_is_not_spoken_of():
    found = swept({"lr": RATES, "l2": [0.0, 1.0], "width": [8], "seed": [3]}, bowl)
    assert plots.sweep(found, "lr", "l2").axes[1].get_ylabel() == "validation loss"


def test_another_figure_is_that_of_those_who_judged_best():
    over = {"lr": [1.0, 2.0], "l2": [0.0, 1.0], "width": [8, 16]}
    found = swept(over, bowl, accuracy=lambda s: s["lr"] / 10 + s["l2"] / 100 + s["width"] / 1000)
    found.table["validation_loss"] -= found.table["width"]  # 16 is best
    figure = plots.sweep(found, "lr", "l2", figure="accuracy")
    assert {at: float(text) for at, (text,) in cells(figure).items()} == {
        **{(0, 0): 0.116, (1, 0): 0.216},
        **{(0, 1): 0.126, (1, 1): 0.226},
    }
    assert legend(figure)[0].startswith("best by validation loss: 0.116 at lr = 1")
    assert figure.axes[1].get_ylabel().replace("\n", " ") == "accuracy, best over width by validation loss"
    assert legend(plots.sweep(found, "lr", figure="accuracy"))[-1].startswith("best mean by validation loss")


def test_some_of_a_cell_diverged_or_has_not_run():
    over = {"lr": [1.0, 2.0], "l2": [0.0, 1.0], "seed": [0, 1]}
    lost = lambda s: (s["lr"], s["seed"]) == (2, 1)  # noqa: E731
    found = swept(over, lambda s: np.nan if (s["lr"], s["l2"]) == (1, 1) else 5.0, lost)
    figure = plots.sweep(found)
    assert cells(figure) == {
        **{(0, 0): ["5.000"], (1, 0): ["5.000", "× 1 of 2"]},
        **{(0, 1): ["–"], (1, 1): ["5.000", "× 1 of 2"]},
    }
    assert legend(figure)[1:] == ["diverged", "not run"]


def test_the_best_is_the_one_that_the_study_chose():
    rng = np.random.default_rng(0)
    over = {"lr": RATES, "l2": [0.0, 0.1, 1.0], "width": [8, 16]}
    found = swept(over, lambda s: rng.integers(3), lambda s: rng.random() < 0.3)  # many are equal
    scores = np.where(found.table["diverged"], np.inf, found.table["validation_loss"])
    best = found.points[int(np.argmin(scores))]
    figure = plots.sweep(found, "lr", "l2")
    assert frame(figure) == (RATES.index(best["lr"]), [0.0, 0.1, 1.0].index(best["l2"]))
    assert f"at lr = {best['lr']:g}, l2 = {best['l2']:g}, width = {best['width']}" in legend(figure)[0]


def test_a_cost_that_exploded_leaves_the_others_their_colours():
    found = swept({"lr": RATES, "l2": [0.0, 1e-2]}, lambda s: 1e20 if s["lr"] == 1 else bowl(s))
    figure = plots.sweep(found)
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert len({to_hex(colour) for colour in image.reshape(-1, 4)}) == 7  # six, and one for both that exploded
    assert abs(image[0, 0, :3] - image[0, 2, :3]).max() > 0.3
    assert cells(figure)[3, 0] == ["1e+20"]
    assert figure.axes[1].get_yscale() == "log" and texts(figure.axes[1].get_yticklabels()) == [
        "0.5",
        "1",
        "2",
        "5",
        "10",
    ]


def test_points_drawn_at_random_stand_where_their_values_are():
    points = fnn.draws(12, lr=log_uniform(1e-4, 1), momentum=uniform(0, 0.9))
    found = swept(points, lambda s: np.log10(s["lr"]) ** 2, lambda s: s["lr"] > 0.03)
    figure = plots.sweep(found)
    ax = figure.axes[0]
    assert not ax.images and (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    drawn = [tuple(point) for line in ax.get_lines() for point in np.stack(line.get_data(), 1)]
    assert set(drawn) == {(p["lr"], p["momentum"]) for p in points}
    lost = {(p["lr"], p["momentum"]) for p in points if p["lr"] > 0.03}
    assert lost and set(map(tuple, lines(figure)["diverged"])) == lost
    best = min((p for p in points if p["lr"] <= 0.03), key=lambda p: np.log10(p["lr"]) ** 2)
    assert [[best["lr"], best["momentum"]]] in lines(figure).values()


def test_axes_that_are_given_are_drawn_on():
    figure = Figure()
    ax = figure.add_subplot(1, 2, 1)
    assert plots.sweep(swept({"lr": RATES}, bowl_free), ax=ax) is figure and ax.get_lines()
    other = figure.add_subplot(1, 2, 2)
    assert plots.sweep(swept({"lr": RATES, "l2": [0.0]}, bowl), ax=other) is figure and other.images


def bowl_free(s):
    return s["lr"]


def test_large_maps_are_larger_and_still_have_their_numbers():
    figure = plots.sweep(swept({"a": list(range(1, 25)), "b": list(range(20))}, lambda s: s["a"] + s["b"]))
    assert figure.get_figwidth() == 16 and len(cells(figure)) == 480
    assert figure.axes[0].get_xticklabels()[0].get_rotation() == 0
    long = plots.sweep(swept({"a": list(np.geomspace(1, 2, 24)), "b": [1, 2]}, lambda s: s["a"]))
    assert long.axes[0].get_xticklabels()[0].get_rotation() == 90


@pytest.mark.parametrize(
    "over",
    [
        {"l2": [0.0, *RATES]},
        {"lr": RATES, "l2": [0.0, 1.0]},
        {"lr": [0.1], "l2": [0.0]},
        fnn.draws(5, lr=log_uniform(1e-4, 1), b=uniform(0, 1)),
    ],
    ids=["curve", "heat map", "one cell", "points"],
)
def test_they_render_without_a_warning(over):
    found = swept(over, lambda s: 10.0 ** (9 * s.get("lr", s.get("l2"))), lambda s: s.get("lr") == 1)
    plots.sweep(found).draw_without_rendering()


# ---- what is asked for


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({}, r"x: expected one of lr, l2, width, got None\. Say which"),
        ({"y": "l2"}, r"x: expected one of lr, l2, width, got None\. [A-Z]"),
        ({"x": "rate"}, r"x: expected one of lr, l2, width, got 'rate'\. [A-Z]"),
        ({"x": "lr", "y": "rate"}, r"y: expected one of lr, l2, width, got 'rate'\. [A-Z]"),
        ({"x": "lr", "y": "lr"}, r"y: expected another setting than x, got 'lr' for both\. [A-Z]"),
        ({"x": "lr", "figure": "cost"}, r"figure: expected one of validation_loss, got 'cost'\. [A-Z]"),
        ({"x": "lr", "figure": "l2"}, r"figure: expected one of validation_loss, got 'l2'\. [A-Z]"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_mend(asked, expected):
    with pytest.raises(ValueError, match=expected):
        plots.sweep(swept({"lr": RATES, "l2": [0.0, 1.0], "width": [8, 16]}, bowl), **asked)


def test_deviations_are_no_figures():
    with pytest.raises(ValueError, match="figure: expected one of validation_accuracy, got 'validation_accuracy_std'"):
        plots.sweep(validated({"lr": RATES}, bowl_free), figure="validation_accuracy_std")


def test_what_is_no_study_or_has_no_settings_is_refused():
    with pytest.raises(
        TypeError, match=r"found: expected what fnn\.sweep or fnn\.cross_validate returns, got dict\. [A-Z]"
    ):
        plots.sweep({"lr": RATES})
    found = SimpleNamespace(
        points=[{}], table={"loss": np.ones(1), "diverged": np.zeros(1)}, monitor="loss", mode="min"
    )
    with pytest.raises(ValueError, match=r"found: expected settings to choose from, got none\. Pass over="):
        plots.sweep(found)


def test_seeds_alone_can_be_drawn():
    assert study_cells.choose_axes(["seed"], None, None) == ["seed"]
    assert lines(plots.sweep(swept({"seed": [1, 2]}, lambda s: s["seed"])))["validation loss"] == [[1, 1], [2, 2]]


def test_studies_have_what_the_pictures_need():
    assert {"points", "table", "monitor", "mode"} <= set(Sweep._fields) & set(CrossValidation._fields)
    assert "folds" in CrossValidation._fields and "folds" not in Sweep._fields


# ---- numbers


def test_numbers_are_as_short_as_can_be_told_apart():
    assert axes.format_short([1e-4, 0.1, 1 / 3]) == ["0.0001", "0.1", "0.333"]
    assert axes.format_short([0.12341, 0.12342]) == ["0.12341", "0.12342"]
    assert axes.format_short(np.array([1000000, 8])) == ["1000000", "8"]
    assert axes.format_short([0.1, 0.1 + 2**-56]) == ["0.1", repr(0.1 + 2**-56)]
    assert axes.format_short([1 / 3, 0.333]) == ["0.3333", "0.333"]
    assert axes.format_short([np.nan, np.nan])  # ends


def test_round_numbers_lie_within_and_are_never_too_many():
    for low, high in [(0.09, 5.0), (1e-30, 1e25), (0.3, 20.0), (2e-7, 3e-6)]:
        found = axes.round_numbers(low, high)
        assert 2 <= len(found) <= 12 and low <= min(found) and max(found) <= high
        assert found == sorted(set(found))
