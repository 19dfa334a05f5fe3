"""Scores of imagined futures: key points in, numbers out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wambench import tasks
from wambench.policies.dreamzero import choice
from wambench.policies.dreamzero.choice import Goal
from wambench.policies.dreamzero.policy import WEIGHTS, load_nano
from wambench.policies.perception import word_embedding
from wambench.policies.perception.encoder import HAND
from wambench.policies.perception.scene import encode_words
from wambench.policies.weight_files import packaged

ROOT = Path(__file__).parents[3]

POINTS = ("red_cube", "blue_cube", "bin", "hand")


def scene(red: tuple[float, ...], hand: tuple[float, ...], presence: tuple[float, ...] = (1.0,) * 4) -> Tensor:
    """Returns (C, 4) key points with the blue cube at (0.3, 0, 0) and the bin at (0, 0.4, 0)."""
    xyz = torch.tensor([red, (0.3, 0.0, 0.0), (0.0, 0.4, 0.0), hand])
    return torch.cat([xyz, torch.tensor(presence)[:, None]], dim=1)


NOW = scene((0.0, 0.0, 0.0), (0.0, 0.0, 0.2))


def goal(instruction: str) -> Goal:
    return choice.goal_of(instruction, POINTS, encode_words([instruction], POINTS).slots[0])


@pytest.mark.parametrize(
    ("instruction", "effect"),
    [
        ("lift the red cube", "lift"),
        ("place the red cube in the bin", "bring"),
        ("push the red cube", "move"),  # nowhere in particular
        ("press the red cube", "touch"),
        ("admire the red cube", "touch"),  # a verb that nobody knows
        ("when the light is green, lift the red cube", "lift"),
    ],
)
def test_the_verb_says_what_becomes_of_the_object(instruction: str, effect: str) -> None:
    assert goal(instruction).effect == effect


def test_objects_are_the_first_and_the_last_that_are_named() -> None:
    it = goal("stack the red cube on the blue cube")
    assert POINTS[int(it.first.argmax())] == "red_cube" and POINTS[int(it.last.argmax())] == "blue_cube"
    with pytest.raises(ValueError, match="a goal needs the key point 'hand'; there are: red_cube"):
        choice.goal_of("lift the red cube", POINTS[:3], it.first.expand(2, -1)[:, :3])
    beside = (*POINTS, "finger_left")
    slots = encode_words(["lift the left cube"], beside).slots[0]
    assert slots[0, -1] > 0.4 and choice.goal_of("lift the left cube", beside, slots).first[-1] == 0.0


@pytest.mark.parametrize("task", [task for task in tasks.TASKS.values() if task.novelty not in ("memory", "dynamic")])
def test_the_table_knows_the_verb_of_every_task_that_stands_still(task: tasks.Task) -> None:
    assert any(word in choice.EFFECT_OF for word in word_embedding.words_of(task.instruction))


@pytest.mark.parametrize(
    ("instruction", "better", "worse"),
    [
        ("press the red cube", scene((0, 0, 0), (0, 0, 0.1)), scene((0, 0, 0), (0, 0, 0.2))),
        ("lift the red cube", scene((0, 0, 0.1), (0, 0, 0.1)), scene((0, 0, 0), (0, 0, 0))),
        ("lift the red cube", scene((0, 0, 0), (0, 0, 0.1)), scene((0, 0, 0), (0.1, 0.1, 0.1))),
        ("place the red cube in the bin", scene((0, 0.2, 0.1), (0, 0.2, 0.1)), scene((0, 0, 0), (0, 0, 0))),
        ("push the red cube", scene((0.1, 0, 0), (0.1, 0, 0)), scene((0, 0, 0), (0, 0, 0))),
    ],
)
def test_what_was_asked_scores_higher(instruction: str, better: Tensor, worse: Tensor) -> None:
    scores = choice.goal_scores(torch.stack([worse, better]), NOW, goal(instruction))
    assert scores[1] - scores[0] > 0.04


def test_scores_are_in_metres() -> None:
    ends = torch.stack([scene((0, 0, 0.1), (0, 0, 0.3)), scene((0, 0, 0), (0, 0, 0.01))])
    there = goal("lift the red cube")
    exact = Goal(there.effect, torch.eye(4)[0], torch.eye(4)[0], there.hand)
    expected = torch.tensor([0.1 - 0.2, -choice.REACHED_M])  # a hand 1 cm away is there
    torch.testing.assert_close(choice.goal_scores(ends, NOW, exact), expected)


def test_what_is_not_in_the_scene_prefers_nothing() -> None:
    ends = torch.stack([scene((0, 0, 0), (0, 0, 0.2)), scene((0, 0, 0.1), (0, 0, 0.1))])
    without = scene((0, 0, 0), (0, 0, 0.2), (0.0, 1.0, 1.0, 1.0))
    assert not choice.is_readable(goal("lift the red cube"), without)
    assert choice.goal_scores(ends, without, goal("lift the red cube")).tolist() == [0.0, 0.0]
    assert choice.is_readable(goal("lift the blue cube"), without)
    assert not choice.is_readable(goal("place the blue cube on the red cube"), without)
    assert not choice.is_readable(goal("wipe"), NOW)


def test_agreement_counts_what_is_in_the_scene() -> None:
    ends = torch.stack([scene((x, 0, 0), (x, 0, 0.2)) for x in (0.0, 0.1, 0.5)])
    assert int(choice.agreement_scores(ends, NOW).argmax()) == 1
    ends[1, 1, :3] = 100.0  # where the model puts an absent object means nothing
    without = scene((0, 0, 0), (0, 0, 0.2), (1.0, 0.0, 1.0, 1.0))
    assert int(choice.agreement_scores(ends, NOW).argmax()) != 1
    assert int(choice.agreement_scores(ends, without).argmax()) == 1


def test_choices_differ_and_lots_follow_their_generator() -> None:
    ends = torch.stack([scene((0, 0, 0), (0, 0, h)) for h in (0.21, 0.2, 0.1)])
    lots = [[_draw(ends, seed) for seed in range(30)] for _ in range(2)]
    assert lots[0] == lots[1] and set(lots[0]) == {0, 1, 2}
    generator = torch.Generator()
    assert choice.choose("agreement", ends, NOW, None, generator) == 1
    assert choice.choose("goal", ends, NOW, goal("press the red cube"), generator) == 2
    assert choice.choose("goal", ends, NOW, goal("press the drawer"), generator) == 0  # unreadable: its own


@pytest.mark.slow
def test_the_docs_name_the_tasks_whose_goal_cannot_be_read() -> None:
    points = load_nano(packaged(WEIGHTS))[0].config.points
    unread = {"seen": [], "unseen-tasks": []}  # type: dict[str, list[str]]
    for split, names in unread.items():
        for task in map(tasks.find, tasks.SPLITS[split].tasks):
            there = [float(name in HAND or name.split("/")[0] in task.objects) for name in points]
            now = torch.tensor([[0.0, 0.0, 0.0, presence] for presence in there])
            it = choice.goal_of(task.instruction, points, encode_words([task.instruction], points).slots[0])
            if not choice.is_readable(it, now):
                names.append(task.name)
    text = " ".join((ROOT / "docs" / "dreamzero.md").read_text().split())
    for split, names in unread.items():
        assert f"{len(names)} of {len(tasks.SPLITS[split].tasks)} tasks of `{split}` ({', '.join(names)})" in text


def _draw(ends: Tensor, seed: int) -> int:
    return choice.choose("random", ends, NOW, None, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("mode", "ablation", "said"),
    [("no_video", "none", "mode no_video"), ("joint", "no_key_points", "ablation no_key_points")],
)
def test_without_imagined_key_points_there_is_no_choice(mode: str, ablation: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}: no key points are imagined"):
        choice.check_imagines(mode, ablation)
    choice.check_imagines("joint", "separate")
