"""Names of the files in a shared repository, which are those of the zoo's ``push_to_hub``."""

ARGS = "args.yml"
CONFIG = "config.yml"
ENV_KWARGS = "env_kwargs.yml"
COMMAND = "command.txt"
STATISTICS = "vec_normalize.pkl"
METRICS = "train_eval_metrics.zip"
CARD = "README.md"
RESULTS = "results.json"
VIDEO = "replay.mp4"
PUBLISHED = (ARGS, CONFIG, ENV_KWARGS, COMMAND, STATISTICS, METRICS, CARD, RESULTS, VIDEO)

# In a run folder of the zoo
LOCAL_STATISTICS = "vecnormalize.pkl"
EVALUATIONS = "evaluations.npz"
