"""Public names in backticks become links to their entry in the reference, on every page."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class NameLinks(SphinxPostTransform):
    """Link `fnn.fit`, `fnn.fit(..., mesh=)` and, within the reference, `Run`."""

    default_priority = 5

    def run(self, **options: object) -> None:
        """Put a link around each literal that names an entry."""
        objects = self.env.domains["py"].data["objects"]
        for literal in list(self.document.findall(nodes.literal)):
            name = self._name(literal.astext())
            found = objects.get(name)
            if not found or isinstance(literal.parent, nodes.reference | nodes.title):
                continue
            entry = literal
            while entry is not None and not (isinstance(entry, nodes.Element) and name in entry.get("ids", [])):
                entry = entry.parent
            if entry is None:
                uri = self.app.builder.get_relative_uri(self.env.docname, found.docname) + "#" + found.node_id
                link = nodes.reference("", "", internal=True, refuri=uri, reftitle=name)
                literal.replace_self(link)
                link += literal

    def _name(self, text: str) -> str:
        whole = re.match(r"(fnn(?:\.\w+)+)(\(.*\))?$", text, re.S)
        if whole:
            return whole[1]
        inside = self.env.docname.startswith("reference/") and re.fullmatch(r"[A-Z]\w+", text)
        return f"fnn.{text}" if inside else ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the links."""
    app.add_post_transform(NameLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
