from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from wambench import tasks
from wambench.attribution import sensitivity
from wambench.envs.episodes import episode_spec
from wambench.interface import Chunk, Episode, Observation, Plan

SPEC = episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)
AHEAD = np.array([8, 16])


def frame(grey: float) -> np.ndarray:
    return np.full((4, 4, 3), round(grey), np.uint8)


def episode(shift: int = 0, gain: float = 1.0) -> Episode:
    """Returns 40 queries in a room that grows brighter by 1 a step, foreseen `shift` steps late and by `gain`."""
    seen = tuple(Observation(s, {"agentview": frame(s), "wrist": frame(s)}, np.zeros(8)) for s in range(0, 180, 4))
    chunks = []
    for step in range(0, 160, 4):
        greys = step + gain * (AHEAD - shift)
        frames = np.stack([np.concatenate([frame(max(0, g))] * 2, axis=1) for g in greys])
        chunks.append(Chunk(step, b"", Plan(np.zeros((16, 7)), 4, frames, step + AHEAD), np.zeros((4, 7)), 0.0))
    return Episode(SPEC, "ok", "", 0.0, False, False, (), 176, 0.0, tuple(chunks), seen)


def test_error_grows_with_the_horizon_and_a_right_video_has_none() -> None:
    assert sensitivity.horizon([episode()]) == {8: (0.0, 8.0, 40), 16: (0.0, 16.0, 40)}
    half = sensitivity.horizon([episode(gain=0.5)])
    assert half[8][0] == pytest.approx(4.0) and half[16][0] == pytest.approx(8.0)
    assert half[16][1] == pytest.approx(16.0)


@pytest.mark.parametrize("shift", [0, 8])
def test_best_lag_is_where_the_frames_fit(shift: int) -> None:
    found = sensitivity.lags([episode(shift)])
    assert min(found, key=lambda lag: found[lag]) == -shift  # the picture of 8 steps ago was foreseen
    assert sensitivity.lags([dataclasses.replace(episode(), chunks=())]) == {}


class Listener:
    """Imagines a brightness that depends on the instruction and on the actions by known amounts."""

    def __init__(self, instruction: float, action: float) -> None:
        self.by_instruction, self.by_action = instruction, action

    def reset(self, instruction: str, seed: int) -> None:
        self.base = 100 + self.by_instruction * (instruction != SPEC.instruction) + 2 * (seed != SPEC.seed)

    def imagine(self, history: Sequence[Observation], actions: np.ndarray | None = None) -> np.ndarray:
        pushed = 0.0 if actions is None else self.by_action * float(actions.mean())
        return np.stack([np.concatenate([frame(self.base + pushed)] * 2, axis=1)] * 2)


class Deaf(Listener):
    def imagine(self, history: Sequence[Observation]) -> np.ndarray:  # type: ignore[override]
        return super().imagine(history)


def acting() -> Episode:
    one = episode()
    chunks = [dataclasses.replace(c, plan=dataclasses.replace(c.plan, actions=np.ones((16, 7)))) for c in one.chunks]
    return dataclasses.replace(one, chunks=tuple(chunks))


def test_sensitivity_tells_what_a_video_listens_to() -> None:
    rng = np.random.default_rng(0)
    for row in sensitivity.sensitivity(Listener(30, 5), [acting()], 6, rng):
        assert (row.instruction, row.action, row.noise) == (30.0, 10.0, 2.0)
        assert row.other != SPEC.instruction and row.other in {task.instruction for task in tasks.TASKS.values()}
    (row,) = sensitivity.sensitivity(Deaf(0, 0), [acting()], 1, rng)
    assert row.instruction == 0.0 and math.isnan(row.action)
    with pytest.raises(ValueError, match="has no imagine"):
        sensitivity.sensitivity(object(), [acting()], 1, rng)


def test_instructions_are_swapped_for_others_of_the_same_scene() -> None:
    rows = sensitivity.sensitivity(Listener(1, 1), [acting()], 20, np.random.default_rng(1))
    possible = {t.instruction for t in tasks.TASKS.values() if t.objects == tasks.find("LiftCube").objects}
    assert {row.other for row in rows} <= possible and len({row.other for row in rows}) > 1


def test_table_is_read_as_written(tmp_path: Path) -> None:
    rows = sensitivity.sensitivity(Listener(30, 5), [acting()], 3, np.random.default_rng(0))
    sensitivity.write(tmp_path / "table.csv", rows)
    assert sensitivity.read(tmp_path / "table.csv") == rows
    (tmp_path / "other.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="not a table of sensitivities"):
        sensitivity.read(tmp_path / "other.csv")


@pytest.mark.slow
def test_dreamzero_imagines_for_given_actions() -> None:
    """The shipped model: the same actions give the same frames, opposite ones others; bad shapes are not swallowed."""
    from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions

    policy = DreamZero(DreamZeroOptions(steps=1))
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for name in ("agentview", "wrist")}
    now = [Observation(0, images, np.array([0.0, 0.0, 1.0, np.pi, 0.0, 0.0, 0.04, -0.04]))]
    actions = np.zeros((16, 7))
    actions[:, 0] = 0.8
    futures = []
    for given in (actions, actions, -actions, None):
        policy.reset("lift the red cube", 0)
        futures.append(policy.imagine(now, given))
    assert np.array_equal(futures[0], futures[1])
    assert not np.array_equal(futures[0], futures[2]) and not np.array_equal(futures[0], futures[3])
