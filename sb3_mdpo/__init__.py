"""Mutual Distillation Policy Optimization (arXiv 2501.02481) for Stable-Baselines3.

The public names are imported on first use: the zoo's start-up hook lives in this package and must not cost every
Python process an import of torch.
"""

from sb3_mdpo._version import __version__ as __version__
from sb3_mdpo.utils.lazy import lazy_attributes

TYPE_CHECKING = False  # importing typing would double what the start-up hook costs
if TYPE_CHECKING:
    from sb3_mdpo.common.buffers import MutualRolloutBuffer as MutualRolloutBuffer
    from sb3_mdpo.common.mutual_policy import MutualPolicy as MutualPolicy
    from sb3_mdpo.common.nonfinite import NonFiniteError as NonFiniteError
    from sb3_mdpo.common.policies import ImpalaCnnLstmPolicy as ImpalaCnnLstmPolicy
    from sb3_mdpo.common.policies import ImpalaCnnPolicy as ImpalaCnnPolicy
    from sb3_mdpo.common.policies import ImpoolaCnnPolicy as ImpoolaCnnPolicy
    from sb3_mdpo.common.policies import StridedCnnPolicy as StridedCnnPolicy
    from sb3_mdpo.common.torch_layers import ImpalaCNN as ImpalaCNN
    from sb3_mdpo.common.torch_layers import ImpoolaCNN as ImpoolaCNN
    from sb3_mdpo.common.torch_layers import StridedCNN as StridedCNN
    from sb3_mdpo.mdpo import MDPO as MDPO
    from sb3_mdpo.mdpo_mask import MaskableMDPO as MaskableMDPO
    from sb3_mdpo.mdpo_recurrent import RecurrentMDPO as RecurrentMDPO

_MODULES = {
    "MDPO": "sb3_mdpo.mdpo",
    "MaskableMDPO": "sb3_mdpo.mdpo_mask",
    "RecurrentMDPO": "sb3_mdpo.mdpo_recurrent",
    "ImpalaCnnLstmPolicy": "sb3_mdpo.common.policies",
    "ImpalaCNN": "sb3_mdpo.common.torch_layers",
    "ImpalaCnnPolicy": "sb3_mdpo.common.policies",
    "ImpoolaCNN": "sb3_mdpo.common.torch_layers",
    "ImpoolaCnnPolicy": "sb3_mdpo.common.policies",
    "MutualPolicy": "sb3_mdpo.common.mutual_policy",
    "MutualRolloutBuffer": "sb3_mdpo.common.buffers",
    "NonFiniteError": "sb3_mdpo.common.nonfinite",
    "StridedCNN": "sb3_mdpo.common.torch_layers",
    "StridedCnnPolicy": "sb3_mdpo.common.policies",
}
__all__ = [*_MODULES, "__version__"]
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
