"""The README's Python runs as printed, and every command in README and docs is one that exists."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wambench import policies
from wambench.interface import Observation

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def test_an_own_policy_is_twenty_lines(tmp_path: Path) -> None:
    code = [line for line in BLOCKS[0].splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 20
    file = tmp_path / "my_policy.py"
    file.write_text(BLOCKS[0])
    policy = policies.load(f"{file}:Reach")
    policy.reset("press the button", 0)
    images = {camera: np.zeros((*policy.convention.image_size, 3), np.uint8) for camera in policy.convention.cameras}
    plan = policy.act([Observation(0, images, np.array([-0.1, 0.1, 1.0, np.pi, 0, 0, 0.04, -0.04]))])
    assert plan.actions.shape == (8, 7) and np.abs(plan.actions).max() <= 1
    assert plan.actions[0, 0] > 0 > plan.actions[0, 1], "it moves towards its target"


def test_gymnasium_example(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(BLOCKS[1], names)
    assert isinstance(names["info"], dict) and names["truncated"] is False


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md", *(ROOT / "docs").rglob("*.md")]


def shell_lines(page: Path) -> list[str]:
    """Returns the commands in the shell blocks of a page: continued lines joined, comments and indentation gone."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", "\n".join(blocks))
    parts = [re.sub(r"(^|\s)#.*$", "", part).strip() for part in re.split(r"\n|;|&&|\|", text)]
    parts = [re.sub(r"^(do|then)\s+", "", part) for part in parts]
    return [re.sub(r"^python3? -m wambench\b", "wambench", part) for part in parts if part]


def test_commands_exist() -> None:
    """Every `wambench` and `make` command in a shell block of README and docs is one that would be accepted."""
    from wambench import cli

    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    checked = 0
    for page in PAGES:
        for line in shell_lines(page):
            words = [re.sub(r"\$\{?\w+\}?", "1", word) for word in shlex.split(re.sub(r"\s*\d?>.*$", "", line))]
            if words[:1] == ["make"]:
                assert {word for word in words[1:] if "=" not in word} <= targets, f"{page.name}: {line}"
            elif words[:1] == ["wambench"] and "--help" not in words:
                try:
                    cli.parser().parse_args(words[1:])
                except SystemExit:
                    pytest.fail(f"{page.relative_to(ROOT)}: {line}")
                checked += 1
    assert checked >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_prose_exist(page: Path) -> None:
    """An inline `wambench COMMAND --option` names a command and options of it."""
    from wambench import cli

    (commands,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    for inline in re.findall(r"`(?:python3? -m )?wambench ([^`\n]+)`", page.read_text()):
        name, *words = inline.split()
        if not re.fullmatch(r"[a-z]+", name):
            continue
        assert name in commands.choices, f"{page.name}: wambench {inline}"
        options = {option.partition("=")[0] for option in words if option.startswith("--")}
        assert options <= set(commands.choices[name]._option_string_actions), f"{page.name}: wambench {inline}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a fresh clone has in `results`."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", ["leaderboard results/*/", "leaderboard results/reference", "plot results/*"])
def test_published_results_are_read_in_a_fresh_clone(
    command: str, clone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wambench import cli

    monkeypatch.chdir(clone)
    words = [str(name) for word in command.split() for name in (sorted(Path().glob(word)) if "*" in word else [word])]
    assert cli.main([*words, *(["--out", "figures"] if words[0] == "plot" else [])]) == 0
    told = capsys.readouterr()
    if words[0] == "plot":
        assert {"figures/progress.png", "figures/sweep.png", "figures/attribution.png"} <= set(told.out.split())
    else:
        assert all(f"\n{policy} " in told.out for policy in ("dreamzero", "pi0", "noop"))
    if "*" in command:
        assert "wambench: results/figures is no run: left out" in told.err.splitlines()


def test_make_run_writes_where_users_runs_go() -> None:
    from wambench.evaluation.config import RUNS

    (place,) = re.findall(r"^RUN_OUT := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert Path(place).parent == RUNS
    assert f"{RUNS}/" in (ROOT / ".gitignore").read_text().splitlines()
