"""Robustness as text."""

from sb3_mdpo.lab.robustness.measure import Robustness

HEAD = ("policy", "perturbation", "strength", "KL", "95% interval", "max", "TV", "95% interval", "max")


def make_table(robustness: Robustness) -> str:
    """
    :param robustness: what was measured
    :return: one line per row, then what was omitted and why
    """
    lines = [HEAD]
    for row in robustness.rows:
        kl = (f"{row.kl_mean:.3g}", f"{row.kl_low:.3g} to {row.kl_high:.3g}", f"{row.kl_max:.3g}")
        tv = (f"{row.tv_mean:.3g}", f"{row.tv_low:.3g} to {row.tv_high:.3g}", f"{row.tv_max:.3g}")
        lines.append((row.policy, row.perturbation, "" if row.strength is None else f"{row.strength:g}", *kl, *tv))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    settings = robustness.settings
    text.append(
        f"{settings['kl']} in nats and total variation of the action distributions; {settings['states']} states of "
        f"each policy's own play on unseen levels, from {settings['n_envs']} environments"
    )
    text += [f"No {what!r}: {reason}." for what, reason in settings["omitted"].items()]
    return "\n".join(text)
