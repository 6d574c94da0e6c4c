"""How Sphinx builds the site: `python -m sphinx -W -j 2 docs docs/_build`."""

import logging
import os
import sys
from importlib import metadata
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

from recipes import write_recipes  # noqa: E402

write_recipes(DOCS)

project = "fnn"
author = "the fnn authors"
copyright = "the fnn authors, Apache-2.0"
version = release = metadata.version("fnn")
language = "en"

extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design", "mathml", "reference", "links", "recipes"]
exclude_patterns = ["_build", "_ext", "recipes.md"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
suppress_warnings = ["mystnb.unknown_mime_type"]
python_maximum_signature_line_length = 70
python_use_unqualified_type_names = True
add_module_names = True
toc_object_entries_show_parents = "hide"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3

nb_execution_mode = os.environ.get("FNN_DOCS_NOTEBOOKS", "force")  # "cache" runs only pages that changed
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_in_temp = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # nothing from elsewhere
logging.getLogger("traitlets").setLevel(logging.WARNING)  # a line per page says nothing
os.environ["TQDM_DISABLE"] = "1"  # no bar in the pages
os.environ["IPYTHONDIR"] = str(DOCS / "_ext" / "ipython")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

html_theme = "furo"
html_title = "fnn"
html_static_path = ["_static"]
html_css_files = ["fnn.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # a browser does not let a page of a folder read others
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"},
    "dark_css_variables": {"color-brand-primary": "#7cc0ea", "color-brand-content": "#7cc0ea"},
}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
