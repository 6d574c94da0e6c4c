"""What is known of a table in a file of JSON: whole or absent, with a check sum, and nothing in it is run."""

import hashlib
import json
from typing import Any

from fnn.data import checks
from fnn.devices.atomic import write_whole
from fnn.types import PathLike

FORMAT = "fnn table 1"


def write_table(path: PathLike, about: dict[str, Any]) -> None:
    """Write it at one stroke."""
    text = json.dumps(about, allow_nan=False)
    whole = {"format": FORMAT, "check_sum": _check_sum(text), "table": about}
    write_whole(checks.path("path", path), [json.dumps(whole, allow_nan=False).encode()])


def read_table(path: PathLike) -> dict[str, Any]:
    """What was written; a ValueError where anything of it has changed."""
    path = checks.path("path", path)
    with open(path, "rb") as file:
        text = file.read()
    try:
        whole = json.loads(text)
        about: dict[str, Any] = whole["table"]
        if whole["format"] != FORMAT or whole["check_sum"] != _check_sum(json.dumps(about)):
            raise ValueError("another check sum")
    except (ValueError, KeyError, TypeError, RecursionError):
        wanted = "a file that Table.save wrote, as it was written"
        raise ValueError(f"{path}: expected {wanted}, got another or a damaged one. Save it again.") from None
    return about


def _check_sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
