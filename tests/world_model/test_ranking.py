"""What `wambench rank` asks for, plays and tells: wrong input is refused early, and tables are put together right."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wambench import cli
from wambench.evaluation.worker import tabletop
from wambench.records import load_episode
from wambench.world_model import horizon, ranking
from wambench.world_model.ranking import RankConfig


def config(policies: tuple[str, ...] = ("noop", "random"), **values: Any) -> RankConfig:
    return RankConfig(policies, **{"split": "seen-v1", "out": Path("runs/rank"), **values})


def test_a_policy_may_be_named_with_arguments() -> None:
    assert ranking.parse_policy("pi0") == ("pi0", {})
    found = ranking.parse_policy("dreamzero(weights=some/where.safetensors,steps=4)")
    assert found == ("dreamzero", {"weights": "some/where.safetensors", "steps": 4})
    with pytest.raises(ValueError, match="'steps' is not of the form key=value"):
        ranking.parse_policy("dreamzero(steps)")


def test_tasks_that_cannot_be_read_are_left_out_and_named() -> None:
    assert config().left_out == () and len(config().tasks) == 9
    found = config(split="unseen-tasks-v1")
    assert "HoistCube" in found.tasks and "WipeSpot" in found.left_out
    with pytest.raises(ValueError, match="cannot tell the progress of WipeSpot; they can of: LiftCube"):
        config(split="unseen-tasks-v1", tasks=("WipeSpot",))


def test_every_world_has_a_run_of_its_own() -> None:
    it = config(("dreamzero(steps=4)", "noop"), episodes=2)
    assert list(it.worlds) == ["simulator", "dreamzero", "still"] and it.worlds["simulator"] is tabletop
    runs = [it.run_of("dreamzero(steps=4)", world) for world in it.worlds]
    assert [run.folder.name for run in runs] == [f"dreamzero-steps-4-in-{world}" for world in it.worlds]
    assert {run.replan for run in runs} == {16} and runs[0].policy_args == {"steps": 4}
    assert "in-dreamzero" in runs[1].label and "in-" not in runs[0].label


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("--policies noop", "a ranking needs two policies or more"),
        ("--policies noop noop", "a ranking needs two policies or more, each once"),
        ("--policies noop expert", "the expert reads the simulator"),
        ("--policies noop pi", "unknown policy 'pi'"),
        ("--policies noop random --world-model dreamzer", "did you mean 'dreamzero'?"),
        ("--policies noop random --tasks WipeSpot", "cannot tell the progress of WipeSpot"),
        ("--policies noop random --tasks HoistCube", "is not in split"),
        ("--policies noop random --episodes 0", "episodes must be positive"),
        ("--policies noop random --replan 5", "replan must be 8 or 16"),
    ],
)
def test_wrong_input_is_told_before_anything_is_played(
    asked: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rank"
    assert cli.main(["rank", "--split", "seen-v1", "--out", str(out), *asked.split()]) == 2
    assert told in capsys.readouterr().err and not out.exists()


def table() -> pd.DataFrame:
    """Returns three policies in two scenes of two tasks: read right, imagined the wrong way round."""
    lines = [
        (policy, task, episode, value, value, 1.0 - value, 0.0)
        for policy, value in (("good", 0.9), ("fair", 0.5), ("poor", 0.1))
        for task in ("LiftCube-v1", "PressButton-v1")
        for episode in (0, 1)
    ]
    return pd.DataFrame(lines, columns=list(ranking.COLUMNS))


def test_agreement_is_that_of_each_world_with_the_simulator() -> None:
    found = ranking.agreements(table())
    assert {world: one.spearman.mean for world, one in found.items()} == {"read": 1.0, "imagined": -1.0, "still": 0.0}
    assert found["imagined"].scenes == 4 and found["imagined"].policies == 3
    said = ranking.to_text(table(), horizon.frame_of([]))
    assert "in the world model: Spearman -1.00 [-1.00, -1.00], chance 1" in said
    assert "where nothing moves: Spearman 0.00" in said and "0.90 [" in said


def scores(hand: tuple[float, ...], moved: tuple[float, ...]) -> pd.DataFrame:
    """Returns scores of five episodes, whose hand is off by `hand` and moved by `moved` at each horizon."""
    return horizon.frame_of(
        [
            horizon.HorizonScore("p", "t", seed, 16 * i, 0.8 * i, off, kept, 0.0, 0.001, 0.001, 0.0, 0.5, 0.25)
            for seed in range(5)
            for i, (off, kept) in enumerate(zip(hand, moved, strict=True), 1)
        ]
    )


def test_trust_ends_where_a_kept_hand_is_as_near() -> None:
    found = horizon.summarise(scores((0.01, 0.02, 0.3, 0.01), (0.1, 0.2, 0.3, 0.4)))
    assert found["seconds"].tolist() == pytest.approx([0.8, 1.6, 2.4, 3.2]) and set(found["n"]) == {5}
    assert found["hand_mm"].tolist() == pytest.approx([10, 20, 300, 10]) and found["hand_share"][1] == pytest.approx(
        0.1
    )
    assert found["progress_error"].tolist() == pytest.approx([0.25] * 4)
    assert horizon.trusted(found, "hand") == pytest.approx(1.6)
    assert horizon.trusted(found, "object") == 0.0  # nothing moved: nobody can be nearer
    early = horizon.summarise(scores((0.01, 0.02), (0.001, 0.2)))
    assert horizon.trusted(early, "hand") == pytest.approx(1.6)
    assert len(horizon.summarise(scores((0.1,), (0.1,)).head(4))) == 0  # of too few episodes nothing is said


@pytest.mark.slow
def test_two_policies_in_three_worlds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command from end to end with the shipped world model; again it plays nothing and says the same."""
    words = ["rank", "--policies", "l1", "noop", "--split", "seen-v1", "--tasks", "LiftCube", "--episodes", "1"]
    words += ["--workers", "1", "--out", str(tmp_path / "rank")]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "in the world model: Spearman" in said and "(2 policies, 1 scenes)" in said
    found = pd.read_csv(tmp_path / "rank" / "rank.csv")
    assert found.columns.tolist() == list(ranking.COLUMNS) and found["policy"].tolist() == ["l1", "noop"]
    assert (found["still"] == 0.0).all() and (found.query("policy == 'noop'")["imagined"] == 0.0).all()
    errors = pd.read_csv(tmp_path / "rank" / "horizon.csv").query("policy == 'l1'")
    assert errors["hand_read_m"].max() < 0.03 < errors["hand_kept_m"].max()
    imagined = load_episode(tmp_path / "rank" / "l1-in-dreamzero" / "episodes" / "LiftCube-v1.none.0.npz")
    steps = [o.step for o in imagined.observations]
    assert steps[:3] == [0, 8, 16] and np.isfinite(imagined.observations[-1].state).all()
    about = (tmp_path / "rank" / "l1-in-dreamzero" / "run.json").read_text()
    assert '"world_model": "dreamzero"' in about
    for command in ("film", "attribute"):
        assert cli.main([command, str(tmp_path / "rank" / "l1-in-dreamzero")]) == 2
        assert "played in a world model" in capsys.readouterr().err
    assert cli.main(words) == 0
    assert capsys.readouterr().out == said
