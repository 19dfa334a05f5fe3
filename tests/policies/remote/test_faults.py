"""What goes wrong at the other end of the socket ends its episode alone, is said in its row, and loses nothing."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_run import timeless
from tests.stubs import SMALL, LineSim, line_sim
from wambench import policies
from wambench.envs.episodes import episode_spec
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import WorkerFailed
from wambench.evaluation.run import run
from wambench.records import read_rows
from wambench.tasks import find

pytest.importorskip("websockets", reason="needs wambench[remote]")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ADAPTER = """
protocol = "openpi"
[convention]
base = "libero"
image_size = [8, 8]
[images."observation/image"]
camera = "agentview"
[vectors."observation/state"]
parts = ["eef_pos", "eef_axis_angle", "gripper_qpos"]
[texts]
prompt = "instruction"
[answer]
keys = ["actions"]
gripper = "close_positive"
"""
# fault -> status of the episode, and what its row says
FAULTS = {
    "closes": ("policy_error", "LostConnection: the server closed the connection"),
    "late": ("timeout", "TooLate: no answer within 1 s"),
    "garbage": ("policy_error", "Malformed: no msgpack message"),
    "traceback": ("policy_error", "ServerFailed: the server failed: KeyError: 'observation/image'"),
    "shape": ("policy_error", "InvalidPlan: actions have shape (8, 5), expected (H, 7)"),
    "nan": ("policy_error", "InvalidPlan: actions hold NaN or infinity"),
    "key": ("policy_error", "InvalidPlan: the answer has no 'actions'; it has: action_chunk"),
}
EPISODES = ["ok", *FAULTS, "ok"]


@contextlib.contextmanager
def server(faults: Sequence[str], port: int = 0) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Yields port and process of a server."""
    command = [sys.executable, "-m", "tests.policies.remote.fault_server", str(port), ",".join(faults)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def config(folder: Path, port: int, episodes: int, wait_s: float = 5.0, **values: Any) -> RunConfig:
    """Returns a run against a server of the tests."""
    folder.mkdir(exist_ok=True)
    (folder / "line.toml").write_text(ADAPTER)
    arguments = {"adapter": str(folder / "line.toml"), "timeout_s": 1.0, "wait_s": wait_s}
    name, tasks = f"openpi://127.0.0.1:{port}", ("LiftCube",)
    return RunConfig.resolve(
        name, "seen", tasks, episodes=episodes, policy_args=arguments, out=folder / "run", name="line", **values
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run whose server goes wrong in every way, one an episode."""
    folder = tmp_path_factory.mktemp("faults")
    with server(EPISODES) as (port, _):
        run(config(folder, port, len(EPISODES)), line_sim)
        (folder / "port").write_text(str(port))
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_status_and_a_reason_in_its_row(folder: Path, fault: str) -> None:
    status, said = FAULTS[fault]
    row = read_rows(folder / "run" / "episodes.csv")[EPISODES.index(fault)]
    assert row.status == status and row.error.startswith(said)
    assert row.steps == 8, "what was played before the fault is kept"
    assert (folder / "run" / "errors" / f"{row.task}.none.{row.episode}.txt").exists()


def test_the_traceback_of_the_server_is_kept_whole(folder: Path) -> None:
    [text] = folder.glob(f"run/errors/*.{EPISODES.index('traceback')}.txt")
    assert "The server said:\nTraceback (most recent call last):" in text.read_text()


def test_the_run_goes_on_after_every_fault(folder: Path) -> None:
    rows = read_rows(folder / "run" / "episodes.csv")
    assert len(rows) == len(EPISODES)
    for row, fault in zip(rows, EPISODES, strict=True):
        assert fault != "ok" or (row.status == "ok" and row.progress == 1.0)


def test_faults_played_again_give_an_undisturbed_run(folder: Path, tmp_path: Path) -> None:
    port = int((folder / "port").read_text())
    with server(["ok"], port):
        again = run(config(folder, port, len(EPISODES), retry_errors=True), line_sim)
        undisturbed = run(config(tmp_path / "other", port, len(EPISODES)), line_sim)
    assert timeless(again) == timeless(undisturbed)
    assert {row.status for row in again} == {"ok"}


def test_a_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    """Its episode and those after it have errors; what was recorded before stays, and the run resumes."""
    with server(["ok", "dies"]) as (port, process):
        rows = run(config(tmp_path, port, 4, wait_s=0.3), line_sim)
        process.wait(5)
    assert [row.status for row in rows] == ["ok", *["policy_error"] * 3]
    assert rows[1].error.startswith("LostConnection")
    assert all(row.error.startswith(f"NoServer: no server at openpi://127.0.0.1:{port}: ") for row in rows[2:])
    with server(["ok"], port):
        again = run(config(tmp_path, port, 4, wait_s=0.3, retry_errors=True), line_sim)
    assert {row.status for row in again} == {"ok"} and timeless(again)[0] == timeless(rows)[0]


def test_a_run_waits_for_a_server_that_is_restarted(tmp_path: Path) -> None:
    with server(["dies"]) as (port, process), contextlib.ExitStack() as stack:

        def restart() -> None:
            process.wait()
            stack.enter_context(server(["ok"], port))

        restarting = threading.Thread(target=restart)
        restarting.start()
        rows = run(config(tmp_path, port, 2, wait_s=60.0), line_sim)
        restarting.join()
    assert [row.status for row in rows] == ["policy_error", "ok"]


def test_no_server_at_the_beginning_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with server(["ok"]) as (port, _):
        pass
    asked = config(tmp_path, port, 1, wait_s=0.2)
    with pytest.raises(WorkerFailed, match=rf"no server at openpi://127.0.0.1:{port}: .*refused.* \(tried \d+ times"):
        run(asked, line_sim)
    assert not asked.folder.exists()


def test_a_server_that_is_restarted_between_episodes_costs_none(tmp_path: Path) -> None:
    seen = LineSim(SMALL).begin(episode_spec(find("LiftCube"), "seen", "none", 0, 0)).observations
    with server(["ok"]) as (port, process):
        policy = policies.load(f"openpi://127.0.0.1:{port}", config(tmp_path, port, 1).policy_args)
        for _ in range(2):
            policy.reset("go", 0)
            assert policy.act(seen).actions.shape == (8, 7)
        process.kill()
        process.wait()
    with server(["ok"], port):
        policy.reset("go", 1)
        assert policy.act(seen).actions.shape == (8, 7)


def test_a_server_of_one_episode_has_one_worker(tmp_path: Path) -> None:
    with server(["ok"]) as (port, _):
        asked = config(tmp_path, port, 2, workers=2)
        (tmp_path / "line.toml").write_text("sessions = 1\n" + ADAPTER)
        with pytest.raises(WorkerFailed, match="keeps 1 episode at a time: --workers 1"):
            run(asked, line_sim)


def test_another_server_behind_the_address_does_not_continue_a_run(tmp_path: Path) -> None:
    """The adapter and what the server says of itself belong to what made the rows."""
    with server(["ok"]) as (port, _):
        begun = config(tmp_path, port, 1)
        run(begun, line_sim)
        (tmp_path / "line.toml").write_text("execute = 4\n" + ADAPTER)
        more = RunConfig.resolve(
            begun.policy, "seen", ("LiftCube",), episodes=2, policy_args=begun.policy_args, out=begun.out, name="line"
        )
        with pytest.raises(ValueError, match="was begun with server_hash"):
            run(more, line_sim)
