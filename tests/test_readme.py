"""The README's Python runs as printed."""

import re
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


def test_commands_exist() -> None:
    """Every `wambench` command line of the README parses."""
    from wambench import cli

    shell = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    lines = [re.sub(r"\s*(#.*)?$", "", part).strip() for part in re.split(r"[\n;]", shell)]
    commands = [line.split()[1:] for line in lines if line.startswith("wambench ")]
    assert len(commands) >= 8
    for words in commands:
        if "--help" not in words:
            cli.parser().parse_args(words)
