"""`wambench attribute` on recorded runs: what it refuses, what it says, and that it continues."""

import json
import shutil
from pathlib import Path

import pytest

from wambench.attribution import attribute, table
from wambench.cli import main
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attribute") / "noop"
    run(RunConfig.resolve("noop", "seen", tasks=("PressButton",), episodes=2, out=out))
    return out


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edit(folder: Path, **values: object) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_cannot_be_replayed_is_refused_before_any_rollout(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run at"):
        attribute.attribute(tmp_path / "nowhere")
    lines = (folder / "episodes.csv").read_text().splitlines(keepends=True)
    (folder / "episodes.csv").write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match="1 of 2 episodes are missing"):
        attribute.attribute(folder)
    (folder / "episodes.csv").write_text("".join(lines))
    next((folder / "episodes").glob("*.npz")).unlink()
    with pytest.raises(ValueError, match="is missing"):
        attribute.attribute(folder)
    edit(folder, split_hash="of another version")
    with pytest.raises(ValueError, match="is of another version"):
        attribute.attribute(folder)
    assert not (folder / table.TABLE).exists()


def test_a_policy_with_other_weights_is_refused(folder: Path) -> None:
    edit(folder, weights_hash="0123456789abcdef")
    with pytest.raises((ValueError, RuntimeError), match="weights 0123456789abcdef"):
        attribute.attribute(folder)


def test_a_policy_without_video_gets_types_of_failure_only_and_a_second_call_changes_nothing(folder: Path) -> None:
    rows = attribute.attribute(folder, episodes=1)
    assert [row.missing for row in rows] == [attribute.NO_VIDEO]
    assert rows[0].behaviour and rows[0].d2 == rows[0].d3 == ""
    text = (folder / table.TABLE).read_text()
    attribute.attribute(folder, episodes=1)
    assert (folder / table.TABLE).read_text() == text
    assert len(attribute.attribute(folder)) == 2
    assert "2 failed episodes, the four rollouts played for 0" in attribute.summary(table.read(folder))


class Late:
    """A policy whose actions come late."""

    latency_steps = 8


def test_a_policy_answers_in_time_only_while_it_is_asked_to() -> None:
    policy = Late()
    with pytest.raises(RuntimeError, match="in between"), attribute.without_latency(policy):  # type: ignore[arg-type]
        assert policy.latency_steps == 0
        raise RuntimeError("in between")
    assert policy.latency_steps == 8
    with attribute.without_latency(object()):  # type: ignore[arg-type]
        pass  # a policy without latency is left alone


def test_a_run_without_its_convention_is_refused(folder: Path) -> None:
    values = json.loads((folder / "run.json").read_text())
    del values["convention"]
    (folder / "run.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="not a run of this version"):
        attribute.load_run(folder)


def test_wrong_words_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["attribute"], ["attribute", "a", "--self-test"], ["attribute", "--self-test", "--faults", "noize"]):
        assert main(words) == 2
    assert "noise" in capsys.readouterr().err
