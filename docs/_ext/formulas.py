"""Formulas as docstrings write them, `dw = xᵀ dy`, told from code and turned into LaTeX."""

import re
import unicodedata

FUNCTIONS = {"max", "min", "log", "exp", "clip", "sign", "sigmoid", "softmax", "tanh", "cosh", "cos", "sqrt", "atan"}
FUNCTIONS |= {"mean", "soft", "elu"}
SIGNS = {
    "Σ": r"\sum ", "∂": r"\partial ", "≠": r"\neq ", "<=": r"\le ", ">=": r"\ge ", "·": r"\cdot ", "×": r"\times ",
    "…": r"\ldots ", "←": r"\leftarrow ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "½": r"\frac{1}{2}", "∞": r"\infty ", "∘": r"\circ ", "‖": r"\Vert ", "{": r"\{", "}": r"\}", "∈": r"\in ",
}  # fmt: skip
RAISED = {"²": "2", "³": "3", "ᵀ": r"\mathsf{T}", "⁺": "+"}
LOWERED = {"ₙ": "n", "₁": "1", "₂": "2", "ᵢ": "i", "ₖ": "k"}
GREEK = re.compile("[α-ωΑ-ΡΤ-Ω]")  # all but Σ, which is a sum
MATHEMATICAL = re.compile("[Σ½²³¹ᵀ√∂⁺≠×⌈⌊‖←·α-ωΑ-Ω∘ₙ₁₂]|\u0302")
CODE = re.compile(r"""["?*]|fnn/|->|\bfnn\.|\bjax\.|\bnp\.|\blambda\b|\bTrue\b|\(batch|\.\w|\w=\w|\.\.\.|^\w+$|^\W+$""")
LONG_NAME = re.compile(r"\b[A-Za-z]\w+_\w{3,}\b|\b\w{2,}_\w\w+_\w+\b")
PLAIN = re.compile(r"^[-\w ()+*/=|<>,^'\[\]{}]+$")
OPERATOR = re.compile(r" [-+*/=] |[\^|/]|^-\w|\d-\w")
SPACED = set("=+-/<>·×,Σ←")  # have room around them in any case
TOKEN = re.compile(
    "(?P<sum>Σ_|max_|min_)|(?P<differential>d(?:scale|offset|[a-zA-Zθρ])(?![a-zA-Z]))|(?P<word>[A-Za-z]+)"
    "|(?P<number>[0-9]+(?:[.][0-9]+)?)|(?P<hat>\u0302)|(?P<sign><=|>=|.)"
)


def is_formula(text: str) -> bool:
    """Whether what stands in backticks is a formula, not code."""
    if CODE.search(text) and not re.fullmatch("[α-ωΑ-Ω]", text):
        return False
    if MATHEMATICAL.search(text):
        return not LONG_NAME.search(text)
    calls = set(re.findall(r"\b([A-Za-z]{3,})\(", text))
    if not calls <= FUNCTIONS or LONG_NAME.search(text) or not PLAIN.match(text):
        return False
    return bool(OPERATOR.search(text)) or bool(calls)


def as_latex(text: str) -> str:
    """The LaTeX of a formula."""
    text = unicodedata.normalize("NFC", " ".join(text.split())).replace("⁻¹", "^(-1)")
    pieces, at = [], 0
    while at < len(text):
        if text[at] == " ":
            beside = text[max(at - 1, 0)] + text[at + 1 : at + 2]
            pieces.append("" if set(beside) & SPACED else r"\,")
            at += 1
            continue
        piece, at = _piece(text, at)
        pieces.append(piece)
    return "".join(pieces).strip()


def _piece(text: str, at: int) -> tuple[str, int]:
    """The LaTeX of what begins at a place, and where the next begins."""
    token = TOKEN.match(text, at)
    found, end = token.group(), token.end()
    if token["sum"]:
        lower, end = _script(text, end)
        end += text[end : end + 1] == " "
        return {"Σ_": r"\sum", "max_": r"\max", "min_": r"\min"}[found] + "_{" + lower + "} ", end
    if text[end : end + 1] == "\u0302":
        return r"\hat{" + found + "}", end + 1
    if found in ("√", "sqrt") and text[end : end + 1] == "(":
        inner, end = _bracketed(text, end)
        return r"\sqrt{" + as_latex(inner) + "}", end
    if found == "√" and text[end:].strip():  # of the next thing
        inner, end = _piece(text, end + (text[end] == " "))
        return r"\sqrt{" + inner + "}", end
    if found in "_^" and end < len(text):
        script, end = _script(text, end)
        return found + "{" + script + "}", end
    name = _name(token)
    if name and text[end : end + 1] == "[" and len(found) <= 2:  # x[n, i]: an index
        inner, end = _bracketed(text, end)
        return name + "_{" + as_latex(inner) + "}", end
    return (name or _sign(found)), end


def _name(token: re.Match[str]) -> str:
    found = token.group()
    if token["differential"]:
        return r"\mathrm{d}" + (found[1:] if len(found) == 2 else r"\mathrm{" + found[1:] + "}")
    if not token["word"]:
        return found if GREEK.match(found) else ""
    if found in FUNCTIONS:
        return r"\operatorname{" + found + "}"
    return found if len(found) == 1 else r"\mathrm{" + found + "}"


def _sign(found: str) -> str:
    if found in RAISED:
        return "^{" + RAISED[found] + "}"
    if found in LOWERED:
        return "_{" + LOWERED[found] + "}"
    if found == "'":
        return "^{\\prime}"
    return SIGNS.get(found, found)


def _script(text: str, at: int) -> tuple[str, int]:
    """What stands after `_` or `^`: in braces or parentheses, or a sign and one name with its own index."""
    if text[at] in "{(":
        inner, end = _bracketed(text, at)
        return as_latex(inner), end
    found = re.compile("-?(?:[0-9]+|[A-Za-z]+|.)(?:_[A-Za-z])?").match(text, at)
    word = found.group()
    if word.isalpha() and len(word) == 2:  # two indices
        return word, found.end()
    return (r"\text{" + word + "}" if len(word) > 2 and word.isalpha() else as_latex(word)), found.end()


def _bracketed(text: str, at: int) -> tuple[str, int]:
    """What stands between the bracket at a place and the one that closes it, and where the next begins."""
    closing, depth = {"(": ")", "[": "]", "{": "}"}[text[at]], 0
    for end in range(at, len(text)):
        depth += (text[end] == text[at]) - (text[end] == closing)
        if depth == 0:
            return text[at + 1 : end], end + 1
    raise ValueError(f"formula: expected {closing} in {text}, got none. Close the bracket.")
