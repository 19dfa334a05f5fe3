"""The oracle in a real simulator: what it shows happens, and asking it leaves no trace."""

from __future__ import annotations

import numpy as np

from tests.stubs import SMALL, LineSim
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.attribution.oracle import has_oracle
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec


def test_the_video_shows_what_the_expert_then_does_and_leaves_no_trace(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    oracle = interpreter.oracle
    sim.begin(spec)
    before = sim.snapshot()
    future = oracle.future((8, 16))
    assert sim.snapshot() == before
    for _ in range(8):
        sim.advance(sim.expert_action())
    assert np.array_equal(oracle.frame(sim.observe()), future.frames[0])
    assert np.array_equal(oracle.place().hand, future.places[0].hand)
    assert np.array_equal(sim.scene_poser().posture(), future.postures[0])


def test_only_objects_of_the_scene_have_places(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    oracle = interpreter.oracle
    sim.begin(spec, render=False)
    known = oracle.key_points()
    there = [name for name, present in zip(oracle.points, known.present, strict=True) if present]
    assert "red_cube" in there and "hand" in there and not any(name.startswith("drawer") for name in there)
    assert np.array_equal(known.positions[oracle.points.index("red_cube")], sim.view.pos("red_cube"))
    assert np.isnan(known.pixels[~known.present]).all() and not known.positions[~known.present].any()
    absent = ~oracle.objects_present()
    assert absent.any() and np.isnan(oracle.object_positions()[absent]).all()
    assert len(oracle.place().objects) == (~absent).sum()


def test_the_grip_follows_what_the_fingers_are_told(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    for told in (1.0, -1.0):
        sim.begin(spec, render=False)
        for _ in range(10):
            sim.advance(np.array([0.0] * 6 + [told]))
        assert interpreter.oracle.grip() == told


def test_a_simulator_without_an_expert_has_no_oracle(sim: TabletopEnv) -> None:
    assert has_oracle(sim)
    assert not has_oracle(LineSim(SMALL))
