"""Names of the files in a shared repository."""

from sb3_mdpo.persistence.export.format import CONFIG as EXPORT_CONFIG
from sb3_mdpo.persistence.export.format import TENSORS
from sb3_mdpo.zoo.run import ARGS as ARGS
from sb3_mdpo.zoo.run import COMMAND as COMMAND
from sb3_mdpo.zoo.run import CONFIG as CONFIG

# The model, from MDPO.export(), and the statistics of VecNormalize: plain data
EXPORT = (EXPORT_CONFIG, TENSORS)
NORMALIZATION = "vec_normalize.json"
# The zoo's names in its push_to_hub. The pickled statistics, like the model's zip file, only where pickles are wanted
STATISTICS = "vec_normalize.pkl"
ENV_KWARGS = "env_kwargs.yml"
METRICS = "train_eval_metrics.zip"
CARD = "README.md"
RESULTS = "results.json"
VIDEO = "replay.mp4"
PUBLISHED = (*EXPORT, NORMALIZATION, STATISTICS, ARGS, CONFIG, ENV_KWARGS, COMMAND, METRICS, CARD, RESULTS, VIDEO)

# In a run folder of the zoo
LOCAL_STATISTICS = "vecnormalize.pkl"
EVALUATIONS = "evaluations.npz"
