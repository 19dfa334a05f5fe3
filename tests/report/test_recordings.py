from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable

import numpy as np
import pytest

from tests.stubs import SMALL, LineSim, Steady
from wambench import tasks
from wambench.cli import parser
from wambench.commands.arguments import fields_of
from wambench.envs import snapshot
from wambench.envs.episodes import episode_spec
from wambench.evaluation.config import RunConfig
from wambench.evaluation.rollout import rollout
from wambench.interface import Chunk, Episode, Plan
from wambench.records import Row
from wambench.report import recordings

Maker = Callable[..., RunConfig]
ROW = Row(
    "noop", "seen", "PressButton-v1", "press", "seen", "none", 0, 1, "0" * 16, "press the button", "ok", 0.0, False,
    False, "", 40, 5, 0.0, 0.0, 1.0, "",
)  # fmt: skip


@pytest.fixture(scope="module")
def episode() -> Episode:
    spec = episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)
    return rollout(LineSim(SMALL), Steady(), spec)


def test_film_shows_what_came_and_the_newest_prediction_for_the_same_step(episode: Episode) -> None:
    frames, asked = recordings.film(episode)
    assert len(frames) == len(asked) == len(episode.observations)
    half = (frames[0].shape[1] - recordings.GAP) // 2
    assert frames[0].shape == (2 * 192, 2 * half + recordings.GAP, 3) and half == 192
    assert asked[0] is None and (frames[0][:, half + recordings.GAP :] == recordings.NO_FRAME).all()
    for i, observation in enumerate(episode.observations[1:], start=1):
        step = asked[i]
        assert step is not None and step < observation.step <= step + 8 + 3  # the last one is off the video rate
        # the stub paints the step of its query into what it imagines
        assert frames[i][100, half + recordings.GAP + 50].tolist() == [step] * 3
        seen = observation.images["agentview"]
        column = int(np.argmax(seen[0, :, 0]))
        assert frames[i][12, column * 24 + 12, 0] > 200  # the bright column is where it was


def test_film_of_a_policy_without_imagination_has_one_half(episode: Episode) -> None:
    plain = [Chunk(c.step, c.state, Plan(c.plan.actions), c.executed, c.latency_s) for c in episode.chunks]
    frames, asked = recordings.film(Episode(**{**vars(episode), "chunks": tuple(plain)}))
    assert frames[0].shape == (384, 192, 3) and set(asked) == {None}


def test_marks_follow_the_recording(episode: Episode) -> None:
    marks = recordings.marks(episode)
    assert marks["steps"] == [observation.step for observation in episode.observations]
    assert marks["chunks"] == [chunk.step for chunk in episode.chunks]
    assert marks["curve"][0] == [0, 0.0] and marks["curve"][-1] == [episode.steps, episode.progress]
    assert marks["stages"] == [(episode.steps, "half", True), (episode.steps, "whole", True)]  # known at the end only


def test_stages_are_read_from_the_states_and_may_be_undone(episode: Episode) -> None:
    reached: list[list[str]] = [[], ["reach"], ["reach", "grasp"], ["reach"], ["reach", "grasp"]]
    held = {"reach": 9, "grasp": 9, "lift": 0}
    empty = np.zeros(0)
    states = [{"reached": names, "held": {**held, "lift": 4 * (i == 4)}} for i, names in enumerate(reached)]
    chunks = tuple(
        Chunk(8 * i, snapshot.pack(empty, empty, latches), Plan(np.zeros((8, 7))), np.zeros((8, 7)), 0.0)
        for i, latches in enumerate(states)
    )
    made = Episode(**{**vars(episode), "chunks": chunks, "steps": 40, "stages": ("reach", "grasp", "lift")})
    assert recordings.stage_marks(made) == [
        (8, "reach", True), (16, "grasp", True), (24, "grasp", False), (32, "grasp", True), (32, "lift", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 3, "visual": "full", "name": "mine"},
        {"policy": "dreamzero", "policy_args": {"weights": "a b.safetensors", "cfg": 1.5, "label": "7"}},
        {"execution": "rtc", "latency": "0.2", "replan": 4, "smooth": True},
        {"split": "unseen-envs", "factors": ("camera",)},
        {"instruction_of": "StackCubes"},
    ],
)
def test_command_plays_the_same_run(config: Maker, options: dict[str, object]) -> None:
    asked = config(**{"policy": "noop", **options})
    row = dataclasses.replace(ROW, factor=asked.factors[0], episode=2)
    words = shlex.split(recordings.replay_command(asked.recorded(), row))
    assert words[0] == "wambench"
    again = RunConfig.resolve(**fields_of(RunConfig, parser().parse_args(words[1:])))
    assert again.episodes == 3 and again.tasks == ("PressButton",)
    free = ("tasks", "episodes", "record_video")
    mine, theirs = ({k: v for k, v in c.recorded().items() if k not in free} for c in (again, asked))
    assert mine == theirs


def test_views_of_several_sizes_stand_below_each_other(episode: Episode) -> None:
    first = episode.observations[0]
    views = {"agentview": np.full((180, 320, 3), 9, np.uint8), "wrist": np.full((180, 240, 3), 7, np.uint8)}
    seen = (dataclasses.replace(first, images=views),)
    frames, _ = recordings.film(dataclasses.replace(episode, observations=seen, chunks=()))
    assert frames[0].shape == (360, 320, 3)
    assert frames[0][-1, 239].tolist() == [7] * 3 and frames[0][-1, 240].tolist() == [0] * 3
