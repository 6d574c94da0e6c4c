"""What an experiment returns, and how it is shown: a table on the terminal, one self-contained HTML page."""

import base64
import io
import platform
import re
from html import escape
from typing import Any, NamedTuple

import jax

PUBLISHED, IN_WORDS, OURS = "published", "published in words", "our check"


class Row(NamedTuple):
    """One thing claimed, and what came out."""

    quantity: str  # with its unit
    origin: str  # PUBLISHED, IN_WORDS or OURS
    claimed: str
    reproduced: str
    difference: str
    criterion: str  # when the row holds
    ok: bool


class Figure(NamedTuple):
    """A picture: the matplotlib figure, or printed tables, which the page shows as such; and what is to be seen."""

    name: str
    caption: str
    picture: Any


class Result(NamedTuple):
    """What an experiment's `main` returns; `numbers` are for the tests."""

    title: str
    question: str
    rows: list[Row]
    figures: list[Figure]
    notes: list[str]
    numbers: dict[str, Any]


class Done(NamedTuple):
    """An experiment that was run: its lab book, its result, how long it took."""

    name: str
    lab_book: str
    result: Result
    seconds: float


class Section(NamedTuple):
    """An experiment on the page: kept as a file beside it, so that the page has those that ran at another time too."""

    name: str
    title: str
    held: int  # rows
    rows: int
    seconds: float
    made_by: str
    html: str

    @property
    def verdict(self) -> str:
        """How many rows hold."""
        return f"{self.held} of {self.rows} rows hold."


# ---- rows, by the kind of criterion


def close(quantity: str, published: float, reproduced: float, tolerance: float = 2e-7, origin: str = PUBLISHED) -> Row:
    """A number that a document prints, to within a relative tolerance; the default is float32's printing."""
    off = reproduced - published
    ok = bool(abs(off) <= tolerance * abs(published))
    return Row(quantity, origin, _text(published), _text(reproduced), f"{off:+.2g}", f"± {tolerance:g} relative", ok)


def at_least(quantity: str, bound: float, reproduced: float, origin: str = OURS) -> Row:
    """A number that must not be below a bound."""
    claimed, off = f"≥ {_text(bound)}", f"{reproduced - bound:+.3g}"
    return Row(
        quantity, origin, claimed, _text(reproduced, 4), off, f"at least {_text(bound)}", bool(reproduced >= bound)
    )


def at_most(quantity: str, bound: float, reproduced: float, origin: str = OURS) -> Row:
    """A number that must not be above a bound."""
    claimed, off = f"≤ {_text(bound)}", f"{reproduced - bound:+.3g}"
    return Row(
        quantity, origin, claimed, _text(reproduced, 4), off, f"at most {_text(bound)}", bool(reproduced <= bound)
    )


def holds(quantity: str, claimed: str, found: str, criterion: str, ok: bool, origin: str = IN_WORDS) -> Row:
    """A claim in words."""
    return Row(quantity, origin, claimed, found, "", criterion, bool(ok))


def _text(value: float, digits: int = 8) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


# ---- the terminal


def verdict(rows: list[Row]) -> str:
    """How many rows hold."""
    return f"{sum(row.ok for row in rows)} of {len(rows)} rows hold."


def table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    head = ("quantity", "claimed", "reproduced", "difference", "")
    body = [(r.quantity, r.claimed, r.reproduced, r.difference, "ok" if r.ok else "NOT OK") for r in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in (head, *body)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


# ---- the page


def section(one: Done) -> Section:
    """What goes on the page about an experiment."""
    rows = one.result.rows
    made_by = f"Python {platform.python_version()}, JAX {jax.__version__}, on {jax.devices()[0].device_kind}"
    held = sum(row.ok for row in rows)
    return Section(one.name, one.result.title, held, len(rows), one.seconds, made_by, _section(one))


def page(sections: list[Section]) -> str:
    """One HTML page with everything in it: no other file, no network."""
    made_by = ", or ".join(dict.fromkeys(one.made_by for one in sections))
    verdict = f"{sum(one.held for one in sections)} of {sum(one.rows for one in sections)} rows hold."
    return f"""<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fnn: claimed and reproduced</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Claimed and reproduced</h1>
<p class="lead">What the documents behind <code>fnn</code> say, and what comes out when it is run.<br>
<strong>{verdict}</strong></p>
<p class="small">{escape(made_by)}. {sum(one.seconds for one in sections):.0f} seconds in all, compiling included.</p>
<nav aria-label="Experiments"><ol>{"".join(_entry(one) for one in sections)}</ol></nav>
</header>
<main>{"".join(one.html for one in sections)}</main>
</body>
</html>
"""


def _entry(one: Section) -> str:
    """One line of the index."""
    return (
        f'<li><a href="#{one.name}">{escape(one.title)}</a> '
        f'<span class="small">{one.verdict} {one.seconds:.1f} s</span></li>'
    )


def _section(one: Done) -> str:
    """One experiment."""
    result = one.result
    notes = "".join(f"<li>{_text_html(note)}</li>" for note in result.notes)
    return f"""
<section id="{one.name}">
<h2>{_text_html(result.title)}</h2>
<p class="question">{_text_html(result.question)}</p>
<p><strong>{verdict(result.rows)}</strong></p>
<div class="figures">{"".join(map(_figure, sorted(result.figures, key=_is_printed)))}</div>
{_rows(result.rows)}
<ul class="notes">{notes}</ul>
<details><summary>Lab book</summary><pre>{escape(one.lab_book.strip())}</pre></details>
<p class="small">Took {one.seconds:.1f} s. To run it alone: <code>python -m experiments {one.name}</code></p>
</section>"""


def _rows(rows: list[Row]) -> str:
    """The table of an experiment; a long one is folded, and has a difference only where a number is published."""
    differ = any(map(_says_difference, rows))
    names = ["Quantity", "Claimed", "Reproduced", *(["Difference"] if differ else []), "Holds if", ""]
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(_row(row, differ) for row in rows)
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<details><summary>All {len(rows)} rows</summary>{table}</details>" if len(rows) > LONG else table


def _says_difference(row: Row) -> bool:
    """Whether the difference is one from a number that was claimed, not from a bound."""
    return row.criterion.startswith("±")


def _row(row: Row, differ: bool) -> str:
    mark = '<td class="ok">✓ holds</td>' if row.ok else '<td class="wrong">✗ fails</td>'
    values = [row.claimed, row.reproduced] + ([row.difference if _says_difference(row) else ""] if differ else [])
    numbers = "".join(f'<td class="number">{_text_html(value)}</td>' for value in values)
    return (
        f'<tr><td>{_text_html(row.quantity)}<br><span class="small">{row.origin}</span></td>'
        f'{numbers}<td class="small">{_text_html(row.criterion)}</td>{mark}</tr>'
    )


def _text_html(text: str) -> str:
    """Text with what stands in backticks as code, and with numbers of at most eight digits."""
    text = re.sub(r"\d+\.\d{9,}(?![\de])", lambda number: f"{float(number[0]):.8g}", escape(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _is_printed(figure: Figure) -> bool:
    return isinstance(figure.picture, list)


def _figure(figure: Figure) -> str:
    """A picture within the page itself: as vectors at its own size, or as pixels where vectors would be too many."""
    caption = f"<strong>{_text_html(figure.name)}.</strong> {_text_html(figure.caption)}"
    if _is_printed(figure):
        shown = "wide-figure" if len(figure.picture) > 1 else "half-figure"
        tables = f'<div class="tables">{"".join(map(_printed, figure.picture))}</div>'
        return f'<figure class="{shown}">{tables}<figcaption>{caption}</figcaption></figure>'
    width = figure.picture.get_figwidth()
    data = _saved(figure.picture, "svg")
    kind, data = ("svg+xml", data) if len(data) < MOST_BYTES else ("png", _saved(figure.picture, "png"))
    return (
        f'<figure class="{"wide-figure" if width > HALF else "half-figure"}"><img alt="{escape(figure.name)}" '
        f'style="max-width: {1.3 * width:.2f}in" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _printed(text: str) -> str:
    """A printed table, its columns two spaces or more apart; lines that are no row of it stand above or below."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.strip(" -")]
    width = max(map(len, lines))
    above = [line[0] for line in lines[: next(i for i, line in enumerate(lines) if len(line) == width)]]
    head, *body = lines[len(above) :]
    rows = "".join(f"<tr>{_cells(row, width)}</tr>" for row in body)
    titles = "".join(f"<th>{_text_html(cell)}</th>" for cell in head)
    title = "".join(f"<p><strong>{_text_html(line)}</strong></p>" for line in above)
    table = f'<table class="printed"><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="wide">{title}{table}</div>'


def _cells(row: list[str], width: int) -> str:
    """The cells of a row; a line of one text spans all columns."""
    if len(row) == 1:
        return f'<td colspan="{width}">{_text_html(row[0])}</td>'
    return "".join(f"<td>{_text_html(cell)}</td>" for cell in row)


def _saved(picture: Any, kind: str) -> bytes:
    """The picture's file, with room for all that stands beside its axes."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format=kind, dpi=180, bbox_inches="tight")
    return buffer.getvalue()


HALF = 7  # inches: two narrower pictures stand beside each other
LONG = 12  # rows of a table that stand on the page unfolded
MOST_BYTES = 600_000  # of a picture as vectors

STYLE = """
:root { color-scheme: light dark;
  --ink: #22252a; --quiet: #6b7078; --line: #dddcd6; --paper: #fdfcf9; --good: #2e6b3d; --bad: #b03024; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3.5rem 1.5rem 5rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "Liberation Serif", serif; }
h1, h2 { font-weight: 600; line-height: 1.2; letter-spacing: -0.01em; }
h1 { font-size: 2.4rem; margin: 0 0 0.75rem; }
h2 { font-size: 1.65rem; margin: 0 0 0.75rem; }
p, li { max-width: 44rem; overflow-wrap: anywhere; }
a { color: inherit; text-decoration-color: var(--quiet); text-underline-offset: 0.18em; }
.lead { font-size: 1.2rem; margin: 0 0 0.5rem; }
.small { font-size: 0.85rem; color: var(--quiet); }
.question { font-size: 1.15rem; font-style: italic; margin: 0 0 1.5rem; }
nav ol { margin: 1.5rem 0 0; padding-left: 1.4rem; }
section { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font: 0.9rem/1.4 "Helvetica Neue", Arial, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); border-bottom: 2px solid var(--ink);
  white-space: nowrap; }
th, td { padding: 0.5rem 0.9rem 0.5rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); }
td:last-child, th:last-child { padding-right: 0; }
.number { font-weight: 500; }
.ok, .wrong { white-space: nowrap; font-weight: 600; }
.ok { color: var(--good); }
.wrong { color: var(--bad); }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; margin: 1.5rem 0; align-items: flex-start; }
figure { margin: 0; }
.half-figure { flex: 0 1 calc(50% - 1rem); min-width: min(22rem, 100%); }
.wide-figure { flex: 1 1 100%; min-width: 0; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; }
.printed { width: auto; }
img { display: block; width: 100%; height: auto; padding: 0.9rem; border: 1px solid var(--line);
  background: white; }
figcaption { font-size: 0.92rem; line-height: 1.5; margin-top: 0.6rem; }
code, pre { font-family: "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.82em; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); }
summary { cursor: pointer; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dcdcd6; --quiet: #9a9fa6; --line: #3a3d42; --paper: #17181b; --good: #7cc48c; --bad: #f0857a; }
}
"""
