"""The algorithm."""

from sb3_mdpo.mdpo.mdpo import MDPO

__all__ = ["MDPO"]
