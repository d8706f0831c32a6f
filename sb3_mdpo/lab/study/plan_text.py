"""A plan for people and for programs."""

import json
from datetime import timedelta
from typing import Any

from sb3_mdpo.lab.study.plan import Group, Plan
from sb3_mdpo.lab.study.status import aligned

UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
HEADER = (*("method", "runs", "steps", "per policy", "images", "evaluations", "time", "memory", "disk", "under way"),)


def plan_table(plan: Plan) -> str:
    """
    :param plan: a plan
    :return: a line per kind of run with what one of them takes, then what all of them take together
    """
    rows = [HEADER, *map(_row, plan.groups)]
    return "\n".join([aligned(rows, left=(0,)), "", *_totals(plan)])


def plan_json(plan: Plan) -> str:
    """
    :param plan: a plan
    :return: the same as JSON, in bytes and seconds
    """
    groups = [
        {
            "method": group.runs[0].method,
            "runs": [run.name for run in group.runs],
            **vars(group.costs),
            "seconds": group.seconds,
            "disk": group.disk,
            "disk_under_way": group.disk_under_way,
            "needs": vars(group.needs),
        }
        for group in plan.groups
    ]
    wall = {str(machines): plan.wall_seconds(machines) for machines in sorted({1, plan.machines})}
    return json.dumps({"jobs": plan.jobs, "wall_seconds": wall, "groups": groups}, indent=1)


def _row(group: Group) -> tuple[str, ...]:
    costs, needs = group.costs, group.needs
    at_least = "" if needs.rollout_seconds else ">"
    gpu = f" + {amount(needs.gpu_memory)}B GPU" if needs.gpu_memory else ""
    return (
        group.runs[0].method,
        str(len(group.runs)),
        amount(costs.timesteps),
        amount(costs.timesteps_per_policy),
        amount(costs.trained_images),
        str(costs.evaluations),
        duration(group.seconds),
        f"{at_least}{amount(needs.memory)}B{gpu}",
        f"{at_least}{amount(group.disk)}B",
        f"{at_least}{amount(group.disk_under_way)}B",
    )


def _totals(plan: Plan) -> list[str]:
    def total(value: Any) -> Any:
        return sum(len(group.runs) * value(group) for group in plan.groups)

    steps, images = total(lambda group: group.costs.timesteps), total(lambda group: group.costs.trained_images)
    lines = [f"In all: {len(plan.order)} runs, {amount(steps)} environment steps, {amount(images)} images trained on"]
    largest = max(group.needs.memory for group in plan.groups)
    at_the_end = total(lambda group: group.disk)
    checkpoints = max(group.disk_under_way - group.disk for group in plan.groups)
    for machines in sorted({1, plan.machines}):
        slots = machines * plan.jobs
        wall = plan.wall_seconds(machines)
        where = "1 machine" if machines == 1 else f"{machines} machines"
        until = "" if wall is None else f"{duration(wall)}, "
        lines.append(
            f"On {where}, {plan.jobs} at a time on each: {until}{amount(plan.jobs * largest)}B of memory each, "
            f"{amount(at_the_end + slots * checkpoints)}B of disk"
        )
    if any(group.seconds is None for group in plan.groups):
        lines.append("Time: state it (--steps-per-second), read it from a study (--measured) or try it here (--probe)")
    if any(group.needs.rollout_seconds is None for group in plan.groups):
        lines.append("Memory without what updates need, disk without logs: --probe measures both")
    return lines


def amount(number: float) -> str:
    """
    :param number: a number that is not negative
    :return: it with three digits
    """
    for size, unit in UNITS:
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2}f} {unit}"
    return f"{number:.0f} "


def duration(seconds: float | None) -> str:
    """
    :param seconds: a time, None where it is not known
    :return: it in days, hours, minutes and seconds
    """
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
