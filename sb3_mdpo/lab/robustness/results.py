"""Results of a measurement of robustness, as text and as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.terminal import text_table

HEADER = ("policy", "perturbation", "strength", "TV", "95% interval", "max", "KL", "entropy", "return", "95% interval")


@dataclass(frozen=True)
class Unperturbed:
    """
    One policy without perturbation: mean entropy of its action distributions in nats, mean total variation between
    those of different states, and mean return on unseen levels with its interval, None if no episodes were played.
    """

    policy: str
    entropy: float
    tv_states: float
    return_mean: float | None
    return_low: float | None
    return_high: float | None


@dataclass(frozen=True)
class RobustnessRow:
    """
    One policy under one perturbation at one strength, over ``n`` states: mean, interval and maximum over states and
    draws of ``KL(original || perturbed)`` in nats and of the total variation, mean entropy in nats, and mean return
    under the perturbation with its interval, None if no episodes were played. Intervals are of means over environments,
    because states of one environment are not independent, and over random convolutions.
    """

    policy: str
    perturbation: str
    strength: float | None
    n: int
    kl_mean: float
    kl_low: float
    kl_high: float
    kl_max: float
    tv_mean: float
    tv_low: float
    tv_high: float
    tv_max: float
    entropy: float
    return_mean: float | None
    return_low: float | None
    return_high: float | None


@dataclass(frozen=True)
class Robustness:
    """What was measured and how, with the perturbations that were left out and why as ``omitted``; the numbers."""

    settings: dict[str, Any]
    unperturbed: tuple[Unperturbed, ...]
    rows: tuple[RobustnessRow, ...]

    def to_json(self) -> str:
        """A JSON document with ``settings``, ``unperturbed`` and ``rows``."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write :meth:`to_json` to a file."""
        with replacing(path) as file:
            file.write(self.to_json().encode())

    def to_text(self) -> str:
        """A table with one line per row, then what was omitted and why."""
        rows: list[tuple[str, ...]] = []
        for policy in self.unperturbed:
            rows.append((policy.policy, "none", "", *("",) * 4, f"{policy.entropy:.3g}", *_return(policy)))
            rows.append((policy.policy, "another state", "", f"{policy.tv_states:.3g}", *("",) * 6))
            rows += [_line(row) for row in self.rows if row.policy == policy.policy]
        caption = (
            f"Total variation and {self.settings['kl']} in nats of the action distributions, and their entropy, in "
            f"{self.settings['states']} states of unseen levels from {self.settings['n_envs']} environments"
        )
        notes = [f"No {name!r}: {reason}." for name, reason in self.settings["omitted"].items()]
        return "\n".join([text_table(HEADER, rows, left=(0, 1)), caption, *notes])


def _line(row: RobustnessRow) -> tuple[str, ...]:
    strength = "" if row.strength is None else f"{row.strength:g}"
    variation = (f"{row.tv_mean:.3g}", f"{row.tv_low:.3g} to {row.tv_high:.3g}", f"{row.tv_max:.3g}")
    others = (f"{row.kl_mean:.3g}", f"{row.entropy:.3g}", *_return(row))
    return (row.policy, row.perturbation, strength, *variation, *others)


def _return(row: RobustnessRow | Unperturbed) -> tuple[str, str]:
    if row.return_mean is None:
        return "", ""
    return f"{row.return_mean:.2f}", f"{row.return_low:.2f} to {row.return_high:.2f}"
