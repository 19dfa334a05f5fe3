"""Dependencies point one way: reads the imports of every module and checks them against the table of the design."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wambench"
POLICIES = {"policies", "policies.networks", "policies.perception", "policies.actions", "policies.dreamzero"}
POLICIES |= {"policies.vla", "policies.training", "policies.baselines", "policies.expert", "policies.weight_files"}

# Folder or module (under wambench.) -> what of ours it may import, besides itself. The longest matching row counts.
ALLOWED = {
    "interface": set(),
    "conventions": {"interface"},
    "rotations": set(),
    "pictures": set(),
    "envs": {"conventions", "interface"},
    "tasks": {"envs", "rotations", "interface"},
    "policies.weight_files": {"interface"},
    "policies.networks": set(),
    "policies.baselines": {"conventions", "interface"},
    "policies.expert": {"interface"},
    "policies.actions": {"interface"},
    "policies.perception": {"policies.weight_files", "interface"},
    "policies.dreamzero": {
        "policies", "policies.actions", "policies.networks", "policies.perception", "policies.weight_files",
        "conventions", "interface",
    },
    "policies.vla": {
        "policies.actions", "policies.networks", "policies.perception", "policies.weight_files", "interface",
    },
    "policies.remote": {"conventions", "interface"},
    "policies.lerobot": {"policies.weight_files", "interface"},
    "policies.training": POLICIES | {"datasets.lerobot_folder", "progress_bar", "interface"},
    "policies": {"own_modules", "interface"},
    "own_modules": set(),
    "progress_bar": set(),
    "task_module": {"envs", "tasks", "registration", "own_modules"},
    "records": {"tasks", "interface"},
    "datasets.video_file": set(),
    "datasets.features": {"interface"},
    "datasets.lerobot_folder": {"datasets.features", "datasets.video_file", "interface"},
    "datasets": {
        "datasets.features", "datasets.lerobot_folder", "datasets.video_file", "conventions", "envs", "progress_bar",
        "records",
        "registration", "tasks", "interface",
    },
    "world_model": POLICIES
    | {
        "conventions", "analysis", "evaluation", "records", "registration", "envs", "tasks", "rotations", "interface",
    },
    "scoring": {
        "analysis", "attribution", "datasets", "envs", "progress_bar", "records", "tasks", "interface",
    },
    "evaluation": {
        "conventions", "envs", "tasks", "pictures", "policies", "policies.actions", "progress_bar", "records",
        "registration", "task_module", "interface",
    },
    "analysis": {"conventions", "evaluation", "pictures", "policies", "records", "interface"},
    "suite": {"conventions", "envs", "tasks", "pictures", "progress_bar", "records", "registration", "interface"},
    "speed": POLICIES | {"conventions", "evaluation", "suite", "records", "registration", "envs", "tasks", "interface"},
    "attribution": POLICIES
    | {
        "conventions", "analysis", "evaluation", "pictures", "progress_bar", "records", "registration", "envs", "tasks",
        "rotations", "interface",
    },
    "report": {
        "analysis", "attribution", "conventions", "envs", "evaluation", "progress_bar", "records", "tasks", "interface",
    },
    "submission": {"envs", "evaluation", "policies", "progress_bar", "records", "tasks", "interface"},
    "watch": {"analysis", "records"},
    "registration": {"envs", "tasks"},
    "lerobot": {"envs", "tasks", "registration"},
    "disturbances": set(),
    "collection": {
        "disturbances", "envs", "evaluation", "tasks", "policies", "progress_bar", "registration", "interface",
    },
    "listing": {"policies", "tasks"},
    "vla_eval": {"conventions", "envs", "tasks", "registration", "interface"},
    "serving": {"evaluation", "policies", "policies.remote", "interface"},
    "templates": {"envs", "evaluation", "records", "registration", "task_module", "tasks", "interface"},
    "commands": POLICIES
    | {
        "analysis", "attribution", "collection", "conventions", "datasets", "datasets.lerobot_folder", "envs",
        "evaluation", "interface", "listing", "records", "report", "scoring", "serving", "speed", "submission", "suite",
        "tasks", "templates", "watch", "world_model",
    },
    "cli": {"commands", "task_module"},
    "__main__": {"cli"},
    "in_process": {"analysis", "evaluation", "policies", "records", "interface"},
    "__init__": {"in_process", "registration", "task_module"},
}  # fmt: skip
LIGHT = (
    "analysis.compare", "analysis.leaderboard", "analysis.plots", "analysis.latency_sweep", "analysis.latency_plot",
    "attribution.attribute", "attribution.shapley", "attribution.table", "cli", "evaluation.rollout", "evaluation.run",
    "in_process", "interface", "records", "registration", "report.report", "submission.pack", "tasks", "watch",
)  # fmt: skip
HEAVY = ("torch", "mujoco", "robosuite")


def modules() -> list[Path]:
    found = [p for p in PACKAGE.rglob("*.py") if p.resolve() == p.absolute()]
    found += [p for folder in ("envs", "policies", "tasks") for p in (ROOT / folder).rglob("*.py")]
    return sorted({p for p in found if "__pycache__" not in p.parts})


def name_of(path: Path) -> str:
    """Returns the dotted name of a module, without "wambench."."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "wambench" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path): path for path in modules()}


def row(name: str) -> str:
    """Returns the row of the table that a module belongs to."""
    matching = [key for key in ALLOWED if name == key or name.startswith(f"{key}.")]
    assert matching, f"{name} has no row in ALLOWED: say what it may import"
    return max(matching, key=len)


def imported(path: Path) -> set[str]:
    """Returns the modules of ours that a file imports, at module level or anywhere else."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module_of(name.removeprefix("wambench.")) for name in names if name.startswith("wambench.")}


def module_of(name: str) -> str:
    """Returns the module that a dotted name lies in; "__version__" and the like lie in the package itself."""
    while name not in NAMES:
        if "." not in name:
            return "__init__"
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize("name", NAMES)
def test_imports_follow_the_arrows(name: str) -> None:
    own = row(name)
    for other in imported(NAMES[name]) - {"__init__"}:
        assert row(other) == own or row(other) in ALLOWED[own], f"{name} imports {other}"


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: imported(path) - {name, "__init__"} for name, path in NAMES.items() if name != "__init__"}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_the_test_itself_sees_imports() -> None:
    assert {"interface", "tasks", "policies"} <= imported(NAMES["evaluation.worker"])
    with pytest.raises(AssertionError, match="no row"):
        row("utils")


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_start_without_simulator_and_torch(module: str) -> None:
    code = f"import sys, wambench.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
