"""Colours and marks of methods, the same in all charts."""

from collections.abc import Sequence
from dataclasses import dataclass

# seaborn's "colorblind", which rliable draws with; its yellow last, which is hard to see on white
COLORS = (
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#56b4e9",
    "#949494",
    "#fbafe4",
    "#ece133",
)
# For plotly and for matplotlib. Seven: a colour comes with another mark each time it is used again
MARKS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("triangle-down", "v"),
    ("cross", "P"),
    ("x", "X"),
)


@dataclass(frozen=True)
class Look:
    """
    :param color: as ``#rrggbb``
    :param symbol: plotly's name of the mark
    :param marker: matplotlib's
    """

    color: str
    symbol: str
    marker: str

    @property
    def faint(self) -> str:
        """The colour of a band, for plotly."""
        red, green, blue = (int(self.color[k : k + 2], 16) for k in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.15)"


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """
    :param methods: names of methods, in the order of legends
    :return: the look of each
    """
    return {
        method: Look(COLORS[k % len(COLORS)], *MARKS[k % len(MARKS)]) for k, method in enumerate(dict.fromkeys(methods))
    }
