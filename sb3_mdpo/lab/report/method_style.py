"""Colour and marker of each method, the same in all charts."""

from collections.abc import Sequence
from dataclasses import dataclass

# seaborn's "colorblind", which rliable uses; yellow is last because it is hard to see on white
COLORS = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#56b4e9", "#949494", "#fbafe4", "#ece133"),
)
# Names in plotly and in matplotlib. Seven, so that a colour used again comes with another marker
MARKERS = (
    *(("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^")),
    *(("triangle-down", "v"), ("cross", "P"), ("x", "X")),
)


@dataclass(frozen=True)
class Style:
    """A color as ``#rrggbb``, and the marker's names in plotly and in matplotlib."""

    color: str
    symbol: str
    marker: str

    @property
    def faint(self) -> str:
        """Colour of a band in plotly."""
        red, green, blue = (int(self.color[k : k + 2], 16) for k in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.15)"


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """The style of each method, in the order of the legend."""
    return {
        method: Style(COLORS[k % len(COLORS)], *MARKERS[k % len(MARKERS)])
        for k, method in enumerate(dict.fromkeys(methods))
    }
