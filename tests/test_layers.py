"""Dependencies point one way: reads the imports of every module and checks them against the table of the design."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wambench"

# module or sub-package (under wambench.) -> what of ours it may import, besides itself
ALLOWED = {
    "interface": set(),
    "envs": {"interface", "tasks"},  # only envs.tabletop and envs (ids) look up tasks, see below
    "tasks": {"envs", "interface"},
    "policies": {"interface"},
    "rollout": {"interface", "clock"},
    "clock": {"interface", "plans", "execution", "latency"},
    "execution": {"interface"},
    "latency": {"interface"},
    "sweep_plot": {"interface", "plots"},
    "plans": {"interface"},
    "leaderboard": {"records", "interface"},
    "compare": {"records", "leaderboard", "interface"},
    "plots": {"records", "leaderboard", "interface"},
    "attribution": {"agreement", "leaderboard"},
    "agreement": {"leaderboard"},
    "readout": set(),
    "behaviour": set(),
    "servo": set(),
}
LIGHT_RESULTS = ("records", "leaderboard", "compare", "plots", "attribution", "attribute", "sweep", "sweep_plot")
LIGHT = (*LIGHT_RESULTS, "interface", "cli", "tasks", "rollout", "run")
HEAVY = ("torch", "mujoco", "robosuite")


def modules() -> list[Path]:
    return [p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts] + [
        p for folder in ("envs", "policies", "tasks") for p in (ROOT / folder).rglob("*.py")
    ]


def area(path: Path) -> str:
    relative = path.resolve().relative_to(ROOT)
    parts = relative.parts[1:] if relative.parts[0] == "wambench" else relative.parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Returns the dotted names a file imports, at module level or anywhere else."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.resolve().relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    own = area(path)
    if own not in ALLOWED:
        return
    for name in imported(path):
        if not name.startswith("wambench."):
            continue
        other = name.split(".")[1]
        if other in ("__version__", own):
            continue
        assert other in ALLOWED[own], f"{path} imports {name}"


def test_only_the_environment_looks_up_tasks() -> None:
    """`Task` is defined in envs and filled in tasks; only the environment class and the ids know the table."""
    lookers = {p.name for p in (ROOT / "envs").glob("*.py") if any("wambench.tasks" in n for n in imported(p))}
    lookers |= {p.name for p in (ROOT / "envs").glob("*.py") if "wambench" in imported(p)}
    lookers |= {p.name for p in (ROOT / "envs").glob("*.py") if "from wambench import tasks" in p.read_text()}
    assert lookers <= {"tabletop.py", "__init__.py"}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_start_without_simulator_and_torch(module: str) -> None:
    code = f"import sys, wambench.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
