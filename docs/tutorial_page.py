"""The page of the tutorial: the cells of ``examples/tutorial.ipynb`` with their outputs."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "examples" / "tutorial.ipynb"


def _output(output):
    """Text, or the picture that Jupyter shows instead of it."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="Figure" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"


def _insert(app, page, source):
    if page == "tutorial":
        blocks = []
        for cell in json.loads(NOTEBOOK.read_text())["cells"]:
            text = "".join(cell["source"])
            blocks.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
            blocks += map(_output, cell.get("outputs", []))
        source[0] = "\n\n".join((*blocks, source[0]))
        app.env.note_dependency(NOTEBOOK)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
