"""What one call of ``train()`` logs."""

import numpy as np
import torch as th

from sb3_mdpo.update import METRICS


class UpdateHistory:
    """The metrics of an update, left on the device until :meth:`summary` fetches them all at once."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.steps: list[th.Tensor] = []
        self.took_part: list[frozenset[int]] = []
        self.stepped: list[frozenset[int]] = []

    def append(self, epoch: int, metrics: th.Tensor, took_part: frozenset[int], stepped: frozenset[int]) -> None:
        """
        :param epoch: index of the epoch
        :param metrics: what ``minibatch_step()`` returned, shape ``(n_policies, len(METRICS))``
        :param took_part: members whose loss was computed
        :param stepped: those of them that did not reach ``target_kl`` with it
        """
        self.epochs.append(epoch)
        self.steps.append(metrics)
        self.took_part.append(took_part)
        self.stepped.append(stepped)

    def summary(self, at_the_end: dict[str, th.Tensor]) -> dict[str, float]:
        """
        Means over the minibatches; as in SB3, ``approx_kl`` of the last epoch and ``loss`` of the
        last minibatch that the member took part in.

        :param at_the_end: further metrics by name, one value per member, each of shape ``(n_policies,)``
        :return: ``policy_<k>/...`` for each member, and their means over members under PPO's ``train/...``
        """
        steps, further = th.stack(self.steps), th.stack(list(at_the_end.values()))
        host = th.cat([steps.flatten(), further.flatten()]).cpu().numpy()  # the only time that the host waits
        values = host[: steps.numel()].reshape(steps.shape)
        final = host[steps.numel() :].reshape(further.shape)
        epochs = np.array(self.epochs)

        members = []
        for k in range(steps.shape[1]):
            took_part = np.array([k in indices for indices in self.took_part])
            stepped = np.array([k in indices for indices in self.stepped])
            own = dict(zip(METRICS, values[took_part, k].T, strict=True))
            in_last_epoch = epochs[took_part] == epochs[took_part].max()
            summary = {name: series.mean() for name, series in own.items()}
            summary["approx_kl"] = own["approx_kl"][in_last_epoch].mean()
            summary["loss"] = own["loss"][-1]
            # The step at which a member reached target_kl has no gradient
            grad_norms = values[stepped, k, METRICS.index("grad_norm")]
            summary["grad_norm"] = grad_norms.mean() if len(grad_norms) else 0.0
            members.append(summary | dict(zip(at_the_end, final[:, k], strict=True)))

        logged = {f"train/{name}": float(np.mean([member[name] for member in members])) for name in members[0]}
        for k, member in enumerate(members):
            logged.update({f"policy_{k}/{name}": float(value) for name, value in member.items()})
        return logged


def explained_variance(values: th.Tensor, returns: th.Tensor) -> th.Tensor:
    """
    SB3's ``explained_variance`` per member, without leaving the device.

    :param values: predictions, shape ``(n_policies, samples)``
    :param returns: targets, same shape
    :return: ``1 - Var[returns - values] / Var[returns]``, NaN where all returns are equal, shape ``(n_policies,)``
    """
    variance = returns.var(dim=1, correction=0)
    unexplained = (returns - values).var(dim=1, correction=0)
    return th.where(variance == 0, th.nan, 1 - unexplained / variance)
