"""Files that are truncated, flipped, or made to harm with a right check sum: one named error, short, soon, in little
memory. Each file has a number: `python -m tests.helpers.harmful_files KIND FOLDER NUMBER NUMBER+1` makes it again."""

import collections
import json
import os
import subprocess
import sys

import pytest

SAMPLE = {"checkpoint": 12}  # test_files has the damaged ones
LONG = {"damaged": 10_000, "run": 300, "checkpoint": 200}
SECONDS, BYTES = 5.0, 64 * 2**20


def read_in_a_process(kind, folder, count):
    """What came of each of so many files."""
    command = [sys.executable, "-m", "tests.helpers.harmful_files", kind, str(folder), "0", str(count)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(rows) == count, (len(rows), done.stderr[-2000:])
    return rows


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs /proc to measure memory")
@pytest.mark.parametrize(
    "kind, count", [*SAMPLE.items(), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in LONG.items())]
)
def test_a_file_that_is_not_right_is_named_soon_and_in_little_memory(kind, count, tmp_path):
    rows = read_in_a_process(kind, tmp_path, count)
    came = collections.Counter(row[2] for row in rows)
    print(
        f"{kind}: {dict(came)}, at most {max(row[4] for row in rows)} s, {max(row[5] for row in rows) >> 20} MiB more"
    )
    assert [row for row in rows if row[2] not in ("damaged", "read", "asked")] == []
    assert [row for row in rows if row[4] > SECONDS or row[5] > BYTES] == []
    # "read": changed where nothing of it matters, or to what may be; "asked": a right file of another run
    assert came["damaged"] == count if kind == "damaged" else came["damaged"] > 0.75 * count
