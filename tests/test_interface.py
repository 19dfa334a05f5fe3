"""Values that are handed over: conventions that make no sense are refused, and nobody can write into an observation."""

import copy
import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest

from wambench.conventions import DROID, DROID_VELOCITY
from wambench.interface import ControlConvention, Observation, mismatches

BAD: list[tuple[dict[str, Any], str]] = [
    ({"video_hz": 15}, "video_hz must divide control_hz: 15 does not divide 20; the nearest rate that does is 20"),
    ({"video_hz": 3}, "3 does not divide 20; the nearest rate that does is 2.85714"),
    ({"video_hz": 40}, "40 does not divide 20; the nearest rate that does is 20"),
    ({"video_hz": 0}, "video_hz must be a positive number, not 0"),
    ({"video_hz": float("nan")}, "video_hz must be a positive number, not nan"),
    ({"video_hz": "5"}, "video_hz must be a positive number, not '5'"),
    ({"control_hz": -20.0}, "control_hz must be a positive number, not -20.0"),
    ({"image_size": (96,)}, "image_size must be .height, width., two positive integers"),
    ({"image_size": (96, 0)}, "image_size must be .height, width., two positive integers"),
    ({"image_size": (96, 96.5)}, "image_size must be .height, width., two positive integers"),
    ({"image_size": (True, 96)}, "image_size must be .height, width., two positive integers"),
    ({"image_size": 96}, "image_size must be a tuple, not 96"),
    ({"cameras": ()}, "cameras must name at least one camera"),
    ({"cameras": "wrist"}, "cameras must be a tuple, not 'wrist'"),
    ({"cameras": ("wrist", "wrist")}, "cameras must be different words"),
    ({"cameras": ("wrist", 3)}, "cameras must be different words"),
    ({"action_dim": 0}, "action_dim must be a positive integer, not 0"),
    ({"action": ""}, "action must be a word, not ''"),
    ({"action_frame": None}, "action_frame must be a word, not None"),
    ({"gripper": 1}, "gripper must be a word, not 1"),
    ({"rotation": "rotation_6"}, "unknown rotation 'rotation_6'; did you mean 'rotation_6d'"),
    ({"state": ("eef_pos", "")}, "state must be different words"),
    ({"rotation": "rotation_6d", "state": ("eef_pos", "eef_axis_angle")}, "but state holds 'eef_axis_angle'"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[str(values) for values, _ in BAD])
def test_a_convention_that_makes_no_sense_is_refused_where_it_is_made(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ControlConvention(**values)


@pytest.mark.parametrize("video_hz", [20, 10.0, 5, 4, 2, 1, 20 / 3])
def test_rates_that_divide_are_accepted(video_hz: float) -> None:
    assert ControlConvention(video_hz=video_hz).frame_stride == round(20 / video_hz)


def test_every_field_is_checked() -> None:
    assert {name for values, _ in BAD for name in values} == {f.name for f in dataclasses.fields(ControlConvention)}


def test_a_convention_survives_json() -> None:
    for convention in (ControlConvention(), ControlConvention(rotation="rotation_6d")):
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(convention)))
        assert ControlConvention(**values) == convention


def test_the_state_follows_the_rotation_and_a_mismatch_names_both() -> None:
    ours, theirs = ControlConvention(), ControlConvention(rotation="rotation_6d")
    assert ours.state == ("eef_pos", "eef_axis_angle", "gripper_qpos")
    assert theirs.state == ("eef_pos", "eef_rotation_6d", "gripper_qpos")
    assert mismatches(ours, theirs)[0] == "rotation: the environment has 'axis_angle', the policy expects 'rotation_6d'"
    assert len(mismatches(ours, theirs)) == 2


def observation() -> Observation:
    return Observation(3, {"wrist": np.full((2, 2, 3), 7, np.uint8)}, np.arange(8.0))


def again(value: Observation) -> Observation:
    made: Observation = pickle.loads(pickle.dumps(value))
    return made


@pytest.mark.parametrize("handed", [observation(), copy.deepcopy(observation()), again(observation())])
def test_an_observation_cannot_be_written_into(handed: Observation) -> None:
    state, image, images = handed.state, handed.images["wrist"], handed.images
    with pytest.raises(ValueError, match="read-only"):
        state -= 5
    with pytest.raises(ValueError, match="read-only"):
        image[:] = 0
    with pytest.raises(TypeError, match="item assignment"):
        images["wrist"] = image  # type: ignore[index]
    assert np.array_equal(handed.state, np.arange(8.0)) and handed.images["wrist"].min() == 7


def test_an_observation_copies_nothing() -> None:
    image, state = np.zeros((2, 2, 3), np.uint8), np.zeros(8)
    made = Observation(0, {"wrist": image}, state)
    assert np.shares_memory(made.images["wrist"], image) and np.shares_memory(made.state, state)
    image[0, 0, 0] = 1  # whoever made the array may go on writing
    assert made.images["wrist"][0, 0, 0] == 1


def test_state_of_droid_begins_with_what_its_actions_move() -> None:
    """Joints and gripper stand first, as in an action: DreamZero reads only these eight numbers."""
    assert DROID.state[:2] == ("joint_position", "gripper_position") and DROID.action_dim == 8
    assert mismatches(DROID, DROID_VELOCITY) == [
        "action: the environment has 'joint_position', the policy expects 'joint_velocity'"
    ]
