"""Check the built site: links within it lead somewhere, and it loads nothing from elsewhere.

`python docs/check.py docs/_build`
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "object": "data"}


class Page(HTMLParser):
    """What a page names: its anchors, where its links lead, what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if LOADS.get(tag) in found and found.get("rel") not in ("canonical", "prev", "next", "search", "index"):
            self.loads.append(found[LOADS[tag]])


def faults(site: Path) -> list[str]:
    """What is wrong, a line per fault."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(site)
        wrong += [f"{name}: {what}" for link in page.links if (what := _broken(path, link, pages))]
        wrong += [f"{name}: loads {url}" for url in page.loads if urlsplit(url).netloc]
        wrong += [f"{name}: {url} is missing" for url in page.loads if not _is_there(path, url)]
    for style in site.rglob("*.css"):
        if "url(http" in (text := style.read_text(encoding="utf-8")) or "@import" in text:
            wrong.append(f"{style.relative_to(site)}: loads from elsewhere")
    return wrong


def _is_there(path: Path, url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.netloc) or parts.scheme == "data" or (path.parent / unquote(parts.path)).exists()


def _broken(path: Path, link: str, pages: dict[Path, Page]) -> str:
    """Why a link leads nowhere; empty if it leads somewhere, or out of the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return f"{link} leads nowhere"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"{link}: there is no such place on that page"
    return ""


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]).resolve())
    print("\n".join(found) or "The links are right, and nothing is loaded from elsewhere.")
    sys.exit(bool(found))
