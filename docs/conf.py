"""Configuration of the documentation, which ``make docs`` builds without the network."""

import sys
from pathlib import Path

import raydisc

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "raydisc"
author = "the raydisc authors"
project_copyright = author
release = version = raydisc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated_pages", "mathml", "offline"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = True
# The documentation of other projects is elsewhere, and modules that are not public have no page.
nitpick_ignore_regex = [
    ("py:class", r"(collections|numpy|pandas|pathlib|pyarrow|pydantic\.main|torch|transformers|raydisc\.[a-z]+)\..*"),
    ("py:class", "Search|Stage|Steps|TrialScheduler"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
napoleon_use_rtype = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"raydisc {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
highlight_language = "none"
