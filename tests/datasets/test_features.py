"""Features of a dataset follow from the control convention, for both robots."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from tests.datasets.conftest import needs
from wambench.conventions import CONVENTIONS, DROID
from wambench.datasets import features as module
from wambench.datasets.features import V21, V30, Schema
from wambench.datasets.lerobot_folder import is_lerobot
from wambench.interface import ControlConvention

pytestmark = needs("av", "pyarrow")


def schema(convention: ControlConvention, form: str = V21) -> Schema:
    even = dataclasses.replace(convention, image_size=(180, 320))
    return Schema(even, "Panda", round(convention.control_hz), True, form)


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("form", module.FORMATS)
def test_every_number_has_a_name_and_a_slice(name: str, form: str) -> None:
    own = schema(CONVENTIONS[name], form)
    found = module.features(own)
    assert len(found["action"]["names"]) == own.convention.action_dim == found["executed"]["shape"][0]
    assert len(set(found["observation.state"]["names"])) == found["observation.state"]["shape"][0]
    assert {f"observation.images.{camera}" for camera in own.convention.cameras} <= set(found)
    assert not any("/" in key for key in found)
    assert (module.ANNOTATION in found) == (form == V21)
    cut = module.modality(own)
    for kind, feature in (("state", "observation.state"), ("action", "action")):
        ends = [(part["start"], part["end"]) for part in cut[kind].values()]
        assert ends[0][0] == 0 and ends[-1][1] == found[feature]["shape"][0]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))
    assert {one["original_key"] for one in cut["video"].values()} <= set(found)


def test_droid_data_have_the_names_of_its_checkpoints() -> None:
    cut = module.modality(schema(DROID))
    assert list(cut["video"]) == ["exterior_image_1_left", "exterior_image_2_left", "wrist_image_left"]
    assert list(cut["action"]) == ["joint_position", "gripper_position"]
    assert cut["state"]["gripper_position"] == {"start": 7, "end": 8}


def test_a_policy_of_lerobot_takes_one_action() -> None:
    """LeRobot counts every feature whose name begins with "action" as one, and "observation." as an input."""
    found = module.features(schema(ControlConvention(), V30))
    assert [key for key in found if key.startswith("action")] == ["action"]
    assert [key for key in found if key.startswith("observation.") and "images" not in key] == ["observation.state"]


def test_unknown_words_are_named() -> None:
    with pytest.raises(ValueError, match="unknown kind of action 'joint_torque'"):
        schema(ControlConvention(action="joint_torque"))
    strange = schema(ControlConvention(state=("eef_poses",), rotation="none"))
    with pytest.raises(ValueError, match="did you mean 'eef_pos'"):
        module.features(strange)
    with pytest.raises(ValueError, match="must be even"):
        Schema(ControlConvention(image_size=(95, 96)), "Panda", 20, True, V30)
    assert is_lerobot("lerobot://data") and not is_lerobot("data/lerobot")
