"""Checkpoints from which a training goes on as if it had never stopped."""

from sb3_mdpo.checkpoints.callback import ResumableCheckpointCallback

__all__ = ["ResumableCheckpointCallback"]
