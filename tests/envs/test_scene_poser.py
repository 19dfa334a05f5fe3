"""The stage: what it says of pixels and joints is what MuJoCo does."""

from collections.abc import Iterator

import numpy as np
import pytest

from wambench import registration
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sim() -> Iterator[TabletopEnv]:
    made = registration.make("OpenDrawer")
    made.begin(episode_spec(made.task, "seen", "none", 0, 1))
    for _ in range(15):
        made.advance(made.expert_action())
    yield made
    made.close()


def test_pixels_are_lifted_to_where_they_are(sim: TabletopEnv) -> None:
    stage = sim.scene_poser()
    for sight in stage.survey(stage.posture()):
        rows, columns = np.mgrid[:96, :96]
        x, y = (columns + 0.5 - 48) / sight.focal, -(rows + 0.5 - 48) / sight.focal
        local = np.stack([x, y, -np.ones_like(x)], axis=2) * sight.depth[..., None]
        points = local @ sight.rotation.T + sight.position
        shown = points[np.isclose(points[..., 2], sim.view.table_z, atol=1e-4)]
        assert len(shown) > 500 and np.abs(shown[:, :2]).max() < 0.5  # the table's top
        assert points[..., 2].min() > -1e-3
    images = sim.observe().images
    assert np.array_equal(np.round(stage.colours(stage.posture())[1] * 255).astype(np.uint8), images["wrist"])


def test_twists_say_how_pieces_move(sim: TabletopEnv) -> None:
    stage, state = sim.scene_poser(), sim.snapshot()
    start, step = stage.posture(), 1e-5
    stage.set(start)
    twists = stage.twists()
    hand = int(np.argmax(stage.member[:, :7].sum(axis=1)))
    before, handle, moving = sim.view.eef(), sim.view.point("drawer/handle"), 0
    for dof in range(len(stage.spread)):
        moved = stage.move(start, step * np.eye(len(stage.spread))[dof])
        assert stage.pose_difference(start, moved) == pytest.approx(step * np.eye(len(stage.spread))[dof], abs=1e-9)
        stage.set(moved)
        velocity = (sim.view.eef() - before) / step
        expected = (twists[:3, dof] + np.cross(twists[3:, dof], before)) * stage.member[hand, dof]
        assert velocity == pytest.approx(expected, abs=1e-3)
        pulled = (sim.view.point("drawer/handle") - handle) / step
        moving += bool(np.linalg.norm(pulled) > 0)
        assert np.linalg.norm(pulled) == 0 or pulled == pytest.approx(twists[:3, dof], abs=1e-3)
    assert moving == 1
    sim.restore(state)
    assert sim.snapshot() == state


def test_hands_reach_and_take_things_along(sim: TabletopEnv) -> None:
    stage, state = sim.scene_poser(), sim.snapshot()
    start = stage.posture()
    here, rotation, handle = sim.view.eef(), sim.view.eef_rot(), sim.view.point("drawer/handle")
    there = stage.reach(start, here + [-0.03, 0.01, 0.02], rotation, 0.05)
    stage.set(there)
    assert np.linalg.norm(sim.view.eef() - here - [-0.03, 0.01, 0.02]) < 2e-3
    assert sim.view.width() == pytest.approx(0.05)
    assert np.array_equal(sim.view.point("drawer/handle"), handle)
    for taken in stage.poses_with_carried_object(start, there):
        stage.set(taken)
        assert np.array_equal(stage.with_objects_at_rest(start, taken), there)
        assert sim.view.point("drawer/handle")[0] <= handle[0]
    sim.restore(state)
