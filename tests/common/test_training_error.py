"""Callbacks hear of what ends a training, once, before it leaves learn()."""

import pytest
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
)

from sb3_mdpo import MDPO
from sb3_mdpo.common.callback_tree import walk_callbacks
from tests.support.training import cartpole, small


class Witness(BaseCallback):
    """Remembers what it was told, and raises at a step where there is something to raise."""

    def __init__(self, to_raise: BaseException | None = None) -> None:
        super().__init__()
        self.to_raise = to_raise
        self.told: list[BaseException] = []
        self.ended = False

    def _on_step(self) -> bool:
        if self.to_raise is not None and self.n_calls == 5:
            raise self.to_raise
        return True

    def _on_training_end(self) -> None:
        self.ended = True

    def on_training_error(self, error: BaseException) -> None:
        self.told.append(error)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_callbacks_are_told_once_before_the_error_goes_on(kind):
    error = kind("stop")
    outer, inner, after_eval, on_best = Witness(error), Witness(), Witness(), Witness()
    evaluation = EvalCallback(
        cartpole(1), callback_on_new_best=on_best, callback_after_eval=after_eval, eval_freq=10_000
    )
    callbacks = [outer, EveryNTimesteps(1000, CallbackList([inner, outer])), evaluation, StopTrainingOnMaxEpisodes(999)]
    with pytest.raises(kind) as caught:
        small(MDPO).learn(256, callback=callbacks)
    assert caught.value is error
    for witness in (outer, inner, after_eval, on_best):
        assert witness.told == [error]
        assert not witness.ended


def test_an_error_in_the_update_is_told_as_well(monkeypatch):
    error, witness, mdpo = ZeroDivisionError(), Witness(), small(MDPO)
    monkeypatch.setattr(mdpo, "train", lambda: (_ for _ in ()).throw(error))
    with pytest.raises(ZeroDivisionError):
        mdpo.learn(256, callback=witness, progress_bar=False)
    assert witness.told == [error]
    assert mdpo.num_timesteps == 64


def test_a_training_without_error_tells_nothing_and_the_next_one_forgets_its_callbacks(monkeypatch):
    witness, mdpo = Witness(), small(MDPO)
    mdpo.learn(64, callback=witness)
    assert witness.ended
    monkeypatch.setattr(mdpo.env, "reset", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mdpo.learn(64)
    assert witness.told == []


def test_a_model_is_saved_while_it_learns_without_its_callbacks(tmp_path):
    class Saving(Witness):
        def _on_rollout_end(self) -> None:
            self.model.save(tmp_path / "model.zip")

    unpicklable = Saving()
    unpicklable.told = (_ for _ in ())  # type: ignore[assignment]
    small(MDPO).learn(64, callback=unpicklable)
    assert "_callback" not in vars(MDPO.load(tmp_path / "model.zip"))


def test_a_function_and_a_progress_bar_are_walked():
    _, callback = small(MDPO)._setup_learn(64, lambda *_: True, progress_bar=True)
    names = [type(one).__name__ for one in walk_callbacks(callback)]
    assert names == ["CallbackList", "ConvertCallback", "ProgressBarCallback"]
