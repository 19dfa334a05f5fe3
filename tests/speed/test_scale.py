"""`wambench bench scale`, small."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wambench.speed import scale

ROOT = Path(__file__).parents[2]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'wambench[ray]'"
)


@needs_ray
def test_nodes_share_the_workers() -> None:
    with pytest.raises(ValueError, match="workers must be an even number, not 3"):
        scale.scale(workers=3)
    with pytest.raises(ValueError, match="episodes must be more than 4"):
        scale.scale(episodes=4)


@pytest.mark.slow
def test_what_is_measured_without_a_cluster() -> None:
    played = scale.Played()
    scale._play(scale.VARIANTS["pool, one policy"], 4, 1, played)
    assert played.startup_s[0] > 0 and 0 < played.per_hour[0] < 1e5 and 0.01 < played.cpu_s[0] < 100
    assert 0 < scale._query_s() < 1
    assert 0 < scale._batch_ratio("l1", "cpu", 1) < 3


def test_the_table_has_a_line_for_each_variant() -> None:
    rates: dict[str, Any] = {"rate_of_pool": [0.9, 1.0], "cpu_of_pool": [1.07, 1.02]}
    one = {"episodes_per_hour": 700, "cpu_s_per_episode": 0.41, "startup_s": 6.1, **rates}
    told = {"task": "LiftCube", "policy": "random", "rounds": 2, "episodes": 4, "workers": 2, "query_ms": 0.5}
    batches = {"device": "cpu", "batch_of_singles": {"pi0": 0.36}}
    said = scale.text({**told, **batches, "variants": dict.fromkeys(scale.VARIANTS, one)})
    assert all(name in said for name in (*scale.VARIANTS, "0.90 1.00", "1.07 1.02", "pi0", "0.360"))


def test_the_published_table_is_what_was_measured() -> None:
    page = " ".join((ROOT / "docs" / "scaling.md").read_text().split())
    measured = json.loads((ROOT / "results" / "scaling" / "bench-2-cores.json").read_text())
    for one in measured["variants"].values():
        rate, cpu = (", ".join(f"{x:.2f}" for x in one[ratio]) for ratio in ("rate_of_pool", "cpu_of_pool"))
        assert f"| {one['cpu_s_per_episode']:.3f} | {cpu} | {rate} | {one['startup_s']} |" in page
    assert f"A query takes {measured['query_ms']:.2f} ms longer" in page
    assert all(f"{ratio:.2f} for" in page for ratio in measured["batch_of_singles"].values())


def test_processor_time_does_not_fall_when_a_process_ends() -> None:
    spin = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 60
        while scale.processor_s(child.pid) < 0.3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = scale.processor_s(os.getpid())
        child.communicate(b"\n")
    assert scale.processor_s(os.getpid()) >= before
