"""What is carried over comes back: pictures, states, actions, grippers."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wambench.conventions import DROID, LIBERO
from wambench.interface import ControlConvention, InvalidPlan, Observation
from wambench.policies.remote import adapter as adapters
from wambench.policies.remote import translation
from wambench.policies.remote.adapter import GRIPPERS, Adapter


def seen(convention: ControlConvention, seed: int, count: int = 1) -> list[Observation]:
    """Returns random observations whose hand may be turned by any angle."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        images = {c: rng.integers(0, 255, (*convention.image_size, 3), dtype=np.uint8) for c in convention.cameras}
        where = translation.places(convention)
        state = rng.normal(size=max(part.stop for part in where.values()))
        state[where["eef_axis_angle"]] = Rotation.random(random_state=seed).as_rotvec()
        frames.append(Observation(4 * i, images, state))
    return frames


def alike(adapter: Adapter) -> Adapter:
    """Returns the adapter as a server tells it: pictures in the policy's size, everything since the last call."""
    images = {key: dataclasses.replace(picture, size=None) for key, picture in adapter.images.items()}
    vectors = {key: dataclasses.replace(vector, dtype="float64") for key, vector in adapter.vectors.items()}
    return dataclasses.replace(adapter, images=images, vectors=vectors, history=(), everything=True)


@pytest.mark.parametrize("name", ["libero", "gr00t-libero", "vla-eval", "roboarena", "roboarena-velocity"])
@pytest.mark.parametrize("seed", range(4))
def test_a_message_is_read_back(name: str, seed: int) -> None:
    """These adapters carry the whole observation; Euler angles and turned axes cost rounding alone."""
    adapter = alike(adapters.load(name))
    frames = seen(adapter.convention, seed, count=3)
    asked = translation.message(adapter, "go", frames)
    back = translation.observations(adapter, asked, [frame.step for frame in frames])
    for one, other in zip(frames, back, strict=True):
        assert one.step == other.step
        assert all(np.array_equal(one.images[camera], other.images[camera]) for camera in one.images)
        assert np.allclose(one.state, other.state, atol=1e-9)


def test_what_no_vector_tells_is_nan() -> None:
    adapter = dataclasses.replace(alike(adapters.load("droid-position")), convention=DROID)
    small = dataclasses.replace(adapter.convention, cameras=("exterior_1", "wrist"))
    adapter = dataclasses.replace(adapter, convention=small)
    [frame] = seen(small, 0)
    [back] = translation.observations(adapter, translation.message(adapter, "go", [frame]), [0])
    assert np.allclose(back.state[:8], frame.state[:8]) and np.isnan(back.state[8:]).all()


@pytest.mark.parametrize("size", [(96, 96), (180, 320), (100, 40)])
def test_a_padded_picture_comes_back_without_its_bars(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 255 // size[0], columns * 255 // size[1], rows * 0 + 60], axis=2).astype(np.uint8)
    back = translation.received_picture(translation.resize_with_pad(image, 224, 224), size)
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image)[2:-2, 2:-2].max() <= 8, "smooth shades, twice interpolated"


def test_half_a_turn_does_not_jump() -> None:
    """Neighbouring rotations on both sides of half a turn have neighbouring numbers."""
    turns = [Rotation.from_rotvec([angle, 0.05, 0.02]).as_rotvec() for angle in (np.pi - 0.02, np.pi + 0.02)]
    assert np.abs(turns[0] - turns[1]).max() > 6, "ours jump"
    vector = adapters.load("libero").vectors["observation/state"]
    states = [np.array([0, 0, 0, *turn, 0, 0]) for turn in turns]
    sent = [translation.sent_vector(vector, state, LIBERO)[3:6] for state in states]
    assert np.abs(sent[0] - sent[1]).max() < 0.1
    for turn, numbers in zip(turns, sent, strict=True):
        assert (Rotation.from_rotvec(numbers) * Rotation.from_rotvec(turn).inv()).magnitude() < 1e-6


@pytest.mark.parametrize(("theirs", "ours"), list(itertools.product(GRIPPERS, GRIPPERS)))
def test_grippers_mean_the_same_in_every_word(theirs: str, ours: str) -> None:
    commands = np.array(GRIPPERS[theirs])
    assert translation.gripper(commands, theirs, ours).tolist() == list(GRIPPERS[ours])
    halfway = np.array([0.25 * commands[0] + 0.75 * commands[1]])
    assert np.allclose(translation.gripper(halfway, theirs, ours), 0.25 * GRIPPERS[ours][0] + 0.75 * GRIPPERS[ours][1])
    assert translation.gripper(halfway, theirs, ours, 0.5).tolist() == [GRIPPERS[ours][1]]


def test_a_gripper_out_of_range_is_cut() -> None:
    assert translation.gripper(np.array([-3.0, 3.0]), "close_positive", "closed_is_1").tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", adapters.shipped())
def test_actions_come_back(name: str) -> None:
    adapter = adapters.load(name)
    rng = np.random.default_rng(0)
    ours = rng.uniform(*adapter.convention.limits(), (12, adapter.convention.action_dim))
    ours[:, -1] = np.array(GRIPPERS[adapter.convention.gripper])[rng.integers(0, 2, 12)]
    assert np.allclose(translation.actions(adapter, translation.sent_actions(adapter, ours)), ours)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"actions": "left"}, "the answer's actions are no numbers"),
        ({"actions": [[0.0] * 7, [0.0] * 6]}, "the answer's actions are no numbers"),
        ({"actions": np.zeros((0, 6))}, "expected (H, 7)"),
        ({"actions": np.zeros((2, 3, 7))}, "actions have shape (2, 3, 7)"),
        ({"actions": np.full((4, 7), np.inf)}, "actions hold NaN or infinity"),
        ([1, 2], "the answer has no 'actions'; it has: list"),
    ],
)
def test_an_answer_that_is_none_is_refused(answer: object, said: str) -> None:
    with pytest.raises(InvalidPlan, match=r".") as refused:
        translation.actions(adapters.load("libero"), answer)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("video", "offsets", "said"),
    [
        (np.zeros((2, 4, 4, 3)), None, "video is float64"),
        (np.zeros((2, 4, 4), np.uint8), None, r"expected uint8 \(T, H, W, 3\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), [4], "video has 2 frames and 1 steps"),
    ],
)
def test_frames_that_are_none_are_refused(video: np.ndarray, offsets: list[int] | None, said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        translation.imagined(adapters.load("libero"), {"video": video}, 0, offsets)
