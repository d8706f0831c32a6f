"""Settings of Sphinx; ``make docs`` builds the site."""

import sys
from pathlib import Path

import sb3_mdpo

sys.path.insert(0, str(Path(__file__).parent))  # formulas.py, tutorial_page.py

project = "sb3-mdpo"
copyright = "the sb3-mdpo contributors"
author = "The sb3-mdpo contributors"
version = release = sb3_mdpo.__version__
html_title = f"sb3-mdpo {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "formulas", "tutorial_page", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"

# Not "description", which takes a class's attribute for the argument of the same name (MDPO's policy)
autodoc_typehints = "signature"
autodoc_preserve_defaults = True  # as written: 3e-4, not 0.0003
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # SB3's are in SB3's documentation
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100  # else one argument per line
html_static_path = ["_static"]
html_css_files = ["site.css"]
