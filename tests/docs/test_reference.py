"""The reference of the site has every public name once; formulas in docstrings are told from code, and typeset."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fnn

DOCS = Path(__file__).parent.parent.parent / "docs"
sys.path.append(str(DOCS / "_ext"))

import docstrings  # noqa: E402
import formulas  # noqa: E402

PAGES = {path.stem: path.read_text() for path in sorted((DOCS / "reference").glob("*.rst"))}
LISTED = [name for text in PAGES.values() for name in re.findall(r"^ {3}(fnn[\w.]*)$", text, re.M)]
MODULES = ["losses", "metrics", "penalties", "optimizers", "schedules", "activations", "boxes", "plots"]
# what modules hand on that is no function or type for users
APART = {"schedules.as_schedule", "schedules.Schedule", "penalties.check_proximal", "penalties.Mask"}
# explained by their fields: results and errors, which one does not make oneself
WITHOUT_EXAMPLE = {
    "Rows", "Part", "Data", "Run", "History", "Progress", "TrainState", "Trainer", "Complexity", "Standardiser",
    "SumMetric", "RowMetric",
    "Loss", "Penalty", "Activation", "GradientCheck", "Stream", "Sweep", "CrossValidation", "Ensemble", "Laplace",
    "ShapeError",
    "NotAnalytic", "DamagedFile", "TrainingDiverged", "TrainingInterrupted", "penalties.Mask",
}  # fmt: skip


def public_names():
    """The names of `fnn`, and what its modules for users define besides, each object once."""
    names = [*fnn.__all__, *(f"sklearn.Fnn{kind}" for kind in ("Classifier", "Regressor", "SearchCV")), "sklearn"]
    seen = {id(getattr(fnn, name)) for name in fnn.__all__}
    for module in MODULES:
        for name, value in vars(getattr(fnn, module)).items():
            own = getattr(value, "__module__", "")
            places = (f"fnn.{module}", f"fnn.losses.{module}", f"fnn.inference.{module}")
            inside = own.startswith(places) or type(value) is fnn.Loss
            if name[0] != "_" and inside and callable(value) and id(value) not in seen:
                seen.add(id(value))
                names.append(f"{module}.{name}")
    return sorted(set(names) - APART)


def value_of(name):
    value = fnn
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_the_reference_has_every_public_name_once():
    pytest.importorskip("sklearn")
    assert sorted(name.removeprefix("fnn.") for name in LISTED) == public_names()


@pytest.mark.parametrize("name", sorted(name.removeprefix("fnn.") for name in LISTED))
def test_an_entry_says_what_it_takes_and_shows_how(name):
    pytest.importorskip("sklearn") if name.startswith("sklearn") else None
    value = value_of(name)
    if isinstance(value, ModuleType):
        return
    assert value.__doc__ and value.__doc__.strip()
    assert bool(re.search(">>> |Example::", value.__doc__)) == (name not in WITHOUT_EXAMPLE)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("dw = xᵀ dy", r"\mathrm{d}w=x^{\mathsf{T}}\,\mathrm{d}y"),
        ("½ Σ_k (y_k - t_k)²", r"\frac{1}{2}\sum_{k} (y_{k}-t_{k})^{2}"),
        ("db = Σ_rows dy", r"\mathrm{d}b=\sum_{\text{rows}} \mathrm{d}y"),
        ("b[o] + x[n, i s]", r"b_{o}+x_{n,i\,s}"),
        ("r = 1/√(var + eps)", r"r=1/\sqrt{\mathrm{var}+\mathrm{eps}}"),
        ("1/(2 √samples)", r"1/(2\,\sqrt{\mathrm{samples}})"),
        ("P⁻¹ J", r"P^{-1}\,J"),
        ("f'(x)/e^-x", r"f^{\prime}(x)/e^{-x}"),
        ("dscale = Σ dy x̂", r"\mathrm{d}\mathrm{scale}=\sum \mathrm{d}y\,\hat{x}"),
    ],
)
def test_formulas_become_latex(text, latex):
    assert formulas.is_formula(text)
    assert formulas.as_latex(text) == latex


CODE = ["x", "fnn.fit", "(batch, features)", 'on_nan="raise"', "net, run = load(path)", "keep", "*layers", "fan_in=3"]
CODE += ["run.best - 1", "f(rate=1) - 1"]


@pytest.mark.parametrize("text", CODE)
def test_code_is_no_formula(text):
    assert not formulas.is_formula(text)


def test_a_docstring_becomes_lists_and_programs():
    text = docstrings.as_rst("Do `y = a x`.\n\n    Args:\n        a, b: a `number`.\n\n    >>> 1\n    1\n")
    parts = [r"Do \ :math:`y=a\,x`\ .", ".. rubric:: Arguments", "``a``, ``b``\n   a \\ ``number``\\ ."]
    assert re.sub("\n{3,}", "\n\n", text).strip().split("\n\n") == [
        *parts,
        ".. code-block:: pycon",
        "   >>> 1\n   1",
    ]
