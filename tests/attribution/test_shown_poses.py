"""Frames that show what came are read exactly, those that show nothing are unread, and a late hand is found late."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from wambench import registration
from wambench.attribution import shown_poses
from wambench.envs.episodes import episode_spec
from wambench.interface import Chunk, Episode, Plan, canvas

pytestmark = pytest.mark.slow
AHEAD = (8, 16)


@pytest.fixture(scope="module")
def episode() -> Episode:
    """Returns an expert's episode with a query every 8 steps, each with the true future as its video."""
    env = registration.make("PushCube")
    spec = episode_spec(env.task, "seen", "none", 0, 0)
    seen = [env.begin(spec).observations[-1]]
    states = [env.snapshot()]
    for step in range(1, 49):
        env.advance(env.expert_action())
        if step % 8 == 0:
            seen.append(env.observe())
            states.append(env.snapshot())
    frames = [canvas(o, env.convention.cameras) for o in seen]
    chunks = []
    for i in range(len(seen) - 2):
        at = np.array([seen[i].step + ahead for ahead in AHEAD])
        plan = Plan(np.zeros((16, 7)), 8, np.stack(frames[i + 1 : i + 3]), at)
        chunks.append(Chunk(seen[i].step, states[i], plan, np.zeros((8, 7)), 0.0))
    silent = Plan(np.zeros((16, 7)), 8)
    chunks += [Chunk(seen[i].step, states[i], silent, np.zeros((8, 7)), 0.0) for i in range(len(seen) - 2, len(seen))]
    env.close()
    return Episode(spec, "ok", "", 0.0, False, False, (), 48, 0.0, tuple(chunks), tuple(seen))


def test_true_frames_are_read(episode: Episode) -> None:
    rows = shown_poses.read_episodes([episode], 3, np.random.default_rng(0))
    assert len(rows) == 6 and all(row.read for row in rows)
    assert max(row.hand_m for row in rows) < 0.005 < max(row.moved_m for row in rows)
    told = shown_poses.summarise(pd.DataFrame([vars(row) for row in rows]))
    assert told["ahead"].tolist() == list(AHEAD) and (told["read"] == 1.0).all()
    assert "8 steps ahead the instrument reads 1.00" in shown_poses.to_text(told)


def test_frames_that_show_nothing_are_unread(episode: Episode) -> None:
    rng = np.random.default_rng(0)
    shape = np.asarray(episode.chunks[0].plan.frames).shape
    frames = np.asarray(rng.integers(0, 256, shape), np.uint8)
    blind = replace(episode.chunks[0], plan=replace(episode.chunks[0].plan, frames=frames))
    only = replace(episode, chunks=(blind, *(replace(c, plan=Plan(np.zeros((16, 7)), 8)) for c in episode.chunks[1:])))
    rows = shown_poses.read_episodes([only], 1, np.random.default_rng(0))
    assert len(rows) == 2 and not any(row.read for row in rows) and all(np.isnan(row.hand_m) for row in rows)
    told = shown_poses.summarise(pd.DataFrame([vars(row) for row in rows]))
    assert (told["read"] == 0.0).all() and told["hand_mm"].isna().all() and "mm" not in shown_poses.to_text(told)


def test_a_late_video_shows_the_hand_where_it_was(episode: Episode) -> None:
    now = canvas(episode.observations[2], ("agentview", "wrist"))
    still = replace(episode.chunks[2], plan=replace(episode.chunks[2].plan, frames=np.stack([now, now])))
    only = replace(episode, chunks=(still, *(replace(c, plan=Plan(np.zeros((16, 7)), 8)) for c in episode.chunks[3:])))
    rows = shown_poses.read_episodes([only], 1, np.random.default_rng(0))
    assert len(rows) == 2
    for row in rows:
        assert row.read and row.hand_m == pytest.approx(row.moved_m, abs=0.003)


def test_without_video_there_is_nothing_to_read(episode: Episode) -> None:
    silent = tuple(replace(c, plan=Plan(np.zeros((16, 7)), 8)) for c in episode.chunks)
    with pytest.raises(ValueError, match="no recorded episode has imagined frames"):
        shown_poses.read_episodes([replace(episode, chunks=silent)], 1, np.random.default_rng(0))
