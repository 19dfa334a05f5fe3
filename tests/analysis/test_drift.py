"""Dreams of several chunks against recorded episodes: a dream that is right, and one that drifts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from tests.analysis.test_imagination import AHEAD, episode, room
from wambench.analysis import drift, imagination
from wambench.interface import ControlConvention, Observation, Plan


class Drifting:
    """Dreams of the square `slip` steps farther with every chunk than it will be."""

    convention = ControlConvention()
    frame_offsets: Sequence[int] = AHEAD
    chunk_steps = 16

    def __init__(self, slip: int) -> None:
        self.slip = slip
        self.told = ""

    def reset(self, instruction: str, seed: int) -> None:
        self.told = instruction

    def act(self, history: Sequence[Observation]) -> Plan:
        raise NotImplementedError

    def dream(self, history: Sequence[Observation], chunks: int) -> np.ndarray:
        now = history[-1].step
        return np.stack([room(now + 16 * i + ahead + self.slip * i) for i in range(chunks) for ahead in AHEAD])


def skills(slip: int) -> list[float]:
    made = episode(lambda step, at: room(at))
    policy = Drifting(slip)
    dream = drift.dreamt(policy, made, made.chunks[0], 3)
    assert policy.told == made.spec.instruction and len(dream.chunks) == 1
    scores = pd.DataFrame([vars(score) for score in imagination.score_episode(dream)])
    table = imagination.summarise(scores)
    assert table["seconds"].tolist() == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
    return table["skill"].tolist()


def test_a_dream_that_is_right_keeps_its_skill() -> None:
    assert skills(0) == pytest.approx([1.0] * 6)


def test_a_dream_that_drifts_loses_it_from_the_second_chunk_on() -> None:
    found = skills(6)
    assert found[:2] == pytest.approx([1.0, 1.0]) and found[2] < 0.95 and found[4] < found[2]


def test_only_who_can_go_on_from_what_it_imagined_can_dream() -> None:
    assert drift.can_dream(Drifting(0))
    from wambench.policies.baselines import Noop

    assert not drift.can_dream(Noop())
