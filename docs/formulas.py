"""Formulas as MathML, which browsers render without a script. Docutils converts them when the site is built.

Docutils draws the index of an accented letter below it: not ``\\hat A_i``.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger


def _write(translator, formula):
    block = isinstance(formula, nodes.math_block)
    try:
        translator.body.append(str(tex2mathml(formula.astext(), as_block=block)))
    except MathError as error:
        getLogger(__name__).warning("%s", error, location=formula)
    raise nodes.SkipNode


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_write, None), block_renderers=(_write, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
