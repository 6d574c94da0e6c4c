"""The recipes of `docs/recipes.md` as pages of the site, one task each, which the build runs."""

import re
from pathlib import Path

HEAD = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""
NOTE = "% Made from docs/recipes.md by the build. Edit that file.\n"


def write_recipes(docs: Path) -> list[str]:
    """Write the pages; return their names in the order of the recipes."""
    text = (docs / "recipes.md").read_text()
    prelude = re.search(r"```python\n(.*?)```", text, re.S)[1]
    names = []
    for title, body in re.findall(r"^## (.*)\n((?:(?!^## ).*\n?)*)", text, re.M):
        name = "recipe-" + re.sub(r"\W+", "-", title.lower()).strip("-")
        body = body.replace("```python\n", "```{code-cell}\n")
        body = body.replace("```{code-cell}\n", "```{code-cell}\n" + _needed(prelude) + "\n\n", 1)
        page = f"{HEAD}\n{NOTE}\n# {title}\n{body}"
        path = docs / "howto" / f"{name}.md"
        if not path.exists() or path.read_text() != page:
            path.write_text(page)
        names.append(name)
    return names


def _needed(prelude: str) -> str:
    return prelude.strip()
