"""A check that no page loads anything from elsewhere, so that the site works without the network."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

LOADED = re.compile(r"<(?:script|img|iframe|source|link(?= [^>]*stylesheet))\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the check to the end of a build."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def check(app: Sphinx, error: Exception | None) -> None:
    """Warn about every page that loads a file from elsewhere."""
    for page in sorted(Path(app.outdir).rglob("*.html")) if error is None else ():
        for found in LOADED.findall(page.read_text(encoding="utf-8")):
            logging.getLogger(__name__).warning("%s loads a file from elsewhere: %s", page.name, found)
