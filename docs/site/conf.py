# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Sphinx's configuration; :mod:`build` beside it assembles the sources and runs it."""

import spigate

project = "spigate"
author = "the spigate authors"
release = version = spigate.__version__
copyright = author  # noqa: A001 -- Sphinx's name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
html_theme = "furo"
html_title = f"spigate {release}"
html_show_copyright = html_show_sphinx = False
html_static_path = []
# The sources are in the repository, and the search finds what an index would.
html_copy_source = html_use_index = False

# Headings get the anchors that GitHub gives them, so a link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

# Docstrings are numpydoc style. "Members" are the ports of a component.
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Members", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# A type that a docstring names by its last word may be there in both halves (SaState, Selectors).
suppress_warnings = ["ref.python"]
