"""What holds of the code as a whole: who imports whom, what importing costs, what the README says."""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fnn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def modules_in_order():
    """The table of modules in the README, which is in the order in which they may import each other."""
    return re.findall(r"^\| `(\w+)` \|", README, re.M)


def test_the_table_of_modules_names_every_file():
    files = {path.stem for path in (ROOT / "fnn").glob("*.py")} - {"__init__"}
    assert sorted(modules_in_order()) == sorted(files)


def test_a_module_imports_only_from_those_above_it():
    order = modules_in_order()
    for i, name in enumerate(order):
        tree = ast.parse((ROOT / "fnn" / f"{name}.py").read_text())
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "fnn":
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fnn."):
                imported.add(node.module.split(".")[1])
        assert imported <= set(order[:i]), f"{name} imports from below: {imported - set(order[:i])}"


def test_no_module_has_the_name_of_a_function_it_exports():
    for name in modules_in_order():
        here = getattr(fnn, name, None)
        assert not callable(here), name


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


def test_public_names_have_docstrings():
    missing = [n for n in dir(fnn) if n[0] != "_" and not (getattr(getattr(fnn, n), "__doc__", None) or "").strip()]
    assert missing == []


def python_blocks():
    return re.findall(r"```python\n(.*?)```\n(?:[^`\n]*\n)*?```text\n(.*?)```", README, re.S)


@pytest.mark.parametrize("place", range(len(python_blocks())))
def test_the_programs_of_the_readme_print_what_it_says(place):
    program, output = python_blocks()[place]
    assert run(program).split() == output.split()
