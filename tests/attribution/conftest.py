"""One simulator and one instrument for all tests of attribution, as making them takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from wambench import registration
from wambench.attribution import paths, self_test, tracker
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec
from wambench.policies import weight_files


@pytest.fixture(scope="session")
def sim() -> Iterator[TabletopEnv]:
    torch.set_num_threads(1)
    made = registration.make("LiftCube")
    yield made
    made.close()


@pytest.fixture(scope="session")
def interpreter(sim: TabletopEnv) -> FrameInterpreter:
    """Not precise, for the sake of time; what is learned does for this task."""
    ways, _ = paths.load(weight_files.packaged(paths.WEIGHTS))
    return FrameInterpreter.of(sim, tracker.FrameReader(), ways, precise=False)


@pytest.fixture(scope="session")
def spec(sim: TabletopEnv) -> EpisodeSpec:
    return episode_spec(sim.task, "seen", "none", 0, self_test.SEED)
