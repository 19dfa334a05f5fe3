"""DreamZero as a world model: actions in, frames and key points out, and on from there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.policies.conftest import observe, state_of
from wambench.interface import Observation, canvas
from wambench.policies.dreamzero.world_model import ActionConditionedDreamZero, world_model
from wambench.world_model.simulator import ActionConditioned

pytestmark = pytest.mark.slow

CUBES = np.array([[0.1, -0.1, 0.0], [-0.1, 0.15, 0.0]])
RIGHT = np.tile(np.array([1.0, 0, 0, 0, 0, 0, -1.0]), (16, 1))
LEFT = RIGHT * [-1.0, 1, 1, 1, 1, 1, 1]
FIRST = observe(0, CUBES, np.zeros(3))


@pytest.fixture(scope="module")
def model(dreamzero_file: Path, encoder_file: Path) -> ActionConditionedDreamZero:
    return world_model(str(dreamzero_file), encoder=str(encoder_file))


def views(step: int, frame: np.ndarray, hand: np.ndarray) -> Observation:
    return Observation(step, {"agentview": frame[:, :96], "wrist": frame[:, 96:]}, state_of(hand))


def test_it_keeps_the_protocol(model: ActionConditionedDreamZero) -> None:
    assert isinstance(model, ActionConditioned)
    assert list(model.key_points) == ["red_cube", "blue_cube", "hand"]
    model.reset("reach the red cube", 0)
    frames, places = model.imagine_actions([FIRST], RIGHT)
    assert frames.shape == (2, 96, 192, 3) and frames.dtype == np.uint8
    assert places.shape == (2, 3, 3) and np.isfinite(places).all()
    assert model.read([FIRST, FIRST]).shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"a chunk of actions is \(16, 7\), got \(4, 7\)"):
        model.imagine_actions([FIRST], RIGHT[:4])


def test_what_it_imagines_depends_on_the_actions_and_on_no_words(model: ActionConditionedDreamZero) -> None:
    found = {}
    for words in ("reach the red cube", "reach the blue cube"):
        for name, actions in (("right", RIGHT), ("left", LEFT)):
            model.reset(words, 0)
            found[words, name] = model.imagine_actions([FIRST], actions)[1]
    for name in ("right", "left"):
        np.testing.assert_array_equal(found["reach the red cube", name], found["reach the blue cube", name])
    right, left = (found["reach the red cube", name] for name in ("right", "left"))
    assert np.abs(right - left).max() > 0.0  # and hardly more: it was trained for seconds


def test_a_model_that_is_told_the_instruction_hears_it(dreamzero_file: Path, encoder_file: Path) -> None:
    told = world_model(str(dreamzero_file), told="instruction", encoder=str(encoder_file))
    ends = []
    for words in ("reach the red cube", "reach the blue cube"):
        told.reset(words, 0)
        ends.append(told.imagine_actions([FIRST], RIGHT)[1])
    assert np.abs(ends[0] - ends[1]).max() > 0.0


def test_it_goes_on_from_what_it_imagined_as_it_imagined_it(model: ActionConditionedDreamZero) -> None:
    """Its own frames are recognised and need no encoding; the same frames with a speck in them are encoded."""
    ends = []
    for speck in (0, 0, 1):
        model.reset("reach the red cube", 0)
        frames, places = model.imagine_actions([FIRST], RIGHT)
        frames = frames.copy()
        frames[:, 0, 0, 0] ^= speck
        seen = [views(step, frame, place[2]) for step, frame, place in zip((8, 16), frames, places, strict=True)]
        ends.append(model.imagine_actions(seen, RIGHT)[1])
        session = model._current()
        assert session.memories[True].video.cache.length == 3 * model.model.config.dit.frame_tokens
        if not speck:
            np.testing.assert_allclose(session.seen[16].points[:, :3].double().numpy(), places[-1])
            np.testing.assert_array_equal(session.seen[16].frame.numpy(), canvas(seen[-1], ("agentview", "wrist")))
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 0.0


def test_the_state_that_it_is_told_counts(model: ActionConditionedDreamZero) -> None:
    ends = []
    for place in (np.zeros(3), np.array([0.2, 0.0, 0.0])):
        model.reset("reach the red cube", 0)
        ends.append(model.imagine_actions([replace(FIRST, state=state_of(place))], RIGHT)[1])
    assert np.abs(ends[0] - ends[1]).max() > 1e-4


def test_what_is_no_world_model_is_refused(dreamzero_file: Path, encoder_file: Path) -> None:
    with pytest.raises(ValueError, match="unknown told 'instructions'; did you mean 'instruction'"):
        world_model(str(dreamzero_file), told="instructions")
    with pytest.raises(ValueError, match="unknown argument of policy 'dreamzero': 'step'; did you mean 'steps'"):
        world_model(str(dreamzero_file), step=2)
