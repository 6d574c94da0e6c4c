"""Are the pictures of what they say? The artists are looked at, not the pixels."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import fnn
from fnn import plots

RED, BLUE = plots.CLASS_COLOURS[:2]
X, T = [[-1.0, 0.5], [1.0, -0.5], [1.5, 0.2]], [0, 1, 1]


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def scatters(ax):
    return {c.get_label(): c for c in ax.collections if hasattr(c, "get_offsets") and len(c.get_offsets()) > 0}


def test_curves_draw_training_and_validation_and_mark_the_best():
    history = fnn.History(np.array([3.0, 2.0, 1.0]), {}, np.array([3.0, 1.5, 2.5]), {})
    figure = plots.curves(history)
    training, validation, best = figure.axes[0].get_lines()
    np.testing.assert_array_equal(training.get_ydata(), [3, 2, 1])
    np.testing.assert_array_equal(validation.get_ydata(), [3, 1.5, 2.5])
    assert validation.get_linestyle() == "--"
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([1], [1.5])
    assert legend(figure) == ["training", "validation", "best: 1.5 at 1"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("epoch", "cost")


def test_curves_of_several_runs_share_one_axis_and_have_colours_of_their_own():
    figure = plots.curves({"a": [2.0, 1.0], "b": [3.0, np.nan]}, xlabel="iteration", log=True)
    first, second = figure.axes[0].get_lines()
    assert legend(figure) == ["a", "b"]
    assert first.get_color() != second.get_color()
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_yscale()) == ("iteration", "log")


def test_a_validation_that_was_never_finite_has_no_best():
    figure = plots.curves(fnn.History(np.ones(2), {}, np.full(2, np.nan), {}))
    assert legend(figure) == ["training", "validation"]


@pytest.mark.parametrize("t", [T, np.eye(2)[T]], ids=["labels", "one-hot"])
def test_label_0_is_red_and_label_1_blue(t):
    drawn = scatters(plots.classes(X, t, names=["outer", "inner"]).axes[0])
    assert {name: to_hex(c.get_facecolor()[0]) for name, c in drawn.items()} == {"outer": RED, "inner": BLUE}
    np.testing.assert_allclose(drawn["outer"].get_offsets(), X[:1])
    np.testing.assert_allclose(drawn["inner"].get_offsets(), X[1:])


def test_the_boundary_is_where_both_outputs_are_equal():
    # outputs (0, x1 - 0.5): class 1 to the right of x1 = 0.5
    params = ({"w": jnp.array([[0.0, 1.0], [0.0, 0.0]]), "b": jnp.array([0.0, -0.5])},)
    net = fnn.serial(fnn.dense(2))
    figure = plots.decision_boundary(net, fnn.Run(params, ((),), None, None), X, T, grid=41)
    ax = figure.axes[0]
    red, line, blue, same_line = [c for c in ax.collections if not c.get_label().startswith("class")]
    for contour in (line, same_line):
        np.testing.assert_allclose(np.concatenate([p.vertices for p in contour.get_paths()])[:, 0], 0.5, atol=1e-6)
    assert (to_hex(red.get_facecolor()[0]), to_hex(blue.get_facecolor()[0])) == (RED, BLUE)
    assert red.get_paths()[0].vertices[:, 0].max() == pytest.approx(0.5)
    assert blue.get_paths()[0].vertices[:, 0].min() == pytest.approx(0.5)
    assert set(scatters(ax)) >= {"class 0", "class 1"}
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-2, 2))
    assert legend(figure) == ["class 0", "class 1", "boundary"]


def test_a_network_that_knows_one_class_only_has_no_boundary():
    params = ({"w": jnp.zeros((2, 3)), "b": jnp.array([0.0, 1.0, 0.0])},)
    figure = plots.decision_boundary(fnn.serial(fnn.dense(3)), fnn.Run(params, ((),), None, None), X, T, grid=5)
    regions = [c for c in figure.axes[0].collections if not c.get_label().startswith("class")]
    assert [to_hex(c.get_facecolor()[0]) for c in regions] == [BLUE]


def test_the_hidden_space_is_seen_from_where_the_document_stands():
    hidden = np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    figure = plots.hidden_space(hidden, [0, 1], plane=([1.0, 1.0, 1.0], -1.5))
    ax = figure.axes[0]
    assert (ax.elev, ax.azim) == (10, -40)
    assert [ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()] == [f"hidden unit {i}" for i in (1, 2, 3)]
    drawn = {c.get_label(): c for c in ax.collections}
    np.testing.assert_allclose(np.ravel(drawn["class 1"]._offsets3d), hidden[1])
    corners = np.asarray(drawn["separating plane"]._faces).reshape(-1, 3)
    # x + y + z = 1.5 cuts the cube in a regular hexagon of side √½: its corners are in order
    assert len(corners) == 6
    np.testing.assert_allclose(corners.sum(1), 1.5)
    np.testing.assert_allclose(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1), 0.5**0.5)


def test_a_plane_outside_of_the_cube_is_left_out():
    figure = plots.hidden_space([[0.1, 0.2, 0.3]], [0], plane=([1.0, 1.0, 1.0], 5.0))
    assert legend(figure) == ["class 0"]


def test_axes_that_are_given_are_drawn_on():
    figure = Figure()
    ax = figure.add_subplot()
    assert plots.classes(X, T, ax=ax) is figure
    assert len(ax.collections) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.classes([[1.0, 2.0, 3.0]], [0]),
        lambda: plots.hidden_space([[1.0, 2.0]], [0]),
        lambda: plots.decision_boundary(
            fnn.serial(fnn.dense(1)), fnn.Run(({"w": jnp.ones((2, 1)), "b": jnp.ones(1)},), ((),), None, None), X, T
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_mend(draw):
    with pytest.raises(ValueError, match=r"expected .*, got .*\. [A-Z]"):
        draw()


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'plots: matplotlib is not installed\. Run: pip install "fnn\[plots\]"'):
        plots.curves([1.0])


def test_matplotlib_is_imported_on_use_and_pyplot_never():
    code = (
        "import sys; from fnn import plots; assert 'matplotlib' not in sys.modules;"
        "plots.hidden_space([[0, 0, 1]], [0]); plots.curves([1.0]).savefig(sys.stdout.buffer);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"\x89PNG")


def test_schedules_are_drawn_one_value_a_step():
    figure = plots.schedules({"a": lambda step: 0.1 * step, "b": lambda step: 1.0 + 0.0 * step}, 5)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["a"].get_ydata(), [0.0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert set(lines["b"].get_ydata()) == {1.0}
    assert figure.axes[0].get_ylabel() == "learning rate"


def test_an_activation_is_drawn_with_its_derivative():
    ax = plots.activation(fnn.relu, -1.0, 1.0).axes[0]
    function, derivative = ax.lines
    assert function.get_ydata()[[0, -1]].tolist() == [0.0, 1.0]
    assert derivative.get_ydata()[[0, -1]].tolist() == [0.0, 1.0]
    assert derivative.get_ydata()[100] == 0.0


def test_confusion_counts_every_row_and_colours_mistakes_alone():
    figure = plots.confusion([0, 0, 1, 2, 2, 2], np.array([0, 1, 1, 2, 0, 0]), names=["a", "b", "c", "d"])
    ax, bar = figure.axes
    cells = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in ax.texts}
    assert cells == {(0, 0): "1", (0, 1): "1", (1, 1): "1", (2, 0): "2", (2, 2): "1"}
    assert (np.asarray(ax.images[0].get_array()).diagonal() == 0).all() and ax.images[0].get_array()[2, 0] == 2
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c", "d"]
    assert ax.get_xlabel() == "predicted class" and bar.get_ylabel()


@pytest.mark.parametrize(
    "targets, predicted, names, expected",
    [
        ([0, 1], [0], None, "expected as many class numbers predicted as targets"),
        ([0.0, 1.0], [0, 1], None, "targets: expected class numbers from 0, got float64"),
        ([0, 1], [0, -1], None, "predicted: expected class numbers from 0"),
        ([0, 1], [0, 2], ["a", "b"], "names: expected 3, one per class, got 2"),
    ],
)
def test_what_is_no_confusion_matrix_raises(targets, predicted, names, expected):
    with pytest.raises(ValueError, match=expected):
        plots.confusion(targets, predicted, names=names)
