"""Pictures of Procgen for people, drawn only when somebody looks."""

from typing import Any

from numpy.typing import NDArray

from sb3_mdpo.envs.procgen_options import ProcgenOptions


class Painter:
    """
    Draws the present states of an engine at 512x512 pixels.

    An engine that draws for people does so at every step, which makes it very slow.
    This keeps a second engine that is shown the states of the first one instead; a test holds its
    pictures to be the same pixel by pixel.

    :param options: options of the engine whose states will be drawn
    :param num: its number of environments
    """

    def __init__(self, options: ProcgenOptions, num: int) -> None:
        self.options = options
        self.num = num
        self._easel: Any = None

    def draw(self, engine: Any) -> list[NDArray[Any]]:
        """
        :param engine: the engine, a ``ProcgenGym3Env``
        :return: a picture of each environment, shape ``(512, 512, 3)``
        """
        if self.options.use_generated_assets:
            # Such states cannot be saved (the engine aborts): enlarge what the agent sees
            _, observations, _ = engine.observe()
            return list(observations["rgb"].repeat(8, axis=1).repeat(8, axis=2))
        if self._easel is None:
            self._easel = self.options.engine(self.num, seed=0, num_threads=0, render=True)
        self._easel.set_state(engine.get_state())
        return [info["rgb"] for info in self._easel.get_info()]

    def close(self) -> None:
        """Stop the second engine, if it was ever started."""
        if self._easel is not None:
            self._easel.close()
            self._easel = None
