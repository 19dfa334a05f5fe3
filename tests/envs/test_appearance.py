"""What the profile "full" adds is seen and never felt."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from wambench.envs import appearance, robot
from wambench.envs.objects import DISTRACTORS, OBJECTS
from wambench.envs.rendering import Renderer
from wambench.envs.scene import compile_family

FAMILY = ("red_cube", "bin", "plate", "drawer")


@pytest.fixture(scope="module")
def full() -> Iterator[tuple[mujoco.MjModel, mujoco.MjData]]:
    model = compile_family(FAMILY, "full")
    data = mujoco.MjData(model)
    for i, angle in enumerate(robot.INITIAL_QPOS):
        data.qpos[model.joint(f"robot0_joint{i + 1}").qposadr[0]] = angle
    mujoco.mj_forward(model, data)
    yield model, data


@pytest.mark.parametrize(
    ("name", "rgb", "finish"),
    [
        ("plate", (0.92, 0.92, 0.90), "ceramic"),
        ("bin", (0.35, 0.36, 0.38), "metal"),
        ("drawer", (0.55, 0.36, 0.20), "wood"),
        ("red_cube", (0.85, 0.12, 0.10), "plastic"),
        ("orange_cube", (0.95, 0.45, 0.05), "plastic"),
        ("napkin", (0.93, 0.90, 0.82), "cloth"),
    ],
)
def test_finishes(name: str, rgb: tuple[float, float, float], finish: str) -> None:
    assert appearance.finish_of(name, rgb) == finish


def test_cloth_names_objects_that_exist() -> None:
    assert set(appearance.CLOTH) <= set(OBJECTS) | {item.name for item in DISTRACTORS}


def test_the_fast_profile_has_none_of_it() -> None:
    model = compile_family(FAMILY, "fast")
    names = [model.geom(i).name for i in range(model.ngeom)] + [model.mat(i).name for i in range(model.nmat)]
    assert not [name for name in names if name.startswith(("room", "finish"))]
    assert not model.light_castshadow.any()


def test_it_is_not_felt(full: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    """The room collides with nothing and weighs nothing; masses of all bodies are those of the fast profile."""
    model, fast = full[0], compile_family(FAMILY, "fast")
    room = [i for i in range(model.ngeom) if model.geom(i).name.startswith("room")]
    assert len(room) >= 10
    assert not model.geom_contype[room].any() and not model.geom_conaffinity[room].any()
    np.testing.assert_array_equal(model.body_mass, fast.body_mass)
    np.testing.assert_array_equal(model.body_inertia, fast.body_inertia)


def test_grain_keeps_colours() -> None:
    """A texture multiplies the colour of an object, so its mean is near 1: names of colours stay true."""
    for finish in appearance.FINISHES.values():
        if finish.grain is not None:
            levels = finish.grain(np.random.default_rng(0))
            assert levels.shape == (appearance.PIXELS, appearance.PIXELS)
            assert 0.8 < levels.mean() <= 1.0 and levels.min() > 0.5


def test_shadows_are_there_and_soft(full: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    """The hand darkens the table; between the shadow's core and the lit table lie many levels, not one step."""
    model, data = full
    with Renderer(model, "full") as renderer:
        lit_and_dark = renderer.render(data, ["agentview"], (384, 384))["agentview"].astype(int)
        lamps = model.light_castshadow.copy()
        model.light_castshadow[:] = 0
        mujoco.mj_forward(model, data)
        plain = renderer.render(data, ["agentview"], (384, 384))["agentview"].astype(int)
        model.light_castshadow[:] = lamps
        mujoco.mj_forward(model, data)
    change = plain.sum(axis=2) - lit_and_dark.sum(axis=2)
    core = np.percentile(change, 99.5)
    assert core > 60
    between = (change > 0.15 * core) & (change < 0.85 * core)
    assert between.sum() > 0.3 * (change >= 0.85 * core).sum()
    assert len(np.unique(change[between])) > 10


def test_a_picture_does_not_depend_on_the_one_before(full: tuple[mujoco.MjModel, mujoco.MjData]) -> None:
    model, data = full
    with Renderer(model, "full") as renderer:
        first = renderer.render(data, ["agentview"], (64, 64))["agentview"]
        renderer.render(data, [appearance.SHOWCASE], (64, 64))
        np.testing.assert_array_equal(renderer.render(data, ["agentview"], (64, 64))["agentview"], first)
