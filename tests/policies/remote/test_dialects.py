"""Every dialect against a stand-in of the released server: what is asked, made of the answer, and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wambench.conventions import DROID, DROID_VELOCITY
from wambench.interface import InvalidPlan, Observation
from wambench.policies import load
from wambench.policies.remote.client import ServerFailed

pytest.importorskip("websockets", reason="needs wambench[remote]")
pytest.importorskip("zmq", reason="needs wambench[remote]")

from tests.policies.remote.stand_ins import gr00t, websocket

ROBOARENA = {
    "image_resolution": [180, 320],
    "n_external_cameras": 2,
    "needs_wrist_camera": True,
    "needs_stereo_camera": False,
    "needs_session_id": True,
    "action_space": "joint_position",
}


def libero(step: int = 0) -> Observation:
    """Returns an observation whose left half is bright, and whose hand hangs."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, :128] = 200
    state = np.array([0.1, 0.2, 0.3, -3.0, 0.1, 0.0, 0.04, -0.04])
    return Observation(step, {"agentview": image, "wrist": (image // 2).astype(np.uint8)}, state)


def droid(step: int = 0) -> Observation:
    """Returns an observation whose pictures are as bright as the step, by camera."""
    shades = {camera: 10 * (i + 1) + step for i, camera in enumerate(DROID.cameras)}
    images = {camera: np.full((180, 320, 3), shade, np.uint8) for camera, shade in shades.items()}
    state = np.array([*0.1 * np.arange(7), 0.3, 0.4, 0.1, 0.2, np.pi / 2, 0.0, 0.0])
    return Observation(step, images, state)


def chunk(steps: int, width: int, value: float = 0.25) -> np.ndarray:
    return np.full((steps, width), value, np.float32)


# -- openpi ----------------------------------------------------------------------------------------------------------


def test_openpi_libero_is_mirrored_and_its_rotation_does_not_jump() -> None:
    with websocket({}, lambda _: {"actions": chunk(10, 7, 1.5)}) as (address, received):
        policy = load(f"openpi://{address}", {"adapter": "libero"})
        policy.reset("lift the red cube", 3)
        plan = policy.act([libero()])
    [asked] = received
    assert set(asked) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    image = asked["observation/image"]
    assert image.shape == (224, 224, 3) and image[:, :100].max() == 0 and image[:, 124:].min() == 200, "mirrored"
    assert asked["observation/state"].dtype == np.float32 and asked["observation/state"][3] == pytest.approx(
        3.28, abs=0.01
    )
    assert asked["prompt"] == "lift the red cube"
    assert plan.actions.shape == (10, 7) and plan.actions.max() == 1.0 and plan.execute == 5, "cut to [-1, 1]"


@pytest.mark.parametrize(("adapter", "convention"), [("droid-velocity", DROID_VELOCITY), ("droid-position", DROID)])
def test_openpi_droid_asks_whether_it_answers_velocities(adapter: str, convention: Any) -> None:
    with websocket({}, lambda _: {"actions": chunk(15, 8, 1.2)}) as (address, received):
        with pytest.raises(
            ValueError, match=r"does not say .* there are: cosmos3, droid-position, droid-velocity, libero"
        ):
            load(f"openpi://{address}")
        policy = load(f"openpi://{address}", {"adapter": adapter})
        policy.reset("go", 0)
        plan = policy.act([droid()])
    [asked] = received
    assert policy.convention == convention
    assert asked["observation/exterior_image_1_left"].shape == (224, 224, 3)
    assert asked["observation/exterior_image_1_left"][0].max() == 0, "16:9 in a square: black bars"
    assert np.allclose(asked["observation/joint_position"], 0.1 * np.arange(7))
    assert np.allclose(asked["observation/gripper_position"], [0.3])
    velocity = adapter == "droid-velocity"
    assert np.allclose(plan.actions[:, :3], 1.0 if velocity else 1.2) and (plan.actions[:, 7] == 1.0).all()
    assert velocity or np.allclose(plan.actions[:, 3], -0.0698), "cut to the limits of the fourth joint"
    assert plan.execute == 8


def test_the_gripper_of_openpi_droid_is_open_or_closed() -> None:
    with websocket({}, lambda _: {"actions": np.linspace(0, 1, 80).reshape(10, 8)}) as (address, _):
        policy = load(f"openpi://{address}", {"adapter": "droid-position"})
        policy.reset("go", 0)
        assert policy.act([droid()]).actions[:, 7].tolist() == [0.0] * 5 + [1.0] * 5


def test_a_roboarena_server_is_not_openpi() -> None:
    with (
        websocket(ROBOARENA, lambda _: {}) as (address, _),
        pytest.raises(ValueError, match="speaks RoboArena's protocol"),
    ):
        load(f"openpi://{address}", {"adapter": "droid-position"})


# -- Cosmos 3 --------------------------------------------------------------------------------------------------------


def test_cosmos_sends_its_imagined_frames() -> None:
    """540x640: the wrist above, the exterior views side by side below; frame k is for k steps from now."""
    video = np.zeros((33, 540, 640, 3), np.uint8)
    video[:, :360], video[:, 360:, :320], video[:, 360:, 320:] = 30, 10, 20
    video += np.arange(33, dtype=np.uint8)[:, None, None, None]
    answer = {"action": chunk(32, 8), "video": video, "timing": {"total": 0.1}}
    metadata = {"action_head_sha256": "0" * 64, "random_action_heads": False}
    with websocket(metadata, lambda _: answer) as (address, received):
        policy: Any = load(f"openpi://{address}", {"adapter": "cosmos3"})
        policy.reset("go", 0)
        plan = policy.act([droid(16)])
    [asked] = received
    assert {key for key in asked if "image" in key} == {
        "observation/exterior_image_1_left", "observation/exterior_image_2_left", "observation/wrist_image_left"
    }  # fmt: skip
    assert plan.actions.shape == (32, 8) and plan.execute == 16
    assert plan.frames is not None and plan.frame_steps is not None
    assert plan.frame_steps.tolist() == list(range(18, 49, 3)), "where the simulator renders too, at 5 Hz"
    assert plan.frames.shape == (11, 180, 960, 3)
    assert plan.frames[0, 90, ::320].tolist() == [[12] * 3, [22] * 3, [32] * 3], (
        "exterior 1, exterior 2, wrist: frame 2"
    )
    assert policy.server["metadata"]["action_head_sha256"] == "0" * 64


def test_cosmos_without_trained_heads_is_refused() -> None:
    with (
        websocket({"random_action_heads": True}, lambda _: {}) as (address, _),
        pytest.raises(ValueError, match="random_action_heads: the server says True, the adapter expects False"),
    ):
        load(f"openpi://{address}", {"adapter": "cosmos3"})


# -- RoboArena and DreamZero -----------------------------------------------------------------------------------------


def roboarena_answer(asked: dict[str, Any]) -> Any:
    return "reset successful" if asked["endpoint"] == "reset" else {"actions": chunk(10, 8)}


def test_roboarena_sends_what_the_server_needs() -> None:
    config = {**ROBOARENA, "image_resolution": [224, 224], "n_external_cameras": 1}
    with websocket(config, roboarena_answer) as (address, received):
        policy = load(f"roboarena://{address}")
        policy.reset("go", 0)
        plan = policy.act([droid()])
        policy.reset("go", 1)
    reset, asked, again = received
    assert reset["endpoint"] == again["endpoint"] == "reset" and reset["session_id"] != again["session_id"]
    assert asked["session_id"] == reset["session_id"]
    assert {key for key in asked if "image" in key} == {
        "observation/exterior_image_0_left", "observation/wrist_image_left"
    }  # fmt: skip
    assert asked["observation/wrist_image_left"].shape == (224, 224, 3)
    assert np.allclose(asked["observation/cartesian_position"], [0.4, 0.1, 0.2, np.pi / 2, 0, 0])
    assert plan.actions.shape == (10, 8) and plan.execute is None, "all of them are executed"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"action_space": "joint_velocity"}, "action_space: the server says 'joint_velocity', the adapter expects"),
        ({"needs_stereo_camera": True}, "needs stereo cameras"),
        ({"n_external_cameras": 3}, "needs observation/exterior_image_2_left, which the adapter does not send"),
    ],
)
def test_roboarena_servers_that_do_not_fit_are_refused(changed: dict[str, Any], said: str) -> None:
    with websocket({**ROBOARENA, **changed}, roboarena_answer) as (address, _), pytest.raises(ValueError, match=said):
        load(f"roboarena://{address}")


def test_dreamzero_is_sent_four_frames_and_answers_a_bare_array() -> None:
    def answer(asked: dict[str, Any]) -> Any:
        return "reset successful" if asked["endpoint"] == "reset" else chunk(24, 8)

    with websocket(ROBOARENA, answer) as (address, received):
        policy: Any = load(f"roboarena://{address}", {"adapter": "dreamzero"})
        policy.reset("go", 0)
        policy.act([droid(0)])
        plan = policy.act([droid(step) for step in range(3, 25, 3)])
    _, first, second = received
    key = "observation/exterior_image_0_left"
    assert first[key].shape == second[key].shape == (4, 180, 320, 3)
    assert second[key][:, 0, 0, 0].tolist() == [10 + step for step in (0, 6, 15, 24)], "of -23, -16, -8, 0 at 5 Hz"
    assert second["observation/cartesian_position"].tolist() == [0.0] * 6
    assert second["observation/joint_position"].dtype == np.float64
    assert plan.actions.shape == (24, 8) and plan.execute == 24 and policy.sessions == 1


def test_a_traceback_instead_of_a_reset_is_an_error() -> None:
    with websocket(ROBOARENA, lambda _: "Traceback (most recent call last):\nRuntimeError: no GPU") as (address, _):
        policy = load(f"roboarena://{address}")
        with pytest.raises(ServerFailed, match="the server failed: RuntimeError: no GPU"):
            policy.reset("go", 0)


# -- GR00T -----------------------------------------------------------------------------------------------------------

GR00T_DROID = {
    "video": ([-15, 0], ["exterior_image_1_left", "wrist_image_left"]),
    "state": ([0], ["eef_9d", "gripper_position", "joint_position"]),
    "action": (list(range(40)), ["eef_9d", "gripper_position", "joint_position"]),
    "language": ([0], ["annotation.language.language_instruction"]),
}
GR00T_LIBERO = {
    "video": ([0], ["image", "wrist_image"]),
    "state": ([0], ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]),
    "action": (list(range(16)), ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]),
    "language": ([0], ["annotation.human.action.task_description"]),
}


def gr00t_answer(widths: dict[str, int], value: float = 0.25) -> Any:
    return lambda _: [{key: chunk(40, width, value)[None] for key, width in widths.items()}, {}]


def test_gr00t_droid_has_frames_of_a_second_ago_and_a_pose_of_nine_numbers() -> None:
    answer = gr00t_answer({"eef_9d": 9, "gripper_position": 1, "joint_position": 7})
    with gr00t(GR00T_DROID, answer) as (address, received):
        policy = load(f"gr00t://{address}", {"adapter": "gr00t-droid"})
        policy.reset("go", 0)
        policy.act([droid(0)])
        plan = policy.act([droid(step) for step in range(3, 16, 3)])
        policy.act([droid(step) for step in range(18, 31, 3)])
    asked = [request["data"]["observation"] for request in received if request["endpoint"] == "get_action"]
    videos = [one["video"]["wrist_image_left"] for one in asked]
    assert all(video.shape == (1, 2, 180, 320, 3) for video in videos)
    assert [video[0, :, 0, 0, 0].tolist() for video in videos] == [[30, 30], [30, 45], [45, 60]]
    state = asked[0]["state"]
    assert {key: value.shape for key, value in state.items()} == {
        "eef_9d": (1, 1, 9), "gripper_position": (1, 1, 1), "joint_position": (1, 1, 7)
    }  # fmt: skip
    # a quarter turn about x, times GR00T's axes: rows (0, 0, -1) and (0, -1, 0)
    assert np.allclose(state["eef_9d"][0, 0], [0.4, 0.1, 0.2, 0, 0, -1, 0, -1, 0], atol=1e-6)
    assert all(value.dtype == np.float32 for value in state.values())
    assert asked[0]["language"] == {"annotation.language.language_instruction": [["go"]]}
    assert plan.actions.shape == (40, 8) and plan.execute == 15


def test_gr00t_libero_has_its_own_gripper() -> None:
    """1 is open there; ours closes with 1."""
    widths = dict.fromkeys(GR00T_LIBERO["action"][1], 1)
    with gr00t(GR00T_LIBERO, gr00t_answer(widths, 0.8)) as (address, received):
        policy = load(f"gr00t://{address}", {"adapter": "gr00t-libero"})
        policy.reset("go", 0)
        plan = policy.act([libero()])
    observation = received[-1]["data"]["observation"]
    assert observation["state"]["gripper"].shape == (1, 1, 2) and observation["state"]["x"][0, 0].tolist() == [
        np.float32(0.1)
    ]
    assert observation["video"]["image"].shape == (1, 1, 256, 256, 3)
    assert np.allclose(plan.actions[:, :6], 0.8) and (plan.actions[:, 6] == -1.0).all()


def test_gr00t_asks_for_keys_that_the_adapter_has() -> None:
    modalities = {**GR00T_LIBERO, "state": ([0], ["x", "torso"])}
    with (
        gr00t(modalities, lambda _: []) as (address, _),
        pytest.raises(ValueError, match=r"unknown state of the adapter: 'state\.torso'"),
    ):
        load(f"gr00t://{address}", {"adapter": "gr00t-libero"})


def test_an_error_of_gr00t_is_an_error() -> None:
    with gr00t(GR00T_LIBERO, lambda _: {"error": "CUDA out of memory"}) as (address, _):
        policy = load(f"gr00t://{address}", {"adapter": "gr00t-libero"})
        policy.reset("go", 0)
        with pytest.raises(ServerFailed, match="CUDA out of memory"):
            policy.act([libero()])


# -- what a user writes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"adapter": "libro"}, "did you mean 'libero'?"),
        ({"adapter": "nowhere.toml"}, "no such file: nowhere.toml"),
        ({"adapter": "gr00t-droid"}, "the adapter is for gr00t"),
        ({"adaptor": "libero"}, "did you mean 'adapter'?"),
        ({"adapter": "libero", "timeout_s": 0}, "timeout_s must be positive"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    with websocket({}, lambda _: {}) as (address, _), pytest.raises(ValueError, match=r".") as refused:
        load(f"openpi://{address}", arguments)
    assert said in str(refused.value)


def test_an_answer_without_actions_is_no_plan() -> None:
    with websocket({}, lambda _: {"action": chunk(10, 7)}) as (address, _):
        policy = load(f"openpi://{address}", {"adapter": "libero"})
        policy.reset("go", 0)
        with pytest.raises(InvalidPlan, match="the answer has no 'actions'; it has: action"):
            policy.act([libero()])
