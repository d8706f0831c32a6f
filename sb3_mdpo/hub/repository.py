"""A shared repository: the names of its files, and the errors of the connection to the Hub."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the HTTP library, httpx or another

from sb3_mdpo.persistence.export.format import CONFIG as EXPORT_CONFIG
from sb3_mdpo.persistence.export.format import TENSORS
from sb3_mdpo.zoo.run import ARGS, CONFIG

# What `rl_zoo3 enjoy` needs, as plain data: the model from MDPO.export(), the settings, statistics of VecNormalize
EXPORT = (EXPORT_CONFIG, TENSORS)
NORMALIZATION = "vec_normalize.json"
# Only with pickles, beside mdpo-<environment>.zip: what rl_zoo3.load_from_hub downloads, by the zoo's names
PICKLED_STATISTICS, ENV_KWARGS, METRICS = "vec_normalize.pkl", "env_kwargs.yml", "train_eval_metrics.zip"
CARD, RESULTS, VIDEO = "README.md", "results.json", "replay.mp4"
FILES = (*EXPORT, ARGS, CONFIG, NORMALIZATION, PICKLED_STATISTICS, ENV_KWARGS, METRICS, CARD, RESULTS, VIDEO)

VECNORMALIZE = "vecnormalize.pkl"  # in a run folder


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise every network error as an ``OSError``, which the errors that the Hub answers with are already."""
    try:
        yield
    except HTTPError as error:
        if isinstance(error, OSError):
            raise
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {error}") from error
