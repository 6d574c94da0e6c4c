"""The recipes of `docs/recipes.md` as pages of the site, one task each, which the build runs."""

import re
from pathlib import Path
from typing import Any

HEAD = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""
SHOWN = {"A run in MLflow"}  # and not run: what they need is not among the packages of the site; a test runs them
NOTE = "% Made from docs/recipes.md by the build. Edit that file.\n"


def write_recipes(docs: Path) -> list[str]:
    """Write the pages; return their names in the order of the recipes."""
    text = (docs / "recipes.md").read_text()
    prelude = re.search(r"```python\n(.*?)```", text, re.S)[1]
    names = []
    for title, body in re.findall(r"^## (.*)\n((?:(?!^## ).*\n?)*)", text, re.M):
        name = "recipe-" + re.sub(r"\W+", "-", title.lower()).strip("-")
        body = body.replace("```python\n", "```python\n" + prelude.strip() + "\n\n", 1)
        if title not in SHOWN:
            body = body.replace("```python\n", "```{code-cell}\n")
        page = f"{'' if title in SHOWN else HEAD}\n{NOTE}\n# {title}\n{body}"
        path = docs / "howto" / f"{name}.md"
        if not path.exists() or path.read_text() != page:
            path.write_text(page)
        names.append(name)
    return names


def link_pages(app: Any, docname: str, source: list[str]) -> None:
    """Lead a link to a section of `recipes.md`, which readers of the files have, to the page that is made of it."""
    up = "../" * docname.count("/")
    source[0] = re.sub(r"\((?:\.\./)*recipes\.md#([\w-]+)\)", rf"({up}howto/recipe-\1.md)", source[0])
    source[0] = re.sub(r"\((?:\.\./)*recipes\.md\)", f"({up}howto/index.md)", source[0])


def setup(app: Any) -> dict[str, bool]:
    """Change the links of each page as it is read."""
    app.connect("source-read", link_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
