"""Distances between discrete action distributions, as pure functions of their log probabilities."""

import torch as th


def kl_divergence(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """
    :param log_p: log probabilities, shape ``(..., A)``
    :param log_q: log probabilities, a shape that broadcasts with it
    :return: ``KL(p || q) = sum p (log p - log q)`` in nats, shape ``(...)``; actions with ``p = 0`` add nothing
    """
    p = log_p.exp()
    return th.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)


def total_variation(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """
    :param log_p: log probabilities, shape ``(..., A)``
    :param log_q: log probabilities, a shape that broadcasts with it
    :return: ``sum |p - q| / 2``, between 0 and 1, shape ``(...)``
    """
    return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2
