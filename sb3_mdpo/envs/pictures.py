"""Procgen images for rendering, drawn on request."""

from typing import Any

from numpy.typing import NDArray

from sb3_mdpo.envs.procgen_options import ProcgenOptions


class Painter:
    """
    Draws the current states of an engine at 512x512 pixels.

    An engine with rendering draws at every step, which is very slow. Instead, the states are copied to a second engine
    that draws them; a test compares the images pixel by pixel.

    :param options: options of the engine
    :param num: number of environments of the engine
    """

    def __init__(self, options: ProcgenOptions, num: int) -> None:
        self.options = options
        self.num = num
        self._easel: Any = None

    def draw(self, engine: Any) -> list[NDArray[Any]]:
        """
        :param engine: the engine, a ``ProcgenGym3Env``
        :return: an image of each environment, shape ``(512, 512, 3)``
        """
        if self.options.use_generated_assets:
            # These states cannot be saved (the engine aborts): enlarge the observations
            _, observations, _ = engine.observe()
            return list(observations["rgb"].repeat(8, axis=1).repeat(8, axis=2))
        if self._easel is None:
            self._easel = self.options.engine(self.num, seed=0, num_threads=0, render=True)
        self._easel.set_state(engine.get_state())
        return [info["rgb"] for info in self._easel.get_info()]

    def close(self) -> None:
        """Stop the second engine, if it was started."""
        if self._easel is not None:
            self._easel.close()
            self._easel = None
