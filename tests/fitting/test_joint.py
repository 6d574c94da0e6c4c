"""One run in several processes: the same bits as on several devices of one; what is refused, what a fault leads to."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.helpers.joint_faults import disturb, ends, meet, start, undisturbed
from tests.helpers.several_devices import CASES

EPOCHS, LONG = 400, 3000


def processes(count, *names, devices=False, x64=True):
    """What the program prints in each of so many processes, or in one with so many devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_ENABLE_X64": str(int(x64)), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.helpers.joint_processes"]
    words = [[str(index), str(count), str(port), *names] for index in ([-1] if devices else range(count))]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    found = ends([subprocess.Popen([*command, *of], **options) for of in words], 1200)
    assert [status for status, _, _ in found] == [0] * len(words), found
    return [json.loads(line) for _, line, _ in found]


@pytest.mark.slow
def test_two_processes_train_as_one_device_does():
    one, other = processes(2, "uneven by backprop")
    assert one == other and one["uneven by backprop"][1] == {}


@pytest.mark.slow
@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_have_the_bits_of_each_other_and_two_have_those_of_two_devices(count, x64):
    """More than two have not: gloo adds up in a ring, each part of an array from another process on."""
    first, *others = processes(count, *CASES, x64=x64)
    assert all(of == first for of in others)
    assert {name: wrong for name, (_, wrong) in first.items() if wrong} == {}
    (devices,) = processes(count, *CASES, devices=True, x64=x64)
    assert {n: (of, first[n]) for n, of in devices.items() if count == 2 and of != first[n]} == {}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_read_their_own_rows_train_on_all_of_them(count):
    found = processes(count, "own rows")
    assert all(of == found[0] for of in found) and found[0]["own rows"][1] < 1e-12


@pytest.mark.slow
def test_a_state_that_is_split_is_kept_in_a_file_per_process_and_goes_on_on_other_numbers_of_them(tmp_path):
    folder = tmp_path / "run"
    found = processes(2, f"split={folder}")  # asserts that the bits are those of a run without a stop
    assert max(away for of in found for _, away in of.values()) < 1e-12
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:7] for name in names] == ["checkpo", "checkpo", *["pieces-"] * 4]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert max(sizes[name] for name in names[:2]) < 0.5 * min(sizes[name] for name in names[2:]) + 20_000
    for count, devices in ((4, False), (4, True), (1, True)):
        copy = shutil.copytree(f"{folder}-first", tmp_path / f"{count}{devices}")
        for of in processes(count, f"rest={copy}", devices=devices):
            assert max(away for _, away in of.values()) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data", "train t: expected"),
        ("network", "net: expected"),
        ("settings", "optimizer"),
        ("version", "versions: expected"),
    ],
)
def test_what_differs_on_one_process_is_refused_by_name_on_all(change, words):
    for status, line, error in ends(start(2, "", EPOCHS, {1: change})):
        assert status != 0 and line == "" and "expected the same run on all 2 processes" in error and words in error


@pytest.mark.slow
@pytest.mark.parametrize("change", ["stream of fewer rows", "stream of others"])
def test_streams_that_differ_are_refused_on_all(change):
    for status, line, error in ends(start(2, "", 20, {0: "stream", 1: change})):
        assert status == 1, (line, error)
        assert "data: expected a stream of the same rows on all 2 processes, got others on process 1 than on 0" in error
    assert {status for status, _, _ in ends(start(2, "", 20, {0: "stream", 1: "stream"}))} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_that_waits_for_one_that_has_not_come(index, number):
    waiting, late = start(2, "", 20, {index: "early", 1 - index: "late"})[:: 1 if index == 0 else -1]
    assert waiting.stdout.readline() == "waits\n"
    time.sleep(3)  # until it waits; a signal that comes before that ends it too
    waiting.send_signal(number)
    ((status, _, error),) = ends([waiting], 60)
    late.kill()
    late.communicate()
    assert status == -signal.SIGTERM if number == signal.SIGTERM else "KeyboardInterrupt" in error, (status, error)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_an_error_of_one_process_ends_the_others_and_none_by_an_abort(index):
    found = ends(start(2, "", 20, {index: "bad"}))
    assert {status for status, _, _ in found} <= {1, 75}
    assert "ValueError: data[1]: expected finite" in found[index][2]
    other = found[1 - index]
    assert other[0] == 75 and f"process {index} of 2 has ended with ValueError: data[1]: expected finite" in other[2]


@pytest.mark.slow
def test_a_second_run_in_a_folder_is_refused_on_all_its_processes(monkeypatch):
    monkeypatch.setenv("HOLD", "")  # as before, after the test
    wholes = undisturbed(2, 60)
    for seed in range(2):  # the second one is of states in pieces
        found = meet(2, 60, seed, wholes)
        first = found["whole"].index(True)  # whichever came first to the folder
        assert found["whole"] == [first == 0, first == 1] and found["refused"] == [first == 1, first == 0], found
        assert found["status"][first] == [0, 0] and found["status"][1 - first] == [1, 1], found
        assert found["epochs"] == 60 and not found["damaged"] and not found["others"], found


@pytest.mark.slow
def test_a_process_that_is_slow_is_waited_for():
    found = ends(start(2, "", 4, {0: "slow", 1: "slow"}))
    assert [status for status, _, _ in found] == [0, 0] and found[0][1] == found[1][1]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2])
def test_others_end_in_time_with_a_word_and_a_restart_has_the_bits_of_an_undisturbed_run(count):
    (status, whole, error), *_ = ends(start(count, "", LONG))
    assert status == 0, error
    for seed in range(6):
        found = disturb(count, LONG, seed, whole)
        ended = {-signal.SIGTERM} if found["signal"] == "SIGTERM" else {75}
        assert set(found["status"]) == ended and found["seconds"] < 25 and found["same"], found
        named = "got SIGTERM" if found["signal"] == "SIGTERM" else f"process {found['victim']} of {count}"
        assert all(named in line for line in found["said"]), found
