"""What `wambench init` writes: a policy and a task that work, each with its test, under the name that a user gives.

The templates are ordinary modules of this folder, so that whatever checks the code checks them, too. In them the name
is `my_policy` or `my_task` as a module and `MyPolicy` or `MyTask` as a class.
"""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path

from wambench.interface import unknown_name
from wambench.records import write_whole

KINDS = ("policy", "task")


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """Writes the template of a kind and its test into a folder, which is made if missing; returns both paths.

    Args:
        kind: One of `KINDS`.
        name: As a module ("reach_cup") or as a class ("ReachCup").
        folder: Where to.

    Raises:
        ValueError: There is no such kind, the name is none or taken, or a file of that name exists.
    """
    if kind not in KINDS:
        raise unknown_name("template", kind, KINDS)
    module, cls = spellings(name)
    if kind == "task":
        from wambench.tasks import TASKS

        if cls in TASKS:
            raise ValueError(f"a task named {cls!r} exists already: give yours another name")
    texts = {f"{module}.py": _text(kind), f"test_{module}.py": _text(f"{kind}_test")}
    paths = [folder / file for file in texts]
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} exists already: give another name or --out")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, texts.values(), strict=True):
        own = text.replace("wambench.templates." + kind, f"my_{kind}")
        write_whole(path, own.replace(f"my_{kind}", module).replace(f"My{kind.capitalize()}", cls))
    return paths


def spellings(name: str) -> tuple[str, str]:
    """Returns a name as a module and as a class: "reach_cup" and "ReachCup" of either, or of "reach-cup".

    Raises:
        ValueError: It is no name of Python.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("-", "_")).split("_")
    module = "_".join(word.lower() for word in words)
    cls = "".join(word[:1].upper() + word[1:] for word in words)
    if not module.isidentifier() or not cls.isidentifier() or keyword.iskeyword(module) or module.startswith("_"):
        raise ValueError(f"{name!r} is no name of a module: letters, digits and _, and a letter first")
    return module, cls


def _text(template: str) -> str:
    return (resources.files(__name__) / f"{template}.py").read_text(encoding="utf-8")
