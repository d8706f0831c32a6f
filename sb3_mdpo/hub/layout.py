"""Names of the files in a shared repository, which are those of the zoo's ``push_to_hub``."""

from sb3_mdpo.zoo.run import ARGS as ARGS
from sb3_mdpo.zoo.run import COMMAND as COMMAND
from sb3_mdpo.zoo.run import CONFIG as CONFIG

ENV_KWARGS = "env_kwargs.yml"
STATISTICS = "vec_normalize.pkl"
METRICS = "train_eval_metrics.zip"
CARD = "README.md"
RESULTS = "results.json"
VIDEO = "replay.mp4"
PUBLISHED = (ARGS, CONFIG, ENV_KWARGS, COMMAND, STATISTICS, METRICS, CARD, RESULTS, VIDEO)

# In a run folder of the zoo
LOCAL_STATISTICS = "vecnormalize.pkl"
EVALUATIONS = "evaluations.npz"
