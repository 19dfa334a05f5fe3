"""The policy benchmark measures what it says, names what a device cannot do, and needs torch alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wambench import cli
from wambench.policies.dreamzero import dit, flops
from wambench.policies.dreamzero.inference import ChunkGenerator
from wambench.speed import dreamzero_chunk
from wambench.speed import policy as bench_policy
from wambench.speed.dreamzero_chunk import Bench, BenchConfig, Variant

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """Two repeats of the smallest model, with guidance."""
    return bench_policy.policy(BenchConfig("tiny", steps=(1, 16), guidance=True, repeats=2))


def test_result_is_json_with_stable_keys(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    about = {"config", "weights", "device", "device_name", "threads", "torch", "repeats", "parameters", "tokens"}
    assert set(result) == about | {"matmul_tflops", "codec_unavailable", "ladder", "steps"}
    keys = {"name", "variant", "unavailable", "chunk_ms", "evaluation_ms", "flops", "limit_ms", "tflops", "fraction"}
    for row in result["ladder"] + result["steps"]:
        assert set(row) == keys | {"memory_mb"}
        if row["unavailable"] is None:
            assert set(row["chunk_ms"]) == {"total", *dreamzero_chunk.STAGES}
    assert result["parameters"] == sum(p.numel() for p in dit.DiT(dit.CONFIGS["tiny"]).parameters())
    assert result["matmul_tflops"]["float32"] > 1e-4


def test_rows_add_up(result: dict[str, Any]) -> None:
    measured = [row for row in result["ladder"] + result["steps"] if row["unavailable"] is None]
    assert len(measured) >= 10
    for row in measured:
        ms, v = row["chunk_ms"], row["variant"]
        assert ms["total"] == pytest.approx(sum(ms[stage] or 0.0 for stage in dreamzero_chunk.STAGES))
        assert row["evaluation_ms"] == pytest.approx(ms["denoise"] / (v["evaluations"] or v["steps"]))
        busy = 1e-3 * (ms["observe"] + ms["denoise"] + ms["other"])
        assert row["tflops"] == pytest.approx(row["flops"] / busy / 1e12)
        assert 0 < row["fraction"] < 1 and 10 < row["memory_mb"] < 4000
        assert row["fraction"] == pytest.approx(row["limit_ms"] / (1e3 * busy))


def test_the_shipped_encoder_is_timed_for_nano() -> None:
    """A published row of nano has all five stages: a file that is looked for under another name would empty two."""
    bench = Bench(BenchConfig("nano", repeats=1))
    assert bench.codec_unavailable is None
    taken = bench.stages(Variant(steps=1, static=True))
    assert all(taken[stage] and taken[stage] > 0.0 for stage in dreamzero_chunk.STAGES)  # type: ignore[operator]


def test_stages_without_an_encoder_say_why(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert result["ladder"][0]["chunk_ms"]["encode"] is None
    reason = "encoder-v2.safetensors makes latents of shape (24, 6, 12), tiny reads (4, 4, 6)"
    assert result["codec_unavailable"] == reason
    assert f"encode and decode are not measured: {reason}" in bench_policy.heading(result)
    monkeypatch.setattr(dreamzero_chunk, "packaged", lambda name: tmp_path / name)
    assert "no such weights file" in str(Bench(BenchConfig("tiny", repeats=1)).codec_unavailable)


def test_a_cpu_lists_what_it_cannot_do(result: dict[str, Any]) -> None:
    missing = {row["name"].strip(): row["unavailable"] for row in result["ladder"] if row["unavailable"]}
    for name in ("or CFG on two devices", "+ CUDA graphs", "+ cuDNN attention", "+ FP8 linear, scale per row"):
        assert "NVIDIA GPU" in missing[name]
    assert "NVIDIA GPU" in missing["+ NVFP4 linear"] and "--compile" in missing["+ torch.compile, fused q k v"]
    assert not any(row["chunk_ms"] for row in result["ladder"] if row["unavailable"])


def test_optimisations_build_on_those_that_ran(result: dict[str, Any]) -> None:
    rows = {row["name"].strip(): row["variant"] for row in result["ladder"]}
    last = rows["+ no negative branch (same actions)"]
    assert last["static"] and last["branches"] == "one" and (last["steps"], last["evaluations"]) == (1, None)
    assert not last["recorded"] and last["compiler"] is None and last["linear"] == "dense"
    counted = {row["name"].strip(): row["flops"] for row in result["ladder"]}
    assert counted["+ DiT caching, 8 of 16"] < 0.7 * counted["+ CFG in one batch"] == 0.7 * counted["eager, float32"]


def test_second_table_has_every_number_of_steps_with_and_without_cache(result: dict[str, Any]) -> None:
    names = [row["name"] for row in result["steps"]]
    with_cache = ["float32, 16 steps", "float32, 16 steps, 8 passes", "float32, 1 steps"]
    assert names[:6] == [name + end for name in with_cache for end in ("", ", no cache")]
    assert not names[6:] or [name.replace("bfloat16", "float32") for name in names[6:]] == names[:6]
    ops = {row["name"]: row["flops"] for row in result["steps"]}
    for name in with_cache:
        assert ops[f"{name}, no cache"] > ops[name]
    assert all(row["variant"]["static"] for row in result["steps"])


def test_variants_compute_the_same_actions() -> None:
    """What is timed is the real object: every variant that should not change the result gives the same actions."""
    bench = Bench(BenchConfig("tiny", guidance=True, repeats=1))
    same = [
        Variant(branches="apart"),
        Variant(branches="batch"),
        Variant(branches="batch", static=True),
        Variant(branches="batch", static=True, linear="fp8-emulated"),
    ]
    answers = []
    for variant in same:
        head = bench._head(variant)
        head.prepare(torch.zeros(1, 1), ["act"])
        head.finish()
        head.prepare(torch.zeros(1, 9), ["act"])
        actions = head.generate(bench.senses.state, bench.senses.noise).action
        assert actions is not None
        answers.append(actions)
    for answer, tolerance in zip(answers[1:], (1e-4, 1e-4, 0.2), strict=True):
        assert float((answer - answers[0]).norm() / answers[0].norm()) < tolerance
    assert (
        isinstance(bench._head(same[0]), dreamzero_chunk.GrowingGenerator)
        and type(bench._head(same[2])) is ChunkGenerator
    )


def test_what_is_counted_is_what_runs() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    bench = Bench(BenchConfig("tiny", guidance=True, repeats=1))
    c, v = bench.config, Variant(branches="batch", steps=2, static=True)
    head = bench._head(v)
    for chunk in range(c.max_chunks - 1):
        head.prepare(bench._raw(int(chunk > 0)), ["act"])
        head.finish()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        head.prepare(bench._raw(1), ["act"])
        head.generate(bench.senses.state, bench.senses.noise)
    assert head.start == c.window - c.frames_per_chunk
    tokens = c.frames_per_chunk * c.frame_tokens
    spread = tokens * 2 + 2 * (tokens + c.actions_per_chunk + c.states_per_chunk) * 3  # slots to tokens, on a CPU
    assert counter.get_total_flops() - 2 * c.layers * 2 * 6 * c.width * spread == bench.operations(v).total


def test_stored_weights_are_used(tmp_path: Path) -> None:
    config, name = dit.CONFIGS["tiny"], "blocks.1.ffn.0.weight"
    made = dreamzero_chunk.random_model(config, torch.device("cpu"), torch.float32)
    for prefix in ("", "action_head.model."):
        path = tmp_path / f"{prefix}w.safetensors"
        save_file({prefix + key: tensor.contiguous() for key, tensor in made.state_dict().items()}, path)
        read = dreamzero_chunk.stored_model(config, str(path), torch.device("cpu"), torch.bfloat16)
        assert read.dtype is torch.bfloat16
        assert torch.equal(read.state_dict()[name], made.state_dict()[name].bfloat16())
    with pytest.raises(ValueError):
        dreamzero_chunk.stored_model(dit.CONFIGS["nano"], str(path), torch.device("cpu"), torch.float32)


def test_random_weights_leave_the_generators_alone() -> None:
    state = torch.get_rng_state()
    one, two = (
        dreamzero_chunk.random_model(dit.CONFIGS["tiny"], torch.device("cpu"), torch.bfloat16) for _ in range(2)
    )
    assert torch.equal(state, torch.get_rng_state()) and torch.get_default_dtype() is torch.float32
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.dtype is torch.bfloat16 and one.head.head.weight.any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--config 14b --random-weights", "33 GB in bfloat16, 16 GB of caches"),
        ("--config nan", "did you mean 'nano'?"),
        ("--device tpu", "cpu or cuda, not 'tpu'"),
        ("--config tiny --weights nowhere", "'nowhere' is neither a folder nor a hub id"),
        ("--steps 0", "must be positive"),
        ("--steps x", "'x' is not of the form 1,2,4"),
        ("--weights a --random-weights", "not allowed with"),
    ],
)
def test_errors_are_one_line(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = cli.main(["bench", "policy", *arguments.split()])
    except SystemExit as exited:
        code = exited.code
    error = capsys.readouterr().err
    assert code == 2 and said in error and error.splitlines()[-1].startswith("wambench: error: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(ValueError, match="sees no NVIDIA GPU"):
        Bench(BenchConfig("tiny", device="cuda"))


def test_runs_without_the_simulator() -> None:
    """A GPU server has torch, numpy, safetensors, tqdm and little else."""
    code = (
        "import sys\n"
        "for name in ('gymnasium', 'mujoco', 'robosuite', 'numba', 'h5py', 'imageio', 'pandas', 'matplotlib',\n"
        "             'diffusers', 'transformers', 'huggingface_hub', 'yaml', 'zstandard', 'fast_simplification'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['wambench', 'bench', 'policy', '--config', 'tiny', '--steps', '1', '--repeats', '1', '--json']\n"
        "import runpy; runpy.run_module('wambench', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"] == "tiny"


def test_limits_of_the_14b() -> None:
    """The arithmetic behind the targets in docs/inference.md."""
    c, tera = dit.CONFIGS["14b"], 1e12
    sixteen, four, one = (flops.chunk(c, n, 5, 512, 257, 2).total / tera for n in (8, 4, 1))
    assert (round(sixteen), round(four), round(one)) == (991, 548, 215)
    assert round(flops.chunk(c, 1, 5, 512, 257).total / tera) == 107
