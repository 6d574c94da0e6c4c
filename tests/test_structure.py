"""What holds of the code as a whole: who imports whom, what importing costs, what the README says."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fnn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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
