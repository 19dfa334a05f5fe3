"""Which object an instruction names."""

from __future__ import annotations

import pytest

from wambench import tasks
from wambench.envs.naming import movable, named_object

CUBES = ("red_cube", "blue_cube", "bin")


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("lift the red cube", "red_cube"),
        ("stack the red cube on the blue cube", "red_cube"),
        ("place the blue cube in the bin, then lift the red cube", "blue_cube"),
        ("place it in the bin", ""),  # a bin stands where it is
        ("lift the left cube", ""),
        ("clear the table: the red cube goes in the bin", ""),  # a list has no order
        ("lift the red cubes", ""),
    ],
)
def test_the_first_movable_object_in_the_words_is_named(said: str, named: str) -> None:
    assert named_object(CUBES, said) == named


def test_every_task_names_what_its_hand_begins_with() -> None:
    named = {task.name: named_object(task.objects, task.instruction) for task in tasks.TASKS.values()}
    assert {name: named[name] for name in tasks.SEEN_V1} == {
        "LiftCube": "red_cube", "PlaceInBin": "red_cube", "PlaceOnPlate": "red_cube", "StackCubes": "red_cube",
        "PushCube": "red_cube", "OpenDrawer": "drawer", "CloseDrawer": "drawer", "PressButton": "button",
        "BusTable": "",
    }  # fmt: skip
    assert (named["CoverPan"], named["OpenThenPress"], named["PressCount"]) == ("lid", "drawer", "button")
    assert [named[name] for name in ("LiftLeftCube", "SetTable", "CookTomato", "SweepDice")] == [""] * 4
    assert all(not name or movable(name) for name in named.values())
