"""The words of the library: how messages give a hint, how sources are cited, how functions are named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted((ROOT / "fnn").rglob("*.py"))}
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef)


def words(text):
    return set(text.split())


# participles that do not end in ed or en, and are no verbs or nouns as well (put, cut, read, left)
IRREGULAR = words("made kept found told held begun gone done built sent lent spent met lost drawn shown known grown")
IRREGULAR |= words("thrown torn worn born sought bought brought taught caught thought meant felt dealt")
# words that end in ed or en and are no participles
NO_PARTICIPLE = words(
    "seed need feed speed embed exceed proceed flatten widen shorten token open children when len linen"
)
PREPOSITIONS = {"by", "of", "with", "from", "for", "in", "to"}
# verbs that a participle may stand behind: `warn_if_interrupted`, `is_lost`
VERBS = {"is", "warn", "stop", "bind", "read", "split", "flatten", "unflatten", "check"}
PUBLIC = {"smoothed", "masked", "fully_sharded", "class_weighted", "memory_mapped", "sorted"}  # they stay
# packages that are still to be gone through, and what they call elsewhere


def strings(tree):
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def docstrings(tree):
    return [text for node in ast.walk(tree) if isinstance(node, WITH_DOCSTRING) and (text := ast.get_docstring(node))]


def functions(tree):
    """Names of all functions, methods and closures."""
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def is_participle(name):
    """Whether a name is a participle (`given`), one with its agent (`made_by`), or ends in one (`row_kept`).

    Before a noun it is an adjective of what comes back: `weighted_sum`, `padded_rows`.
    """
    parts = name.strip("_").split("_")
    first, last = parts[0], parts[-1]
    if name in PUBLIC or first in VERBS:
        return False
    return _is_one(last) or (_is_one(first) and parts[1] in PREPOSITIONS)


def _is_one(word):
    return word not in NO_PARTICIPLE and (word in IRREGULAR or word.endswith(("ed", "en")))


def wrong(texts_of, test):
    found = {path: [text for text in texts_of(tree) if test(text)] for path, tree in MODULES.items()}
    return {path: texts for path, texts in found.items() if texts}


def test_hints_are_plain_imperatives():
    assert strings(ast.parse("raise E(f'x: got {x}. Do pass y.')")) == ["x: got ", ". Do pass y."]
    assert wrong(strings, lambda text: re.search(r"(^|\W)Do [a-z]", text)) == {}


def test_docstrings_cite_source_documents_in_words():
    assert docstrings(ast.parse('def f():\n    """As D3 has it."""')) == ["As D3 has it."]
    assert wrong(docstrings, lambda text: re.search(r"\bD[0-4]\b", text)) == {}


@pytest.mark.parametrize("name", ["made", "_given", "built_from", "_checked", "row_kept", "nan_found", "frozen"])
def test_a_participle_is_told_from_other_words(name):
    assert is_participle(name)
    others = ["make", "_seed", "flatten", "open_stream", "class_weighted", "_padded_rows", "children", "warn_if_found"]
    assert [word for word in others if is_participle(word)] == []


def test_no_function_is_named_by_a_participle():
    assert functions(ast.parse("def f():\n    def made():\n        pass")) == ["f", "made"]
    assert wrong(functions, is_participle) == {}
