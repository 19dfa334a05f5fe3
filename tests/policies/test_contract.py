"""What every shipped policy promises; new policies are tested by being listed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wambench import policies
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import Observation, Policy
from wambench.policies.dreamzero.policy import WEIGHTS
from wambench.policies.vla import base as vla
from wambench.policies.weight_files import ENCODERS, digest, encoder_for, find, packaged

pytestmark = pytest.mark.slow

# the expert needs a simulator (tests/tasks), and so does the choice by a simulator (tests/policies/dreamzero)
NAMES = [name for name in policies.POLICIES if name not in policies.PRIVILEGED]


def observations(policy: Policy, count: int, seed: int = 0) -> list[Observation]:
    rng = np.random.default_rng(seed)
    shape = (*policy.convention.image_size, 3)
    stride = policy.convention.frame_stride
    return [
        Observation(
            step=i * stride,
            images={camera: rng.integers(0, 255, shape, dtype=np.uint8) for camera in policy.convention.cameras},
            state=np.array([-0.1, 0.0, 1.0, np.pi, 0.0, 0.0, 0.04, -0.04]),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_plans_are_valid_and_repeat_under_a_seed(name: str) -> None:
    policy = policies.load(name)
    answers = []
    for _ in range(2):
        policy.reset("press the button", 5)
        seen = observations(policy, 3)
        plans = [
            validate_plan(policy.act(seen[:1]), policy.convention),
            validate_plan(policy.act(seen[1:]), policy.convention),
        ]
        answers.append(plans)
    for first, again in zip(*answers, strict=True):
        assert np.array_equal(first.actions, again.actions)
        assert (first.frames is None) == (again.frames is None)
        if first.frames is not None and again.frames is not None:
            assert np.array_equal(first.frames, again.frames)


@pytest.mark.parametrize("name", NAMES)
def test_observations_are_left_alone(name: str) -> None:
    policy = policies.load(name)
    policy.reset("press the button", 0)
    seen = observations(policy, 2)
    copies = [{camera: image.copy() for camera, image in o.images.items()} for o in seen]
    policy.act(seen)
    for o, copy in zip(seen, copies, strict=True):
        assert all(np.array_equal(o.images[camera], copy[camera]) for camera in copy)


@pytest.mark.parametrize("name", [*ENCODERS, WEIGHTS, *(f"{kind}-nano.safetensors" for kind in vla.MODULES)])
def test_weights_are_shipped(name: str) -> None:
    """A lost file is a failure, not a policy less to compare."""
    assert packaged(name).is_file()


def test_dreamzero_listens_to_the_instruction() -> None:
    policy = policies.load("dreamzero")
    actions = []
    for instruction in ("press the button", "open the drawer"):
        policy.reset(instruction, 0)
        actions.append(policy.act(observations(policy, 1)).actions)
    assert not np.allclose(actions[0], actions[1], atol=1e-3)


def test_dreamzero_imagines_the_steps_it_says() -> None:
    policy = policies.load("dreamzero")
    policy.reset("lift the red cube", 0)
    seen = observations(policy, 3)
    plan = policy.act(seen)
    height, width = policy.convention.image_size
    assert plan.frames is not None and plan.frame_steps is not None
    assert plan.frames.shape[1:] == (height, width * len(policy.convention.cameras), 3)
    assert list(plan.frame_steps) == [seen[-1].step + 8, seen[-1].step + 16]
    assert plan.frame_hands is not None and plan.frame_hands.shape == (2, 4)
    assert np.abs(plan.frame_hands[:, :3] - seen[-1].state[:3]).max() < 0.5 and (plan.frame_hands[:, 3] >= 0).all()
    for ablation, declares in (("none", True), ("no_key_points", False), ("no_video_loss", False)):
        policy.model.config = replace(policy.model.config, ablation=ablation)  # type: ignore[attr-defined]
        policy.reset("lift the red cube", 0)
        assert (policy.act(seen).frame_hands is not None) == declares, "nothing is said that was never learned"


def test_a_policy_reads_with_the_encoder_it_was_trained_with() -> None:
    for name in ENCODERS:
        meta = {"encoder": digest(packaged(name))}
        assert encoder_for("w", meta) == packaged(name) == encoder_for("w", meta, packaged(name))
        others = [packaged(other) for other in ENCODERS if other != name]
        for other in others:
            with pytest.raises(ValueError, match="trained with another encoder than"):
                encoder_for("w", meta, other)
    with pytest.raises(ValueError, match="give its encoder"):
        encoder_for("w", {"encoder": "none of them"})
    with pytest.raises(ValueError, match="cannot read weights"):
        encoder_for("w", {}, "no-such-file")


def test_shipped_weights_are_found_by_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(None, WEIGHTS) == find(WEIGHTS, "other") == packaged(WEIGHTS)
    Path(WEIGHTS).write_bytes(b"")
    assert find(WEIGHTS, "other") == Path(WEIGHTS)  # a file of one's own is meant where there is one
    assert find("folder/" + WEIGHTS, WEIGHTS) == Path("folder/" + WEIGHTS)
    assert find("none", WEIGHTS) == Path("none")
