"""Settings of Sphinx; ``make docs`` builds the site."""

import sb3_mdpo

project = "sb3-mdpo"
author = "The sb3-mdpo contributors"
version = release = sb3_mdpo.__version__
html_title = f"sb3-mdpo {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

html_theme = "furo"

# The docstrings name the arguments; the annotations add their types
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # SB3's are in SB3's documentation
python_use_unqualified_type_names = True
