"""Docstrings of `fnn` as reStructuredText: formulas typeset, arguments as lists, programs as they are."""

import inspect
import re

from formulas import as_latex, is_formula

try:
    from mathml import is_written
except ImportError:  # without Sphinx, in the tests of formulas

    def is_written(latex: str) -> bool:
        """Take any formula."""
        return True


SPAN = re.compile(r"`([^`]+)`")


def as_rst(docstring: str) -> str:
    """The text of a docstring, its sections as definition lists."""
    lines = inspect.cleandoc(docstring).splitlines()
    out: list[str] = []
    while lines:
        head = re.fullmatch(r"(Args|Returns|Raises|Warns|Yields|Attributes):", lines[0])
        if lines[0].startswith(">>> "):
            program, lines = _until_blank(lines)
            out += [".. code-block:: pycon", "", *_indented(program), ""]
        elif lines[0] == "Example::":
            program, lines = _indented_part(lines[1:])
            out += [".. code-block:: python", "", *_indented(program), ""]
        elif head:
            body, lines = _indented_part(lines[1:])
            out += [
                f".. rubric:: {'Arguments' if head[1] == 'Args' else head[1]}",
                "",
                *(_returns(body) if head[1] == "Returns" else _list(body)),
                "",
            ]
        else:
            text, lines = _until_special(lines)
            out += [*_text(text), ""]
    return "\n".join(out)


def inline(text: str) -> str:
    """A text in which what stands in backticks is a formula, a link to a public name, or code."""
    parts = SPAN.split(text)
    return "".join(_span(part) if i % 2 else _escape(part) for i, part in enumerate(parts))


def _span(content: str) -> str:
    content = " ".join(content.split())
    if is_formula(content) and is_written(as_latex(content)):
        return rf"\ :math:`{as_latex(content)}`\ "
    return rf"\ ``{content}``\ " if not content.startswith(" ") else content


def _escape(text: str) -> str:
    text = re.sub(r"([*|\\])", r"\\\1", text)
    text = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", text)
    text = re.sub(r"doi:(10\.\S+?)(?=[.,;:)]*(\s|$))", r"`doi:\1 <https://doi.org/\1>`__", text)
    return re.sub(r"arXiv:(\d+\.\d+)", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)


def _text(lines: list[str]) -> list[str]:
    text = re.sub(r"(?m)^((?!- |  ).+)\n(?=- )", r"\1\n\n", "\n".join(lines))  # a list needs an empty line before it
    return inline(text).splitlines()


def _indented(lines: list[str], by: int = 3) -> list[str]:
    return [" " * by + line if line else "" for line in lines]


def _until_blank(lines: list[str]) -> tuple[list[str], list[str]]:
    end = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
    return lines[:end], lines[end:]


def _until_special(lines: list[str]) -> tuple[list[str], list[str]]:
    """Lines up to a section or a program."""
    special = re.compile(r"(Args|Returns|Raises|Warns|Yields|Attributes):$|>>> |Example::$")
    end = next((i for i, line in enumerate(lines) if i and special.match(line)), len(lines))
    return lines[:end], lines[end:]


def _indented_part(lines: list[str]) -> tuple[list[str], list[str]]:
    end = next((i for i, line in enumerate(lines) if line.strip() and line[0] != " "), len(lines))
    return inspect.cleandoc("\n" + "\n".join(lines[:end])).splitlines(), lines[end:]


def _list(lines: list[str]) -> list[str]:
    """Entries `names: text` as a definition list; a name may be followed by others, `x, t: ...; weight: ...`."""
    out: list[str] = []
    for line in lines:
        entry = re.match(r"([\w*]+(?:, [\w*]+)*): (.*)", line)
        if entry:
            names = ", ".join(f"``{name}``" for name in entry[1].split(", "))
            out += ["\0" + names, "\1" + entry[2]]
        else:
            out.append("\1" + line.strip())
    text = "\n".join(out)
    rst: list[str] = []
    for part in text.split("\0"):
        head, _, body = part.partition("\n")
        body = "\n".join(line.removeprefix("\1") for line in body.splitlines())
        if head.startswith("\1") or not body:
            rst += [*_text([(head + "\n" + body).replace("\1", "").strip()]), ""]
        else:
            rst += [head, *_indented(_text(body.splitlines())), ""]
    return rst


def _returns(lines: list[str]) -> list[str]:
    return _text(lines)
