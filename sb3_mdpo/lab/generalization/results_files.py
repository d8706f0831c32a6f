"""An evaluation for people to read, and as a file."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb3_mdpo.lab.generalization.evaluation import GeneralizationResult, LevelsResult, PolicyResult
from sb3_mdpo.lab.generalization.intervals import CONFIDENCE
from sb3_mdpo.lab.generalization.table import write_table
from sb3_mdpo.utils.atomic import replacing

FORMATS = (".csv", ".json")


def as_text(result: GeneralizationResult) -> str:
    """
    :param result: an evaluation
    :return: it as a table, as a rule of no more than 80 columns
    """
    last = result.start_level + result.train_levels - 1
    head = ("policy", "levels", "return", f"{CONFIDENCE:.0%} interval", "normalized", "success", "KL")
    table = [head, *(row for policy in result.policies for row in _rows(policy))]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in ([*zip(row, widths, strict=True)] for row in table)
    ]
    how = (
        f"{result.episodes} episodes each, in {result.n_envs} environments with seed {result.seed}, "
        f"{'most probable' if result.deterministic else 'sampled'} actions"
    )
    where = f"{result.env_id}: training levels {result.start_level} to {last}, and unseen levels"
    return "\n".join((where, how, "", *(line.rstrip() for line in lines)))


def _rows(policy: PolicyResult) -> Iterator[tuple[str, ...]]:
    yield (policy.policy, "training", *_cells(policy.training), "")
    yield ("", "unseen", *_cells(policy.unseen), "" if policy.kl is None else f"{policy.kl:.3g}")
    scores = policy.training.normalized, policy.unseen.normalized
    normalized = "" if scores[0] is None or scores[1] is None else f"{scores[0] - scores[1]:.3f}"
    yield ("", "gap", f"{policy.gap:.2f}", "", normalized, "", "")


def _cells(levels: LevelsResult) -> tuple[str, ...]:
    low, high = levels.interval
    normalized = "" if levels.normalized is None else f"{levels.normalized:.3f}"
    success = "" if levels.success_rate is None else f"{levels.success_rate:.0%}"
    return f"{levels.mean:.2f}", f"{low:.2f} to {high:.2f}", normalized, success


def check_output(path: Path) -> None:
    """
    :param path: file to write
    :raises ValueError: where its name is of no known format
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} has no known format: use a name that ends in {' or '.join(FORMATS)}.")


def write_results(result: GeneralizationResult, path: Path, model: Path) -> None:
    """
    Write an evaluation: one row per policy as CSV, or with every episode's return as JSON.

    :param result: the evaluation
    :param path: file to write, ``.csv`` or ``.json``
    :param model: where the model is
    :raises ValueError: where the file's name is of no known format
    """
    check_output(path)
    settings: dict[str, Any] = {"model": str(model)} | asdict(result)
    del settings["policies"]
    if path.suffix == ".csv":
        rows = [settings | _with_intervals(policy) for policy in result.policies]
        write_table(path, rows, rows[0])
        return
    policies = [
        _with_intervals(policy) | {"training_returns": policy.training.returns, "unseen_returns": policy.unseen.returns}
        for policy in result.policies
    ]
    with replacing(path) as file:
        file.write(json.dumps({"settings": settings, "policies": policies}, indent=1).encode())


def _with_intervals(policy: PolicyResult) -> dict[str, Any]:
    row: dict[str, Any] = policy.row()
    for levels, result in (("training", policy.training), ("unseen", policy.unseen)):
        row[f"{levels}_low"], row[f"{levels}_high"] = result.interval
    return row
