"""The tables of the page for other programs: CSV with all numbers in columns of their own, and LaTeX as on the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sb3_mdpo.lab.report.formatting import Number
from sb3_mdpo.utils.atomic import replacing


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table as ``<name>.csv`` and ``<name>.tex``, and return their paths."""
    written = []
    for name, table in tables.items():
        for kind, text in (("csv", to_csv(table)), ("tex", to_latex(table))):
            path = folder / f"{name}.{kind}"
            with replacing(path) as file:
                file.write(text.encode())
            written.append(path)
    return written


def to_csv(table: pd.DataFrame) -> str:
    """Deviations and ends of intervals are in columns of their own."""
    columns: dict[str, list[Any]] = {}
    for title, cells in table.items():
        every = [cell.parts if isinstance(cell, Number) else {"": cell} for cell in cells]
        for part in dict.fromkeys(part for parts in every for part in parts):
            columns[f"{title}{part}"] = [parts.get(part, "") for parts in every]
    text: str = pd.DataFrame(columns).to_csv(index=False, float_format="%.6g")
    return text


def to_latex(table: pd.DataFrame) -> str:
    """A ``tabular`` with the rules of booktabs, escaped."""
    text: str = (
        table.map(lambda cell: " ".join(cell.split()) if isinstance(cell, str) else cell)
        .style.hide(axis="index")
        .format(lambda cell: cell.latex if isinstance(cell, Number) else str(cell), escape="latex")
        .format_index(escape="latex", axis=1)
        .to_latex(hrules=True, column_format="".join(_alignment(table[title]) for title in table))
    )
    return text


def _alignment(cells: pd.Series) -> str:
    return "r" if any(isinstance(cell, Number | int) for cell in cells) else "l"
