"""The directive `fnn-names`: public names with their signatures and docstrings, as one uses them."""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from docstrings import as_rst, inline
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

DEFAULT_MODULE = "fnn"


class Names(SphinxDirective):
    """Entries of the reference, a name per line: `fnn.fit`, `fnn.losses.huber`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write each entry as reStructuredText, and read that."""
        found: list[nodes.Node] = []
        self.env.note_reread()  # docstrings may have changed, which Sphinx cannot see
        for name in filter(None, map(str.strip, self.content)):
            found += self.parse_text_to_nodes(entry(name), allow_section_headings=False)
        return found


def thing(name: str) -> Any:
    """What a public name stands for."""
    return functools.reduce(getattr, name.split(".")[1:], importlib.import_module(DEFAULT_MODULE))


def entry(name: str) -> str:
    """The entry of a name."""
    value = thing(name)
    if isinstance(value, ModuleType):
        return _directive("py:module", name, [], _without_modules(value.__doc__ or ""))
    if inspect.isclass(value):
        body = as_rst(value.__doc__ or "") + "\n" + _fields(value) + "\n" + _methods(name, value)
        kind = "py:exception" if issubclass(value, BaseException) else "py:class"
        return _directive(kind, name, _init_signature(value), body)
    body = as_rst(value.__doc__ or "")
    return _directive("py:function", name, [_signature(value)], body)


def _directive(kind: str, name: str, signature: list[str], body: str) -> str:
    if kind == "py:module":
        return f".. py:module:: {name}\n\n{body}\n\n.. py:currentmodule:: None\n"  # names that follow are whole
    head = f".. {kind}:: {name}{''.join(signature)}"
    return head + "\n\n" + textwrap.indent(body, "   ")


def _without_modules(docstring: str) -> str:
    """The docstring of a package without the list of its modules, which users do not import."""
    return as_rst(re.sub(r"(?ms)^- `\w+`: .*?(?=^\S(?<!-)|\Z)", "", docstring))


def _signature(value: Any) -> str:
    """Names, types and defaults of a function's arguments as its file writes them."""
    function = inspect.unwrap(value)
    if not inspect.isfunction(function):
        kind = type(value).__name__
        return "(outputs: Numbers, targets: Numbers) -> Array" if kind == "Loss" else "(x: ArrayLike) -> Array"
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    arguments = ast.unparse(tree.args)
    arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    returns = f" -> {ast.unparse(tree.returns)}" if tree.returns else ""
    return f"({arguments}){returns}"


def _init_signature(value: type) -> list[str]:
    own = vars(value).get("__init__")
    try:
        return [_signature(own)] if inspect.isfunction(own) else []
    except OSError:  # what a dataclass writes by itself
        return []


def _class_tree(value: type) -> tuple[ast.ClassDef, list[str]] | None:
    """A class as its file writes it. The file is sought, since public classes say that their module is `fnn`."""
    for source in _sources():
        if re.search(rf"^class {value.__name__}\b", source, re.M):
            tree = ast.parse(source)
            node = next(node for node in tree.body if getattr(node, "name", "") == value.__name__)
            return node, source.splitlines()
    return None


@functools.cache
def _sources() -> list[str]:
    folder = Path(importlib.import_module(DEFAULT_MODULE).__file__).parent
    return [path.read_text() for path in sorted(folder.rglob("*.py"))]


def _fields(value: type) -> str:
    """The fields of a record, with what its file says of each."""
    found = _class_tree(value)
    rows = []
    for node in found[0].body if found else []:
        if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):
            comment = re.search(r"  # (.*)$", found[1][node.end_lineno - 1])
            rows.append((node.target.id, ast.unparse(node.annotation), comment[1] if comment else ""))
    if not rows:
        return ""
    lines = [".. rubric:: Fields", ""]
    for field, kind, comment in rows:
        text = f" {comment[0].upper()}{comment[1:]}." if comment else ""
        lines += [f"``{field}`` : ``{kind}``", "  " + (inline(text).strip() or "\\ "), ""]
    return "\n".join(lines)


def _methods(name: str, value: type) -> str:
    """Public methods and properties that have a docstring of their own."""
    parts = []
    for method, function in vars(value).items():
        shown = method == "__call__" or not method.startswith("_")
        inner = function.fget if isinstance(function, property) else inspect.unwrap(function)
        if not shown or not inspect.isfunction(inner) or not inner.__doc__:
            continue
        if isinstance(function, property):
            parts.append(_directive("py:property", method, [], as_rst(inner.__doc__)))
        else:
            parts.append(_directive("py:method", method, [_signature(inner)], as_rst(inner.__doc__)))
    return "\n\n".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("fnn-names", Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
