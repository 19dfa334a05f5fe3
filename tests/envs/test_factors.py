"""Training and unseen environments have no value in common, and factors vary independently."""

import numpy as np
import pytest

from wambench import tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.factors import (
    ELSEWHERE,
    FACTORS,
    TRAIN,
    UNSEEN,
    Domain,
    Either,
    OneOf,
    Range,
    Signed,
    draw_elsewhere,
    draw_look,
    unseen_factors,
)
from wambench.interface import EpisodeSpec


def disjoint(a: Domain, b: Domain) -> bool:
    if isinstance(a, OneOf) and isinstance(b, OneOf):
        return not set(a.values) & set(b.values)
    assert isinstance(a, Signed | Range) and isinstance(b, Signed | Range)
    if isinstance(a, Signed) != isinstance(b, Signed):
        return False
    return a.high < b.low or b.high < a.low


@pytest.mark.parametrize("factor", FACTORS)
def test_values_are_disjoint(factor: str) -> None:
    assert set(TRAIN[factor]) == set(UNSEEN[factor])
    assert all(disjoint(TRAIN[factor][name], UNSEEN[factor][name]) for name in TRAIN[factor])


def test_disjointness_test_can_fail() -> None:
    assert not disjoint(Signed(0, 3), Signed(2, 5))
    assert not disjoint(OneOf(("a", "b")), OneOf(("b",)))


@pytest.mark.parametrize("factor", FACTORS)
def test_one_factor_moves_alone(factor: str) -> None:
    for seed in range(20):
        train, unseen = draw_look(seed, "none"), draw_look(seed, factor)
        assert [name for name in FACTORS if train[name] != unseen[name]] == [factor]


@pytest.mark.parametrize("seed", range(30))
def test_draws_lie_in_their_domain(seed: int) -> None:
    for factor, table in (("none", TRAIN), ("all", UNSEEN)):
        look = draw_look(seed, factor)
        for name in FACTORS:
            for key, domain in table[name].items():
                assert domain.contains(look[name][key]), (name, key, look[name])


def test_all_means_every_factor() -> None:
    assert unseen_factors("all") == frozenset(FACTORS)
    with pytest.raises(ValueError, match=r"camer.*camera"):
        unseen_factors("camer")


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_episodes_are_paired_across_factors_and_policies(task: str) -> None:
    split = tasks.default_split(task)
    specs = {f: episode_spec(tasks.TASKS[task], split, f, 3, 7) for f in ("none", "camera", "all")}
    assert specs["none"].poses == specs["camera"].poses == specs["all"].poses
    assert specs["none"].seed == specs["all"].seed
    assert len({spec.hash for spec in specs.values()}) == 3
    assert episode_spec(tasks.TASKS[task], split, "all", 4, 7).poses != specs["all"].poses


def test_demonstrations_never_use_the_scenes_of_an_evaluation() -> None:
    task = tasks.TASKS["LiftCube"]
    for index in range(50):
        demo, episode = episode_spec(task, "train", "none", index, 0), episode_spec(task, "seen", "none", index, 0)
        assert demo.poses != episode.poses and demo.seed != episode.seed


def test_spec_survives_json() -> None:
    spec = episode_spec(tasks.TASKS["LiftCube"], "seen", "none", 0, 0)
    assert EpisodeSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ValueError, match="horizon"):
        EpisodeSpec.from_json(spec.to_json().replace('"horizon"', '"horizn"'))


def test_looks_differ_between_episodes() -> None:
    values = {draw_look(seed)["camera"]["azimuth"] for seed in range(20)}
    assert len(values) == 20 and np.std(list(values)) > 0.5


@pytest.mark.parametrize("factor", FACTORS)
def test_other_rooms_have_no_value_of_unseen_environments(factor: str) -> None:
    for name, domain in UNSEEN[factor].items():
        other = ELSEWHERE[factor][name]
        parts = other.parts if isinstance(other, Either) else (other,)
        assert all(disjoint(part, domain) for part in parts), name


@pytest.mark.parametrize("seed", range(30))
def test_other_rooms_are_drawn_from_their_domain(seed: int) -> None:
    look = draw_elsewhere(seed)
    for factor in FACTORS:
        for key, domain in ELSEWHERE[factor].items():
            assert domain.contains(look[factor][key]), (factor, key)


def test_video_has_scenes_of_its_own() -> None:
    task = tasks.TASKS["LiftCube"]
    for index in range(20):
        video = episode_spec(task, "video", "none", index, 0)
        for split in ("train", "seen"):
            assert video.poses != episode_spec(task, split, "none", index, 0).poses
        assert "floor_hue" in video.look["background"]
