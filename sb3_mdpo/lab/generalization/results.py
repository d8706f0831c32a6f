"""Results of an evaluation on training and unseen levels, as text and as files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from scipy import stats

from sb3_mdpo.utils.atomic import replacing
from sb3_mdpo.utils.terminal import text_table

CONFIDENCE = 0.95
ENSEMBLE: Final = "ensemble"  # name of the members acting together
HEADER = ("policy", "levels", "return", f"{CONFIDENCE:.0%} interval", "normalized", "success", "KL")
TABLE: Final = "generalization.csv"
# One row per evaluation and policy. Returns are means over episodes with their standard errors; undefined values are
# empty
COLUMNS: Final = (
    *("timesteps", "timesteps_per_policy", "trained_images", "seconds", "policy", "episodes"),
    *("training_return", "training_stderr", "training_normalized", "training_success"),
    *("unseen_return", "unseen_stderr", "unseen_normalized", "unseen_success", "gap", "kl"),
)
INTEGERS = ("timesteps", "timesteps_per_policy", "trained_images", "episodes")
TEXTS = dict.fromkeys(("study", "env_id", "method", "run", "policy"), str)
# pandas' own reader of numbers crashes the process at one like 4e492493924924 (pandas issue 63089); Python's does not
SAFE: Literal["round_trip"] = "round_trip"


def confidence_interval(returns: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Ends of Student's t interval of the mean of at least two independent returns."""
    if len(returns) < 2:
        raise ValueError(f"{len(returns)} episode(s) give no interval: evaluate at least 2.")
    half = stats.t.ppf((1 + confidence) / 2, len(returns) - 1) * stats.sem(returns)
    return float(np.mean(returns) - half), float(np.mean(returns) + half)


@dataclass(frozen=True)
class LevelsResult:
    """Returns of one policy on one set of levels."""

    returns: tuple[float, ...]  #: undiscounted, unnormalized return of every episode
    success_rate: float | None  #: share of episodes that ended in success, None if the environment does not report it
    normalized: float | None  #: mean as a score, see :func:`~sb3_mdpo.lab.generalization.scores.normalized_score`
    levels: tuple[int, ...] | None = None  #: seed of the level of every episode, None if environments do not report it

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def stderr(self) -> float:
        """Standard error of the mean over episodes of this model."""
        return float(np.std(self.returns, ddof=1) / np.sqrt(len(self.returns)))

    @property
    def interval(self) -> tuple[float, float]:
        """Student's t interval of the mean (95 %), over episodes."""
        return confidence_interval(self.returns)

    def by_level(self) -> pd.Series:
        """
        Mean return of each level, indexed by its seed, to pair the episodes of two models.

        :raises ValueError: if the levels are not known
        """
        if self.levels is None:
            raise ValueError(
                "The environments do not report the level of an episode: they need prev_level_seed in the infos of its "
                "last step, as those of this package have."
            )
        return pd.Series(self.returns).groupby(list(self.levels)).mean()


@dataclass(frozen=True)
class PolicyResult:
    """Results of ``"policy 0"`` and so on, or ``"ensemble"``, on the training levels and on levels drawn from all."""

    policy: str
    training: LevelsResult
    unseen: LevelsResult
    kl: float | None  #: mean over peers of ``KL(peer || policy)`` on observations of unseen levels; None without peers

    @property
    def gap(self) -> float:
        """Generalization gap: mean return on training levels minus that on unseen levels."""
        return self.training.mean - self.unseen.mean

    def row(self) -> dict[str, str | int | float | None]:
        """The columns of a results table."""
        row: dict[str, str | int | float | None] = {"policy": self.policy, "episodes": len(self.unseen.returns)}
        for levels, result in (("training", self.training), ("unseen", self.unseen)):
            row |= {
                f"{levels}_return": result.mean,
                f"{levels}_stderr": result.stderr,
                f"{levels}_normalized": result.normalized,
                f"{levels}_success": result.success_rate,
            }
        return row | {"gap": self.gap, "kl": self.kl}


@dataclass(frozen=True)
class GeneralizationResult:
    """
    :param env_id: Gymnasium id
    :param train_levels: number of training levels
    :param start_level: first training level
    :param episodes: episodes per policy and set of levels
    :param n_envs: number of environments
    :param seed: seed of environments and actions
    :param deterministic: whether the most probable actions were taken
    :param policies: results of the members and, if there are several, of the ensemble
    :param protocol: ``"fixed"`` or ``"authors"``, see :func:`~sb3_mdpo.lab.evaluate_generalization`
    """

    env_id: str
    train_levels: int
    start_level: int
    episodes: int
    n_envs: int
    seed: int
    deterministic: bool
    policies: tuple[PolicyResult, ...]
    protocol: str = "fixed"

    @property
    def members(self) -> tuple[PolicyResult, ...]:
        """Results of the members without the ensemble."""
        return tuple(result for result in self.policies if result.policy.startswith("policy "))

    def to_text(self) -> str:
        """A table of at most 80 columns."""
        last = self.start_level + self.train_levels - 1
        actions = f"{'most probable' if self.deterministic else 'sampled'} actions"
        played = f"{self.episodes} episodes each, in {self.n_envs} environments with seed {self.seed}, {actions}"
        if self.protocol == "authors":
            played = (
                f"the authors' protocol: the first {self.episodes} episodes in {self.n_envs} environments, {actions}"
            )
        lines = (f"{self.env_id}: training levels {self.start_level} to {last}, and unseen levels", played)
        rows = [row for policy in self.policies for row in _text_rows(policy)]
        return "\n".join((*lines, "", text_table(HEADER, rows, left=(0, 1))))

    def write(self, path: Path, model: Path) -> None:
        """
        Write one row per policy as CSV, or with the returns and levels of all episodes as JSON.

        :param path: file to write, ``.csv`` or ``.json``
        :param model: path of the model
        :raises ValueError: if the file's name has another extension
        """
        settings: dict[str, Any] = {"model": str(model)} | asdict(self)
        del settings["policies"]
        rows = []
        for policy in self.policies:
            row: dict[str, Any] = policy.row()
            for levels, result in (("training", policy.training), ("unseen", policy.unseen)):
                row[f"{levels}_low"], row[f"{levels}_high"] = result.interval
            rows.append(row)
        if path.suffix == ".csv":
            rows = [settings | row for row in rows]
            write_table(path, rows, rows[0])
        elif path.suffix == ".json":
            for row, policy in zip(rows, self.policies, strict=True):
                for levels, result in (("training", policy.training), ("unseen", policy.unseen)):
                    row |= {f"{levels}_returns": result.returns, f"{levels}_levels": result.levels}
            with replacing(path) as file:
                file.write(json.dumps({"settings": settings, "policies": rows}, indent=1).encode())
        else:
            raise ValueError(f"{path} has no known format: use a name that ends in .csv or .json.")


def _text_rows(policy: PolicyResult) -> Iterator[tuple[str, ...]]:
    for levels, result in (("training", policy.training), ("unseen", policy.unseen)):
        low, high = result.interval
        kl = "" if levels == "training" or policy.kl is None else f"{policy.kl:.3g}"
        yield (
            policy.policy if levels == "training" else "",
            levels,
            f"{result.mean:.2f}",
            f"{low:.2f} to {high:.2f}",
            "" if result.normalized is None else f"{result.normalized:.3f}",
            "" if result.success_rate is None else f"{result.success_rate:.0%}",
            kl,
        )
    scores = policy.training.normalized, policy.unseen.normalized
    normalized = "" if scores[0] is None or scores[1] is None else f"{scores[0] - scores[1]:.3f}"
    yield ("", "gap", f"{policy.gap:.2f}", "", normalized, "", "")


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = COLUMNS) -> None:
    """Write values by column, None if undefined, to a CSV file."""
    with replacing(path) as file:
        pd.DataFrame(rows, columns=list(columns)).to_csv(file, index=False)


def read_csv(path: Path) -> pd.DataFrame:
    """Any table of evaluations, unchecked; only empty cells are undefined."""
    try:
        return pd.read_csv(path, dtype=TEXTS, keep_default_na=False, na_values=[""], float_precision=SAFE)
    except (ValueError, OverflowError) as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{path} is not a table: {error}") from error


def read_table(path: Path) -> list[dict[str, Any]]:
    """Values by column of a file of :func:`write_table`, None if undefined; at least one row."""
    table = read_csv(path)
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{path} is not a table of evaluations: it has no column {', '.join(missing)}.")
    if table.empty:
        raise ValueError(f"{path} is not a table of evaluations: it has no rows.")
    for name in set(COLUMNS) - {"policy"}:
        if table[name].dtype.kind not in ("iu" if name in INTEGERS else "iuf"):
            kind = "integers" if name in INTEGERS else "numbers"
            raise ValueError(f"{path} is not a table of evaluations: it has values that are not {kind} in {name}.")
    table = table[list(COLUMNS)].astype(object)
    rows: list[dict[str, Any]] = table.where(table.notna(), None).to_dict("records")
    return rows
