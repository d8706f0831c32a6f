"""Mutual distillation of policies with an LSTM."""

from sb3_mdpo.mdpo_recurrent.mdpo_recurrent import RecurrentMDPO

__all__ = ["RecurrentMDPO"]
