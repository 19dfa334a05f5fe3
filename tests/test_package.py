"""What gets installed: through the sdist, as a release is built, and only under the one name."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("dist")
    # the backend of this environment, so that no network is needed
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_wheel_contains_only_wambench(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"wambench"}


def test_wheel_contains_the_linked_packages_and_the_weights(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for needed in (
        "envs/tabletop.py",
        "tasks/__init__.py",
        "tasks/lift_cube.py",
        "policies/dreamzero/policy.py",
        "py.typed",
        "report/page/index.html.jinja",
        "report/page/main.js",
    ):
        assert f"wambench/{needed}" in names
    shipped = {p.name for p in (ROOT / "policies" / "weights").glob("*.safetensors")}
    assert shipped and {f"wambench/policies/weights/{name}" for name in shipped} <= names


def test_wheel_contains_the_adapters_of_remote_policies(wheel: zipfile.ZipFile) -> None:
    shipped = {path.name for path in (ROOT / "policies" / "remote" / "adapters").glob("*.toml")}
    folder = "wambench/policies/remote/adapters/"
    assert shipped and shipped == {name.removeprefix(folder) for name in wheel.namelist() if name.startswith(folder)}


def test_shipped_weights_stay_small() -> None:
    sizes = [p.stat().st_size for p in (ROOT / "policies" / "weights").iterdir()]
    assert max(sizes) <= 25e6 and sum(sizes) <= 100e6
