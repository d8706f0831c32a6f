"""What a stranger's settings may name: classes and functions that the zoo imports or evaluates.

Everything else is refused. On the lists is what does no more with arguments that are plain data than what its name
says: nothing that takes a callable, writes files on its own, or imports what it is told to.
"""

from sb3_mdpo.persistence.export.format import ACTIVATIONS, OPTIMIZERS


def _names(*modules: str, classes: str) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module in modules for name in classes.split())


_GYMNASIUM = {
    "atari_preprocessing": "AtariPreprocessing",
    "common": "OrderEnforcing PassiveEnvChecker RecordEpisodeStatistics TimeLimit",
    "stateful_action": "RepeatAction StickyAction",
    "stateful_observation": "DelayObservation FrameStackObservation MaxAndSkipObservation NormalizeObservation "
    "TimeAwareObservation",
    "stateful_reward": "NormalizeReward",
    "transform_action": "ClipAction DiscretizeAction RescaleAction",
    "transform_observation": "AddRenderObservation DiscretizeObservation DtypeObservation FilterObservation "
    "FlattenObservation GrayscaleObservation RescaleObservation ReshapeObservation ResizeObservation",
    "transform_reward": "ClipReward",
}

ENV_WRAPPERS = frozenset().union(
    *(_names("gymnasium.wrappers", f"gymnasium.wrappers.{module}", classes=of) for module, of in _GYMNASIUM.items()),
    _names(
        "rl_zoo3.wrappers",
        classes="YAMLCompatResizeObservation TruncatedOnSuccessWrapper ActionNoiseWrapper ActionSmoothingWrapper "
        "DelayedRewardWrapper HistoryWrapper HistoryWrapperObsDict FrameSkip MaskVelocityWrapper",
    ),
    _names("rl_zoo3.utils", classes="flatten_dict_observations"),
    _names(
        "stable_baselines3.common.atari_wrappers",
        classes="StickyActionEnv NoopResetEnv FireResetEnv EpisodicLifeEnv MaxAndSkipEnv ClipRewardEnv WarpFrame "
        "AtariWrapper",
    ),
    _names("sb3_contrib.common.wrappers", classes="TimeFeatureWrapper"),
    _names("minigrid.wrappers", classes="FlatObsWrapper"),
)
VEC_ENV_WRAPPERS = _names("sb3_mdpo.envs", "sb3_mdpo.envs.native", classes="native_vec_env") | _names(
    "stable_baselines3.common.vec_env",
    classes="VecCheckNan VecExtractDictObs VecFrameStack VecNormalize VecTransposeImage",
)
CALLBACKS = frozenset().union(
    _names("sb3_mdpo.common.callbacks", classes="BudgetCallback HParamCallback"),
    _names(
        "sb3_mdpo.persistence.checkpoints",
        "sb3_mdpo.persistence.checkpoints.callback",
        classes="ResumableCheckpointCallback",
    ),
    _names("sb3_mdpo.lab.generalization", "sb3_mdpo.lab.generalization.callback", classes="GeneralizationEvalCallback"),
    _names("rl_zoo3.callbacks", classes="ParallelTrainCallback RawStatisticsCallback SaveVecNormalizeCallback"),
    _names(
        "stable_baselines3.common.callbacks",
        classes="CheckpointCallback EvalCallback EveryNTimesteps LogEveryNTimesteps ProgressBarCallback "
        "StopTrainingOnMaxEpisodes StopTrainingOnNoModelImprovement StopTrainingOnRewardThreshold",
    ),
)
POLICIES = (
    _names("sb3_mdpo", "sb3_mdpo.common.policies", classes="ImpalaCnnPolicy StridedCnnPolicy")
    | _names("stable_baselines3.ppo", "stable_baselines3.ppo.policies", classes="MlpPolicy CnnPolicy MultiInputPolicy")
    | _names(
        "stable_baselines3.common.policies",
        classes="ActorCriticPolicy ActorCriticCnnPolicy MultiInputActorCriticPolicy",
    )
)

# By the key of config.yml under which the zoo imports
IMPORTED = {
    "env_wrapper": ENV_WRAPPERS,
    "vec_env_wrapper": VEC_ENV_WRAPPERS,
    "callback": CALLBACKS,
    "policy": POLICIES,
}

# Keys of config.yml whose texts the zoo evaluates, and the names that they may use
EVALUATED = ("normalize", "policy_kwargs", "monitor_kwargs", "replay_buffer_class", "replay_buffer_kwargs")
NAMES = frozenset().union(
    _names("nn", "th.nn", classes=" ".join(ACTIVATIONS)),
    _names("th.optim", classes=" ".join(OPTIMIZERS)),
    {"RMSpropTFLike"},
)

# Packages that gymnasium may import for ids like ale_py:ALE/Pong-v5
ENV_PACKAGES = frozenset({"ale_py"})
