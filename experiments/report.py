"""What an experiment returns, and how it is shown: a table on the terminal, one self-contained HTML page."""

import base64
import io
import platform
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
    """A picture: the matplotlib figure, and what is to be seen in it."""

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
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return f"""
<section id="{one.name}">
<h2>{escape(result.title)}</h2>
<p class="question">{escape(result.question)}</p>
{_rows(result.rows)}
<div class="figures">{"".join(_figure(figure) for figure in result.figures)}</div>
<ul class="notes">{notes}</ul>
<details><summary>Lab book</summary><pre>{escape(one.lab_book.strip())}</pre></details>
<p class="small">Took {one.seconds:.1f} s. To run it alone: <code>python -m experiments {one.name}</code></p>
</section>"""


def _rows(rows: list[Row]) -> str:
    """The table of an experiment."""
    head = "".join(f"<th>{name}</th>" for name in ("Quantity", "Claimed", "Reproduced", "Difference", "Holds if", ""))
    body = "".join(map(_row, rows))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(row: Row) -> str:
    mark = '<td class="ok">✓ holds</td>' if row.ok else '<td class="wrong">✗ fails</td>'
    numbers = "".join(f'<td class="number">{escape(v)}</td>' for v in (row.claimed, row.reproduced, row.difference))
    return (
        f'<tr><td>{escape(row.quantity)}<br><span class="small">{row.origin}</span></td>'
        f'{numbers}<td class="small">{escape(row.criterion)}</td>{mark}</tr>'
    )


def _figure(figure: Figure) -> str:
    """A picture within the page itself."""
    buffer = io.BytesIO()
    figure.picture.savefig(buffer, format="png", dpi=120)
    wide = figure.picture.get_figwidth() > 7
    return (
        f"<figure{' class=wide-figure' if wide else ''}>"
        f'<img alt="{escape(figure.name)}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
        f"<figcaption><strong>{escape(figure.name)}.</strong> {escape(figure.caption)}</figcaption></figure>"
    )


STYLE = """
:root { --ink: #22252a; --quiet: #6b7078; --line: #dddcd6; --paper: #fdfcf9; --good: #2e6b3d; --bad: #b03024; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3.5rem 1.5rem 5rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "Liberation Serif", serif; }
h1, h2 { font-weight: 600; line-height: 1.2; letter-spacing: -0.01em; }
h1 { font-size: 2.4rem; margin: 0 0 0.75rem; }
h2 { font-size: 1.65rem; margin: 0 0 0.75rem; }
p, li { max-width: 44rem; }
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
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 2rem;
  margin: 2.5rem 0 1.5rem; }
figure { margin: 0; }
.wide-figure { grid-column: 1 / -1; }
img { display: block; width: 100%; height: auto; padding: 0.9rem; border: 1px solid var(--line);
  background: white; }
figcaption { font-size: 0.92rem; line-height: 1.5; margin-top: 0.6rem; }
code, pre { font-family: "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.82em; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); background: white; }
summary { cursor: pointer; }
@media (max-width: 30rem) { .figures { grid-template-columns: 1fr; } }
"""
