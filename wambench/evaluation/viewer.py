"""`wambench run --view`: what the policy sees, in a window, while it plays."""

from __future__ import annotations

import numpy as np

from wambench.interface import Chunk, ControlConvention, Outcome, canvas

HEIGHT = 384  # pixels that a view should have at least


class Viewer:
    """An observer of a rollout that shows every observation, at the rate of the video at most.

    Args:
        convention: Of the simulator.

    Raises:
        ValueError: There is no display, or pygame is missing.
    """

    def __init__(self, convention: ControlConvention) -> None:
        from wambench.envs.window import Window

        self._cameras = convention.cameras
        try:
            self._window = Window("wambench", convention.video_hz)
        except (RuntimeError, ImportError) as error:  # Gymnasium's error for a missing package is an ImportError
            reason = str(error).partition(";")[0].replace('render_mode="human"', "a window")
            raise ValueError(f"--view: {reason}; --film draws films without a screen") from error

    def __call__(self, chunk: Chunk | None, outcome: Outcome) -> None:
        """Shows what was observed since the last call."""
        for observation in outcome.observations:
            picture = canvas(observation, self._cameras)
            times = max(1, round(HEIGHT / len(picture)))
            self._window.show(np.repeat(np.repeat(picture, times, axis=0), times, axis=1))
