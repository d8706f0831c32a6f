"""Mutual distillation of policies with action masks."""

from sb3_mdpo.mdpo_mask.mdpo_mask import MaskableMDPO

__all__ = ["MaskableMDPO"]
