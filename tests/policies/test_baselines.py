from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import Policy
from wambench.policies import EXPERT, POLICIES, check_name, load
from wambench.policies.baselines import Noop, Random


def actions(policy: Policy, seed: int, plans: int = 20) -> np.ndarray:
    """Returns the actions of some plans, (plans * H, 7)."""
    policy.reset("do it", seed)
    return np.concatenate([validate_plan(policy.act(()), policy.convention).actions for _ in range(plans)])


def test_noop_keeps_still_with_an_open_gripper() -> None:
    done = actions(Noop(), 0)
    assert not done[:, :6].any() and (done[:, 6] == -1).all()


def test_random_repeats_itself_by_seed_alone() -> None:
    policy = Random()
    first = actions(policy, 1)
    assert not np.array_equal(first, actions(policy, 2))
    assert np.array_equal(first, actions(policy, 1))


def test_random_moves_smoothly_over_the_whole_range() -> None:
    done = actions(Random(chunk=16), 0, plans=500)
    assert np.abs(np.diff(done[:, :6], axis=0)).max() <= 2 / 16 + 1e-9  # at most from -1 to 1 in a plan
    assert np.abs(done[:, :6].mean(axis=0)).max() < 0.1
    assert done[:, :6].min() < -0.95 and done[:, :6].max() > 0.95
    assert set(done[:, 6]) == {-1.0, 1.0}


def test_table_is_read_only_and_its_names_are_known() -> None:
    with pytest.raises(TypeError):
        POLICIES["mine"] = "mine:Mine"  # type: ignore[index]
    for name in POLICIES:
        check_name(name)
    assert EXPERT in POLICIES


def test_load_gives_a_new_policy_each_time() -> None:
    one, two = load("random", {"chunk": 4}), load("random", {"chunk": 4})
    assert one is not two and one.act(()).actions.shape == (4, 7)
    with pytest.raises(ValueError, match="did you mean 'random'"):
        load("randm")


@pytest.mark.parametrize(
    ("name", "asked", "near"),
    [("random", "chunks", "chunk"), ("pi0", "setps", "steps"), ("dreamzero", "exceute", "execute")],
)
def test_an_argument_that_a_policy_does_not_take_is_named(name: str, asked: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"argument of policy '{name}': '{asked}'; did you mean '{near}'.*there are: "):
        load(name, {asked: 4})


def test_what_passes_arguments_on_is_left_to_that(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    def __init__(self, **options):\n        pass\n")
    with pytest.raises(ValueError, match="needs a `convention`"):  # made, and only then found to be no policy
        load(f"{file}:Mine", {"anything": 4})


@pytest.mark.parametrize("name", ["a:b:c", ":Mine", "file.py:", "file.py:not a name"])
def test_names_of_no_form_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"policy|file"):
        check_name(name)
