"""Random small programs live, and come to what a plain loop comes to.

The long run: `pytest tests/test_fuzz.py -m slow --programs 3000 --seed 0 --children 2 -s`.
"""

import pytest

from tests.fuzz.children import failures, figures, outcomes

SHORT = 2
UNJUDGED = 0.05  # the share of programs at most whose numbers depend on rounding


def check(first, count, children):
    ended = outcomes(first, count, children)
    print(f"\n{figures(ended)}")
    assert [result["seed"] for result in ended] == list(range(first, first + count))
    assert not failures(ended), "\n".join([*failures(ended), figures(ended)])
    assert sum(result["outcome"] == "not judged" for result in ended) <= UNJUDGED * count


def test_a_few_programs():
    check(1_000_000, SHORT, 1)


@pytest.mark.slow
def test_many_programs(programs):
    count, first, children = programs
    check(first, count, children)
