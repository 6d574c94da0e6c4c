"""The page of the experiments: pictures as vectors before the table, printed tables as HTML, short numbers."""

import re

import pytest

from experiments import report

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure as Picture

PRINTED = "A title\n\nlayer     shape\n---------------\ndense(2)  (2,)\nand 3 more"


def section(rows, figures=()):
    result = report.Result("A `title`", "Why `f`?", rows, list(figures), ["A note on `x`."], {})
    return report.section(report.Done("name", "lab book", result, 1.0)).html


def picture(width):
    figure = Picture(figsize=(width, 3))
    figure.add_subplot().plot([0, 1])
    return figure


def test_pictures_are_vectors_and_come_before_tables():
    figures = [
        report.Figure("t", "c", [PRINTED]),
        report.Figure("p", "c", picture(5)),
        report.Figure("w", "c", picture(11)),
    ]
    html = section([report.at_least("q", 1, 2)], figures)
    assert html.count("data:image/svg+xml;base64,PD94bWw") == 2  # <?xml
    assert re.findall(r'<figure class="([\w-]+)"', html) == ["half-figure", "wide-figure", "half-figure"]
    assert html.rindex("<img") < html.index('class="printed"') < html.index("Quantity")


def test_a_picture_of_too_many_vectors_is_one_of_pixels(monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 100)
    assert "data:image/png" in section([], [report.Figure("p", "c", picture(5))])


def test_a_printed_table_becomes_one_of_html():
    html = section([], [report.Figure("t", "c", [PRINTED])])
    assert "<p><strong>A title</strong></p>" in html
    assert "<tr><th>layer</th><th>shape</th></tr>" in html and "<td>dense(2)</td><td>(2,)</td>" in html
    assert '<td colspan="2">and 3 more</td>' in html and "----" not in html


def test_a_difference_stands_only_beside_a_number_that_was_claimed():
    bound, number = report.at_most("q", 1, 0.5), report.close("q", 0.25, 0.2500001, tolerance=1e-3)
    assert "Difference" not in section([bound])
    html = section([bound, number])
    assert "Difference" in html and "+1e-07" in html and "-0.5" not in html


def test_texts_have_no_backticks_and_numbers_have_eight_digits_at_most():
    html = section([report.holds("`q`", "1", "0.12345678901234 and 1.5", "equal", True)])
    assert "`" not in html and "<code>q</code>" in html and "<code>f</code>" in html
    assert "0.12345679 and 1.5" in html


def test_a_long_table_is_folded():
    row = report.at_least("q", 1, 2)
    assert "All 13 rows" in section([row] * 13) and "All 12 rows" not in section([row] * 12)
