"""The simulation benchmark measures what it says, and wambench is faster than stock robosuite by a wide margin."""

from wambench import bench


def test_simulation_is_much_faster_than_stock_robosuite() -> None:
    result = bench.sim(rounds=2, steps=5, episodes=1)
    # the published ratios are 16 and 40; a loaded machine with a few steps is no place to test those
    assert result["ratio_two_views"] > 3 and result["ratio_policy_rate"] > 5
    assert 0 < result["reset_ms"] < result["stock_reset_ms"]
    assert 100 < result["memory_per_worker_mb"] < 2000
    lines = bench.text(result).splitlines()
    assert len(lines) == 9 and all(line.strip() for line in lines)
