"""The profiles are alike, and not the same."""

import numpy as np
import pytest

from wambench.pictures import psnr
from wambench.suite import render_profiles

pytestmark = pytest.mark.slow


def test_profiles_show_the_same_moment_and_look_alike() -> None:
    start, later = render_profiles.pairs("LiftCube", "seen", "none")
    for pair in (start, later):
        assert pair.full.step == pair.fast.step
        np.testing.assert_array_equal(pair.full.state, pair.fast.state)
        for camera, full in pair.full.images.items():
            assert 15 < psnr(full, pair.fast.images[camera]) < 60, camera
    assert later.full.step == render_profiles.STEPS
    table = render_profiles.similarity([start, later]).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == ["`agentview`", "`wrist`"]
    assert all("| 2 |" in line for line in table[2:])


def test_scenes_that_are_shown_exist() -> None:
    assert set(render_profiles.SHOWN) <= set(render_profiles.scenes())
