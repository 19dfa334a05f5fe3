"""A window on the screen for `render_mode="human"`; pygame draws it, as in Gymnasium's own environments."""

from __future__ import annotations

import importlib
import os
from typing import Any

import gymnasium
import numpy as np

INVISIBLE = ("offscreen", "dummy")  # what SDL draws into unseen; nobody's wish unless SDL_VIDEODRIVER says so
NO_DISPLAY = "; without a screen use render_mode='rgb_array', and gymnasium.wrappers.RecordVideo for a film"


class Window:
    """Shows one picture after another at a steady pace. A process has one window.

    Args:
        title: Its title.
        fps: Pictures per second; `show` waits as long as is left until the next one is due.

    Raises:
        gymnasium.error.DependencyNotInstalled: pygame is missing.
        RuntimeError: There is no display.
    """

    def __init__(self, title: str, fps: float) -> None:
        try:
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
            self._pygame: Any = importlib.import_module("pygame")
        except ImportError as error:
            raise gymnasium.error.DependencyNotInstalled(
                'render_mode="human" needs pygame: pip install "wambench[view]"'
            ) from error
        # The window is painted by the processor: OpenGL of its own could not be current beside the renderer's.
        os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
        try:
            self._pygame.display.init()
        except self._pygame.error as error:
            raise RuntimeError(f'render_mode="human" finds no display ({error}){NO_DISPLAY}') from error
        driver = self._pygame.display.get_driver()
        if driver in INVISIBLE and driver != os.environ.get("SDL_VIDEODRIVER"):
            self._pygame.display.quit()
            raise RuntimeError(f'render_mode="human" finds no display (SDL would draw {driver}){NO_DISPLAY}')
        self._title, self._fps = title, fps
        self._clock = self._pygame.time.Clock()
        self._surface: Any = None

    def show(self, picture: np.ndarray) -> None:
        """Shows an (h, w, 3) uint8 picture, row 0 at the top."""
        size = (picture.shape[1], picture.shape[0])
        if self._surface is None or self._surface.get_size() != size:
            self._surface = self._pygame.display.set_mode(size)
            self._pygame.display.set_caption(self._title)
        self._pygame.surfarray.blit_array(self._surface, picture.swapaxes(0, 1))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Closes the window."""
        self._pygame.display.quit()
        self._surface = None
