"""Adapters as files: those that are shipped are whole, and a wrong one is refused with what it should say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from wambench.policies.remote import adapter as adapters
from wambench.policies.remote.adapter import FOLDER

NAMES = adapters.shipped()


def test_every_protocol_has_an_adapter() -> None:
    assert {adapters.load(name).protocol for name in NAMES} == set(adapters.PROTOCOLS)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_survives_being_sent(name: str) -> None:
    """`wambench serve` tells its clients which one to use, as a map."""
    adapter = adapters.load(name)
    assert adapters.from_dict(adapter.to_dict()) == adapter


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_says_in_its_first_line_whose_it_is(name: str) -> None:
    assert (FOLDER / f"{name}.toml").read_text().startswith("# ")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('protocol = "openpi"', 'protocol = "openpy"', "did you mean 'openpi'?"),
        ('protocol = "openpi"', "", "adapter lacks protocol"),
        ('gripper = "close_positive"', "", "answer lacks gripper"),
        ('gripper = "close_positive"', 'gripper = "closed_positive"', "did you mean 'close_positive'?"),
        ('base = "libero"', 'base = "liberoo"', "did you mean 'libero'?"),
        ("image_size = [256, 256]", "image_sise = [256, 256]", "did you mean 'image_size'?"),
        ("execute = 5", "execut = 5", "did you mean 'execute'?"),
        ("execute = 5", "execute = 0", "execute must be at least 1, not 0"),
        ("execute = 5", "history = [0, -3]", "history must rise to 0"),
        ("execute = 5", "history = [-3]", "history must rise to 0"),
        ('camera = "wrist"', 'camera = "wirst"', "did you mean 'wrist'?"),
        ("mirror = true", "mirrored = true", "did you mean 'mirror'?"),
        ('"gripper_qpos"', '"gripper_position"', "unknown part of 'observation/state' 'gripper_position'"),
        ('prompt = "instruction"', 'prompt = "task"', "unknown text of 'prompt' 'task'"),
        ('layout = "row"', 'layout = "rows"', "did you mean 'row'?"),
        ('keys = ["actions"]', 'keys = ["arm", "hand"]', "widths of the answer must be one for each key, in all 7"),
        ("execute = 5", "execute = ", "Invalid value"),
    ],
)
def test_a_wrong_file_is_refused(before: str, after: str, said: str, tmp_path: Path) -> None:
    text = (FOLDER / "libero.toml").read_text()
    assert before in text
    (tmp_path / "mine.toml").write_text(text.replace(before, after))
    with pytest.raises(ValueError, match=r"mine\.toml: ") as refused:
        adapters.load(str(tmp_path / "mine.toml"))
    assert said in str(refused.value)


def test_a_copied_file_is_the_shipped_adapter(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes((FOLDER / "libero.toml").read_bytes())
    assert adapters.load(str(tmp_path / "mine.toml")) == adapters.load("libero")


def test_the_wheel_takes_the_files_along() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["wambench.policies.remote"] == ["adapters/*.toml"]
