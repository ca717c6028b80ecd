"""Sphinx configuration: ``make docs`` builds docs/_build/html, and a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import rectilinear

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "rectilinear"
author = "The rectilinear authors"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = rectilinear.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_line",
    "docstrings",
    "names",
    "pages",
    "reproductions",
]
exclude_patterns = ["_build", "_ext", "_inventories"]

# Markdown: the same files read well on a code host, so links are relative paths.
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# API: docs/api/*.md list the names by hand, the `names` directive draws them.
autodoc_inherit_docstrings = False  # of torch.nn.Module
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
default_role = "code"

# Inventories of the foreign names in our signatures, made by hand: the build needs no network.
intersphinx_mapping = {
    "numpy": ("https://numpy.org/doc/stable/", "_inventories/numpy.inv"),
    "python": ("https://docs.python.org/3/", "_inventories/python.inv"),
    "sklearn": ("https://scikit-learn.org/stable/", "_inventories/sklearn.inv"),
    "torch": ("https://docs.pytorch.org/docs/stable/", "_inventories/torch.inv"),
}

html_theme = "furo"
html_title = f"rectilinear {release}"
html_static_path = ["_static"]
html_css_files = ["rectilinear.css"]
html_show_sphinx = False
