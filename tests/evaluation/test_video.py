"""The recorded video: real frames, and below them the newest prediction for the same control step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from tests.stubs import SMALL, LineSim, Steady
from wambench import policies, tasks
from wambench.envs.episodes import episode_spec
from wambench.evaluation.config import RunConfig
from wambench.evaluation.rollout import rollout
from wambench.evaluation.run import run
from wambench.evaluation.video import VideoRecorder
from wambench.interface import EpisodeSpec, Observation, Plan
from wambench.records import load_episode

pytestmark = pytest.mark.slow


@pytest.fixture
def spec() -> EpisodeSpec:
    return episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)


class Far(Steady):
    """Carries out 4 of 8 actions, and imagines 8 and 16 steps ahead: as DreamZero does, in frames of its own shade."""

    def act(self, history: Sequence[Observation]) -> Plan:
        plan, now = super().act(history), history[-1].step
        frames = np.full((2, 8, 16, 3), 100 + now, np.uint8)
        frames[1] += 1
        return Plan(plan.actions, 4, frames, np.array([now + 8, now + 16]))


class Blind(Steady):
    """Imagines nothing."""

    def act(self, history: Sequence[Observation]) -> Plan:
        return Plan(super().act(history).actions)


def test_below_stands_the_newest_earlier_prediction(spec: EpisodeSpec) -> None:
    film = VideoRecorder(SMALL)
    rollout(LineSim(SMALL), Far(speed=0.1), spec, [film])
    assert {frame.shape for frame in film.frames} == {(16, 16, 3)}
    below = [int(frame[8:].max()) for frame in film.frames]
    # steps 0, 4, 8, ... : nothing is foreseen for 0 and 4; step 8 was foreseen at 0, step 12 at 4, and so on
    assert below == [0, 0, *range(100, 100 + 4 * (len(below) - 2), 4)] and len(below) == 11


def test_a_prediction_is_never_one_of_the_same_moment(spec: EpisodeSpec) -> None:
    """A frame for the step of the query, or for an earlier one, was seen and not foreseen."""

    class Looks(Steady):
        def act(self, history: Sequence[Observation]) -> Plan:
            plan, now = super().act(history), history[-1].step
            return Plan(plan.actions, None, np.full((1, 8, 16, 3), 255, np.uint8), np.array([now]))

    film = VideoRecorder(SMALL)
    rollout(LineSim(SMALL), Looks(), spec, [film])
    assert max(int(frame[8:].max()) for frame in film.frames) == 0


def test_a_policy_without_video_has_no_empty_row(spec: EpisodeSpec) -> None:
    film = VideoRecorder(SMALL)
    rollout(LineSim(SMALL), Blind(), spec, [film])
    assert {frame.shape for frame in film.frames} == {(8, 16, 3)}


@pytest.mark.parametrize("policy", ["dreamzero", "l1"])
def test_what_the_shipped_policies_imagine_is_in_their_video(policy: str, tmp_path: Path) -> None:
    """One real episode of a shipped policy in the real simulator, read back from its mp4."""
    config = RunConfig.resolve(policy, "seen", ("PressButton",), episodes=1, record_video=True, out=tmp_path / "run")
    (row,) = run(config)
    assert row.status == "ok", row.error
    stem = f"{row.task}.none.0"
    frames = np.stack(imageio.mimread(config.folder / "videos" / f"{stem}.mp4", memtest=False))
    convention = policies.load(policy).convention
    height, width = convention.image_size[0], convention.image_size[1] * len(convention.cameras)
    episode = load_episode(config.folder / "episodes" / f"{stem}.npz")
    if policy == "l1":
        assert frames.shape[1:3] == (height, width), "a policy without video has one row"
        return
    assert frames.shape[1:3] == (2 * height, width)
    steps = episode.chunks[0].plan.frame_steps
    assert steps is not None
    first = int(steps.min()) // convention.frame_stride
    brightness = frames[:, height:].mean(axis=(1, 2, 3))
    assert brightness[:first].max() < 5, "nothing was foreseen so early"
    assert brightness[first:].min() > 30, "from then on there is a prediction for every frame"
    difference = np.abs(frames[first:, :height].astype(float) - frames[first:, height:]).mean()
    assert difference < 30, "and it looks like the scene"
    assert json.loads((config.folder / "run.json").read_text())["corpus"] == "demos+video"
