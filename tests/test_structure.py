"""What holds of the code as a whole: who imports whom, what importing costs, what the README says."""

import ast
import doctest
import inspect
import pydoc
import re
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import pytest

import fnn
from fnn.arguments.constants import is_constant

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


PACKAGE = ROOT / "fnn"
PURE = [
    "types",
    "runs",
    "arguments",
    "factories",
    "kernels",
    "activations",
    "layers",
    "losses",
]
PURE += ["schedules", "penalties", "gradients", "optimizers", "training"]
HOST = ["devices", "data", "compilation", "inference", "storage", "fitting", "studies", "plots", "sklearn"]
ORDER = [*PURE, *HOST]
IMPURE = {"os", "time", "signal", "threading", "queue", "concurrent", "warnings", "pathlib", "sys", "logging"}
PUBLIC = {"losses", "metrics", "penalties", "schedules", "activations", "boxes", "plots", "optimizers"}
ON_USE = {"sklearn"}  # public as well, imported on use


def modules(package=PACKAGE):
    """Every module, and the entry of ORDER that it belongs to."""
    for path in sorted(package.rglob("*.py")):
        first = path.relative_to(package).parts[0].removesuffix(".py")
        if first != "__init__":
            yield path, first


def imports(text):
    """(module, names) of every import, late ones included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


def entries(module, names):
    """The entries of ORDER that an import reaches: `from fnn import a, b` reaches a and b."""
    parts = module.split(".")
    return [] if parts[0] != "fnn" else parts[1:2] or names


def upward(text, own):
    """The entries above its own that a module imports from."""
    reached = {entry for module, names in imports(text) for entry in entries(module, names)}
    return reached - set(ORDER[: ORDER.index(own) + 1])


def impure(text):
    """What a module of the pure half may not import."""
    return {module.split(".")[0] for module, _ in imports(text)} & IMPURE


def private(text):
    """Private names that a module takes from another."""
    return [n for module, names in imports(text) if module.startswith("fnn") for n in names if n[0] == "_"]


def test_a_package_imports_only_from_those_before_it():
    assert upward("from fnn.fitting.segments import Segment", "training") == {"fitting"}
    assert upward("from fnn import plots", "studies") == {"plots"} and not upward("import fnn.types", "kernels")
    above = {str(path.relative_to(ROOT)): upward(path.read_text(), own) for path, own in modules()}
    assert {path: names for path, names in above.items() if names} == {}


def test_the_pure_half_knows_no_clock_no_disk_no_screen():
    assert impure("def f():\n    import os.path\n    from time import sleep") == {"os", "time"}
    used = {str(path.relative_to(ROOT)): impure(path.read_text()) for path, own in modules() if own in PURE}
    assert {path: names for path, names in used.items() if names} == {}


def test_no_module_takes_a_private_name_from_another():
    assert private("from fnn.training.fused_loop import _step, trainer") == ["_step"]
    taken = {str(path.relative_to(ROOT)): private(path.read_text()) for path, _ in modules()}
    assert {path: names for path, names in taken.items() if names} == {}


def inner(text):
    """Modules of fnn that a text imports or names, other than the public ones."""
    found = {entry for module, names in imports(text) for entry in entries(module, names)}
    return {name for name in found if name in ORDER} - PUBLIC - ON_USE


# programs that look inside: file or folder -> packages
INNER = {
    "bench/jitted.py": {"compilation", "kernels"},
    "bench/segments.py": {"fitting"},
    "bench/stream.py": {"fitting", "training"},
    "experiments/derivatives": {"gradients", "kernels", "layers"},  # the proof of every inner derivative
}


def allowed(path):
    """The packages that a program may look into."""
    return INNER.get(path, set()) | INNER.get(str(Path(path).parent), set())


@pytest.mark.parametrize("folder", ["experiments", "bench", "docs"])
def test_experiments_and_benchmarks_use_public_names(folder):
    assert inner("from fnn.kernels.loops import kept_whole") == {"kernels"} and not inner("from fnn import plots")
    used = {str(path.relative_to(ROOT)): inner(path.read_text()) for path in sorted((ROOT / folder).rglob("*.py"))}
    assert {path: names for path, names in used.items() if names - allowed(path)} == {}


def listed_modules(text):
    """The modules that a package's docstring lists, in its order."""
    return re.findall(r"^- `(\w+)`", text, re.M)


def modules_of(package):
    """The modules and packages that lie in a package."""
    return {p.stem for p in package.glob("*.py")} - {"__init__"} | {
        p.parent.name for p in package.glob("*/__init__.py")
    }


def later(text, package, listed, own):
    """The modules of its own package that a module imports and that are not listed before it."""
    reached = set()
    for module, names in imports(text):
        if module == package:
            reached |= set(names) & set(listed)
        elif module.startswith(package + "."):
            reached.add(module.removeprefix(package + ".").split(".")[0])
    return reached - set(listed[: listed.index(own) + 1])


def test_modules_import_only_from_those_before_them_in_their_package():
    listed = listed_modules('"""A package.\n\n- `one`: first\n- `two`: second, with\n  `a name`\n- `three`: last\n"""')
    assert listed == ["one", "two", "three"]
    for planted in (
        "from fnn.layers.three import thing",
        "from fnn.layers import one, three",
        "import fnn.layers.three.inner",
        "def f():\n    from fnn.layers.three import thing",
    ):
        assert later(planted, "fnn.layers", listed, "two") == {"three"}, planted
    assert later("from fnn.layers import unlisted\nfrom fnn.layers.new import f", "fnn.layers", listed, "two") == {
        "new"
    }
    assert not later("from fnn.layers.one import f\nfrom fnn.layers2.three import f", "fnn.layers", listed, "two")
    assert not later("import fnn.layers.two.inner\nfrom fnn.data.three import f", "fnn.layers", listed, "two")
    for package in sorted({path.parent for path, _ in modules()} - {PACKAGE}):
        name = ".".join(package.relative_to(ROOT).parts)
        listed = listed_modules((package / "__init__.py").read_text())
        assert sorted(listed) == sorted(modules_of(package)), name
        for path in sorted(package.rglob("*.py")):
            own = path.relative_to(package).parts[0].removesuffix(".py")
            if own != "__init__":
                assert later(path.read_text(), name, listed, own) == set(), path


def test_the_folders_are_small():
    shown = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert len(shown) <= 24, shown
    for folder in {path.parent for path, _ in modules()} - {PACKAGE}:
        assert len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) <= 10, folder
    for path, _ in modules():
        assert len(path.read_text().splitlines()) <= 380, path


def annotations(text):
    """Every annotation of a parameter or of what a function returns, methods and nested functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            a = node.args
            parameters = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
            found = [*(parameter.annotation for parameter in parameters), node.returns]
            yield from (ast.unparse(annotation) for annotation in found if annotation is not None)


def test_annotations_say_what_is_wanted():
    text = "def f(a: Any, b: int = 0, *c: Any, d, **e: list[Any]) -> None:\n    def g(x: str) -> Any: ..."
    assert sorted(annotations(text)) == ["Any", "Any", "Any", "None", "int", "list[Any]", "str"]
    found = [a for path in PACKAGE.rglob("*.py") for a in annotations(path.read_text())]
    assert len(found) > 3000 and found.count("Any") / len(found) < 0.08


def body_lines(function):
    """Lines of a function's body, its docstring apart."""
    body = function.body
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(getattr(first, "value", None), ast.Constant)
    body = body[1:] if documented else body
    return function.end_lineno - body[0].lineno + 1 if body else 0


FACTORIES = {"_weigh_classes", "parallel", "joint", "masked"}  # of closures, each of which is short


def test_functions_fit_on_a_screen():
    long = {}
    for path, _ in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name not in FACTORIES and body_lines(node) > 40:
                long[f"{path.relative_to(ROOT)} {node.name}"] = body_lines(node)
    assert long == {}


def run(code):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_runs_no_jax_operation():
    assert (
        run(
            """
        import jax
        events = []
        jax.monitoring.register_event_duration_secs_listener(lambda event, duration, **more: events.append(event))
        import fnn
        from jax._src import xla_bridge
        print(xla_bridge.backends_are_initialized(), events)
        """
        )
        == "False []"
    )


def test_importing_needs_only_the_run_time_dependencies():
    loaded = run(
        "import fnn, sys; print([m for m in ('matplotlib', 'tqdm', 'sklearn', 'scipy.stats') if m in sys.modules])"
    )
    assert loaded == "[]"


def test_dir_and_help_show_the_names_that_a_user_calls():
    assert dir(fnn) == sorted(fnn.__all__) and len(set(fnn.__all__)) == len(fnn.__all__)
    present = {name for name in vars(fnn) if name[0] != "_"}
    assert set(fnn.__all__) == present - (set(ORDER) - PUBLIC), "a public name is missing from __all__"
    assert set(dir(fnn)) >= PUBLIC and not {"fitting", "types"} & set(dir(fnn)) and fnn.fitting and fnn.types
    shown = pydoc.plain(pydoc.render_doc(fnn)).partition("CLASSES")[2]  # what is before lists the folder
    assert "fit(net" in shown and "DATA" in shown and "host_loop" not in shown


def test_what_functions_return_has_a_public_name():
    returned = "Sweep CrossValidation Ensemble GradientCheck Complexity Standardiser NotAnalytic Run History Stream"
    for name in returned.split():
        assert isinstance(getattr(fnn, name), type), name


def test_public_classes_say_that_they_are_fnns():
    classes = [thing for name in fnn.__all__ if isinstance(thing := getattr(fnn, name), type)]
    assert len(classes) > 20 and {cls.__module__ for cls in classes} == {"fnn"}
    assert all(getattr(fnn, cls.__name__) is cls for cls in classes)
    text = "".join(traceback.format_exception_only(fnn.ShapeError("here")))
    assert text == "fnn.ShapeError: here\n"
    assert is_constant(fnn.Layer) and is_constant(fnn.serial(fnn.dense(3), fnn.relu))
    assert "def dense" in inspect.getsource(fnn.dense)


def test_doctests_of_public_classes_are_found():
    found = {test.name for test in doctest.DocTestFinder().find(fnn) if test.examples}
    assert {"fnn.Layer", "fnn.History.to_csv"} <= found


def test_public_names_have_docstrings():
    missing = [n for n in dir(fnn) if n[0] != "_" and not (getattr(getattr(fnn, n), "__doc__", None) or "").strip()]
    assert missing == []


def python_blocks():
    return re.findall(r"```python\n(.*?)```\n(?:[^`\n]*\n)*?```text\n(.*?)```", README, re.S)


@pytest.mark.parametrize("place", range(len(python_blocks())))
def test_the_programs_of_the_readme_print_what_it_says(place):
    program, output = python_blocks()[place]
    assert run(program).split() == output.split()
