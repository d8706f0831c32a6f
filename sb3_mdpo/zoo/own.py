"""This package's algorithms, the only list of them. It imports nothing of the zoo, which is extended with it."""

from sb3_mdpo.mdpo import MDPO  # registers the Procgen ids on the way
from sb3_mdpo.mdpo_mask import MaskableMDPO
from sb3_mdpo.mdpo_recurrent import RecurrentMDPO

#: The zoo's name, which is also in the models' files -> class
OWN: dict[str, type[MDPO]] = {algorithm.algorithm: algorithm for algorithm in (MDPO, MaskableMDPO, RecurrentMDPO)}
