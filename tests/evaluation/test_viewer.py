"""`--view`: a window on the screen, or one clear line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wambench.evaluation.viewer import Viewer
from wambench.evaluation.worker import Player, tabletop
from wambench.interface import ControlConvention, Observation, Outcome


def outcome(shade: int) -> Outcome:
    view = np.full((96, 96, 3), shade, np.uint8)
    seen = Observation(0, {"agentview": view, "wrist": view // np.uint8(2)}, np.zeros(8))
    return Outcome((seen,), 0, 0.0, (), False, False, False, False)


def test_the_window_shows_what_the_policy_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame", reason="a window needs wambench[view]")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    viewer = Viewer(ControlConvention())
    viewer(None, outcome(200))
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert shown.shape == (384, 768, 3) and shown[0, 0, 0] == 200 and shown[0, -1, 0] == 100
    pygame.display.quit()


def test_no_display_is_said_before_the_first_episode(
    config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pygame", reason="a window needs wambench[view]")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    player = Player(config("noop", workers=1, view=True), tabletop)
    with pytest.raises(ValueError, match=r"--view: a window finds no display .*; --film"):
        player.describe("PressButton")


def test_a_window_is_for_one_worker(config: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="give --workers 1"):
        config(workers=2, view=True)
