"""A plan as a text table and as JSON."""

import json
from datetime import timedelta

from sb3_mdpo.lab.study.plan import Group, Plan
from sb3_mdpo.utils.terminal import text_table

UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
HEADER = ("method", "runs", "steps", "per policy", "images", "evaluations", "time", "disk")


def plan_table(plan: Plan) -> str:
    """
    :param plan: a plan
    :return: a line per kind of run with the costs of one run, then the totals
    """
    return "\n".join([text_table(HEADER, map(_row, plan.groups)), "", *_totals(plan)])


def plan_json(plan: Plan) -> str:
    """
    :param plan: a plan
    :return: the plan as JSON, in bytes and seconds
    """
    groups = [
        {
            "method": group.runs[0].method,
            "runs": [run.name for run in group.runs],
            **vars(group.costs),
            "seconds": group.seconds,
            "disk": group.disk,
        }
        for group in plan.groups
    ]
    wall = {str(machines): plan.wall_seconds(machines) for machines in sorted({1, plan.machines})}
    return json.dumps({"jobs": plan.jobs, "wall_seconds": wall, "groups": groups}, indent=1)


def _row(group: Group) -> tuple[str, ...]:
    costs = group.costs
    return (
        group.runs[0].method,
        str(len(group.runs)),
        amount(costs.timesteps),
        amount(costs.timesteps_per_policy),
        amount(costs.trained_images),
        str(costs.evaluations),
        duration(group.seconds),
        "-" if group.disk is None else f"{amount(group.disk)}B",
    )


def _totals(plan: Plan) -> list[str]:
    steps = sum(len(group.runs) * group.costs.timesteps for group in plan.groups)
    images = sum(len(group.runs) * group.costs.trained_images for group in plan.groups)
    disk = sum(len(group.runs) * (group.disk or 0) for group in plan.groups)
    lines = [f"In all: {len(plan.order)} runs, {amount(steps)} environment steps, {amount(images)} images trained on"]
    if all(group.disk is not None for group in plan.groups):
        lines[0] += f", {amount(disk)}B of disk"
    if any(group.seconds is None for group in plan.groups):
        return [*lines, "Time: state the throughput (--steps-per-second) or read it from a study (--measured)"]
    for machines in sorted({1, plan.machines}):
        where = "1 machine" if machines == 1 else f"{machines} machines"
        lines.append(f"On {where}, {plan.jobs} at a time on each: {duration(plan.wall_seconds(machines))}")
    return lines


def amount(number: float) -> str:
    """
    :param number: a number that is not negative
    :return: the number with three digits
    """
    for size, unit in UNITS:
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f} {unit}"
    return f"{number:.0f} "


def duration(seconds: float | None) -> str:
    """
    :param seconds: a duration, None if unknown
    :return: days, hours, minutes and seconds
    """
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
