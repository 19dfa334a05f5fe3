"""What `wambench imagine` says of videos whose faults are planted: perfect, still, late, blurred, drifting."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from wambench import cli, tasks
from wambench.analysis import imagination
from wambench.envs.episodes import episode_spec
from wambench.evaluation.imagined_video import video_errors
from wambench.interface import Chunk, ControlConvention, Episode, Observation, Plan
from wambench.records import encode_episode

SPEC = episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)
CONVENTION = ControlConvention()
AHEAD = (8, 16)
SIDE = 48
Video = Callable[[int, int], np.ndarray]  # (step of the query, step of the frame) -> frame


def room(step: float) -> np.ndarray:
    """Returns a view in which a bright square with a sharp edge has moved by half a pixel a step."""
    view = np.full((SIDE, SIDE, 3), 90, np.uint8)
    at = round(0.5 * step)
    view[16:32, at : at + 12] = (230, 60, 40)
    return np.concatenate([view, view], axis=1)


def episode(video: Video, moves: bool = True, seed: int = 0) -> Episode:
    """Returns an episode whose hand moves 3 mm a step, or rests, with two imagined frames a query."""

    def shown(step: int) -> np.ndarray:
        return room(step if moves else 0)

    def observed(step: int) -> Observation:
        state = np.zeros(8)
        state[0] = 0.003 * step if moves else 0.0
        view = shown(step)[:, :SIDE]
        return Observation(step, {"agentview": view, "wrist": view}, state)

    chunks = []
    for step in range(0, 40, 4):
        frames = np.stack([video(step, step + ahead) for ahead in AHEAD])
        at = np.array([step + ahead for ahead in AHEAD])
        chunks.append(Chunk(step, b"", Plan(np.zeros((16, 7)), 4, frames, at), np.zeros((4, 7)), 0.0))
    seen = tuple(observed(step) for step in range(0, 60, 4))
    spec = dataclasses.replace(SPEC, seed=seed)
    return Episode(spec, "ok", "", 0.0, False, False, (), 56, 0.0, tuple(chunks), seen)


def summary(video: Video, moves: bool = True) -> dict[float, Any]:
    frame = pd.DataFrame([vars(score) for score in imagination.score_episode(episode(video, moves))])
    return {row["seconds"]: row for row in imagination.summarise(frame).to_dict("records")}


def test_a_perfect_video() -> None:
    for row in summary(lambda step, at: room(at)).values():
        assert row["skill"] == row["nearer"] == row["ssim"] == row["edges"] == 1.0
        assert row["psnr_db"] == np.inf and row["linear_skill"] < 1.0 and row["moving"] == row["n"] == 10


def test_a_still_video_has_no_skill() -> None:
    for row in summary(lambda step, at: room(step)).values():
        assert row["skill"] == row["nearer"] == 0.0
        assert row["psnr_db"] == row["psnr_kept_db"] and row["ssim"] == row["ssim_kept"]


def test_a_late_video_loses_more_than_half_and_a_reversed_one_is_worse_than_still() -> None:
    late = summary(lambda step, at: room(step + (at - step) / 2))
    early = summary(lambda step, at: room(step + 0.75 * (at - step)))
    back = summary(lambda step, at: room(max(0, step - (at - step))))
    for seconds in (0.4, 0.8):
        assert 0.0 < late[seconds]["skill"] < early[seconds]["skill"] < 1.0
        assert back[seconds]["skill"] < 0.0
        assert late[seconds]["nearer"] == 1.0


def test_blur_costs_edges_and_little_skill() -> None:
    def blurred(step: int, at: int) -> np.ndarray:
        return gaussian_filter(room(at).astype(float), (3.0, 3.0, 0)).astype(np.uint8)

    for row in summary(blurred).values():
        assert row["skill"] > 0.7 and row["edges"] < 0.85 and row["ssim"] < 0.97


def test_a_video_that_trembles_while_the_robot_rests() -> None:
    calm = summary(lambda step, at: room(0), moves=False)
    trembling = summary(lambda step, at: np.clip(room(0).astype(int) + 7, 0, 255).astype(np.uint8), moves=False)
    for seconds in (0.4, 0.8):
        assert calm[seconds]["still"] == 10 and calm[seconds]["moving"] == 0 and calm[seconds]["still_grey"] == 0.0
        assert trembling[seconds]["still_grey"] == pytest.approx(7.0)
        assert np.isnan(trembling[seconds]["skill"])


def test_drift_shows_at_the_longer_horizon() -> None:
    found = summary(
        lambda step, at: room(step + (at - step) ** 2 / 16)
    )  # half as far after 8 steps, all of it after 16
    assert found[0.4]["skill"] < found[0.8]["skill"] == 1.0


def test_intervals_are_wider_with_fewer_episodes() -> None:
    def half(step: int, at: int) -> np.ndarray:
        return room(step + (at - step) / 2)

    many = [vars(s) for seed in range(8) for s in imagination.score_episode(episode(half, seed=seed))]
    frames = [pd.DataFrame(rows) for rows in (many[:20], many)]
    few, all_of_them = (imagination.skill(frame) for frame in frames)
    assert few.high - few.low > all_of_them.high - all_of_them.low > 0.0
    assert few.low <= few.mean <= few.high


def test_runs_are_read_and_what_has_no_video_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "episodes"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="no imagined frames at"):
        imagination.score_runs([tmp_path / "run"])
    recorded = encode_episode(episode(lambda step, at: room(at)), ("agentview", "wrist"))
    (folder / "a.npz").write_bytes(recorded)
    scores = imagination.score_runs([tmp_path / "run"])
    assert len(scores) == 20 and set(scores["ahead"]) == set(AHEAD)
    said = imagination.to_text(imagination.summarise(scores))
    assert "0.4 s ahead: 10 frames, 10 with a hand that moves 20 mm or more" in said
    assert "skill 1.00" in said and "tokenizer" not in said


def test_the_command_prints_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run" / "episodes"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "golden" / "episodes.csv", tmp_path / "run")
    (folder / "a.npz").write_bytes(encode_episode(episode(lambda step, at: room(at)), ("agentview", "wrist")))
    assert cli.main(["imagine", str(tmp_path / "run")]) in (0, None)
    assert "0.8 s ahead: 10 frames" in capsys.readouterr().out
    assert cli.main(["imagine", str(tmp_path / "run"), "--json"]) in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert [row["seconds"] for row in told["horizons"]] == [0.4, 0.8] and set(told) == {"horizons"}


def test_the_ceiling_is_that_of_the_reconstruction() -> None:
    def grey(frames: np.ndarray) -> np.ndarray:
        return np.full_like(frames, 90)

    scores = pd.DataFrame([vars(s) for s in imagination.score_episode(episode(lambda s, at: room(at)), grey)])
    row = imagination.summarise(scores).iloc[0]
    assert row["skill"] == 1.0 and row["ceiling_skill"] < 0.6


def test_the_row_of_an_episode_has_the_sums_of_its_scores() -> None:
    """The skill that a leaderboard forms from rows is that of the recordings."""
    late = episode(lambda step, at: room(at - 3), seed=4)
    scores = pd.DataFrame([vars(score) for score in imagination.score_episode(late)])
    near = scores[(scores["ahead"] == 8) & (scores["hand_m"] >= imagination.MOVES_M)]
    assert dataclasses.astuple(video_errors(late, CONVENTION)) == pytest.approx(
        (len(near), near["imagined"].sum(), near["kept"].sum())
    )
    still = video_errors(episode(lambda step, at: room(at), moves=False), CONVENTION)
    assert (still.video_frames, still.video_error, still.kept_error) == (0, 0.0, 0.0)


def test_a_policy_without_video_has_no_sums() -> None:
    made = episode(lambda step, at: room(at))
    chunks = tuple(dataclasses.replace(chunk, plan=Plan(chunk.plan.actions)) for chunk in made.chunks)
    assert math.isnan(video_errors(dataclasses.replace(made, chunks=chunks), CONVENTION).video_error)
