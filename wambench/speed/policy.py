"""`wambench bench policy`: what a chunk of DreamZero costs, stage by stage, and what every optimisation saves.

Optimisations are added in turn, in the order of the paper's Table 1 as far as one needs the other. What a device cannot
do is listed with the reason. Beside the times stands the limit: the operations of the transformer's matrix products
(`policies.dreamzero.flops`) at the rate of a large matrix product measured on the same device in the same run.
What a chunk is, and how it is timed: `dreamzero_chunk`.

Runs where only torch is installed: `python -m wambench bench policy --config 14b --random-weights --device cuda`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wambench.policies.dreamzero import flops, quantization
from wambench.speed.dreamzero_chunk import STAGES, TERA, Bench, BenchConfig, BenchRow, Variant


@dataclass(frozen=True)
class Rung:
    """An optimisation.

    Attributes:
        name: What it is.
        changes: What it changes of the variant before it.
        unavailable: Why it cannot be measured here, or None.
        stays: Whether the next ones build on it.
    """

    name: str
    changes: dict[str, Any]
    unavailable: str | None = None
    stays: bool = True


def not_available(reason: str | None) -> str | None:
    """Returns what is said of a row that a device cannot do for a reason, None if there is none."""
    return None if reason is None else f"not available on this device: {reason}"


def rungs(bench: Bench) -> list[Rung]:
    """Returns the optimisations in their order, with what this device cannot do."""
    given = bench.given
    device = bench.device
    on_gpu = None if device.type == "cuda" else not_available("needs an NVIDIA GPU")
    compiles = None if given.compiles else "left out: not asked for (--compile)"
    guided = None if given.guided else "left out: this config runs without guidance (--cfg)"
    devices = torch.cuda.device_count() if device.type == "cuda" else 0
    two = guided or on_gpu or (None if devices > 1 else not_available(f"{devices} GPU here"))
    fp8 = not_available(quantization.why_unavailable("fp8", device))
    nvfp4 = not_available(quantization.why_unavailable("nvfp4", device))
    first = {"branches": "apart" if given.guided else "one"}
    return [
        Rung("eager, float32", {**first, "dtype": "float32"}, not_available(bench.no_type("float32"))),
        Rung("eager, bfloat16", {**first, "dtype": "bfloat16"}, not_available(bench.no_type("bfloat16"))),
        Rung("+ CFG in one batch", {"branches": "batch"}, guided),
        Rung("  or CFG on two devices", {"branches": "devices", "static": True}, two, stays=False),
        Rung("+ DiT caching, 8 of 16", {"evaluations": 8}),
        Rung("+ static buffers, sampler on device", {"static": True}),
        Rung("+ torch.compile, fused q k v", {"compiler": "inductor"}, compiles),
        Rung("+ CUDA graphs", {"recorded": True}, on_gpu),
        Rung("+ cuDNN attention", {"attention": "cudnn"}, on_gpu),
        Rung("+ FP8 linear, scale per row", {"linear": "fp8"}, fp8),
        Rung(
            "  or FP8, scale per tensor",
            {"linear": "fp8-tensor"},
            fp8,
            stays=False,
        ),
        Rung(
            "+ NVFP4 linear",
            {"linear": "nvfp4"},
            nvfp4,
            stays=False,
        ),
        Rung("+ Flash, 1 step", {"steps": 1, "evaluations": None}),
        Rung("+ no negative branch (same actions)", {"branches": "one"}, guided),
    ]


def climb(bench: Bench, on_line: Callable[[str], None]) -> list[BenchRow]:
    """Returns the first table: every optimisation on top of the ones before it."""
    rows = []
    now = Variant()
    for rung in rungs(bench):
        variant = replace(now, **rung.changes)
        row = BenchRow(rung.name, variant, rung.unavailable)
        if rung.unavailable is None:
            try:
                row = bench.measure(rung.name, variant)
            except (RuntimeError, NotImplementedError) as error:  # a kernel that this device lacks after all
                row = replace(row, unavailable=f"failed: {' '.join(str(error).split())[:200]}")
            now = variant if rung.stays and row.unavailable is None else now
        rows.append(row)
        on_line(_line(asdict(row), [asdict(other) for other in rows]))
    return rows


def by_steps(bench: Bench, rows: list[BenchRow], on_line: Callable[[str], None]) -> list[BenchRow]:
    """Returns the second table: numbers of steps, with and without the cache, for float32, bfloat16 and FP8.

    Each with the fastest variant that the first table has of it; FP8 with the cache only.
    """
    measured = [row for row in rows if row.unavailable is None and row.variant.steps == 16]
    table: list[BenchRow] = []
    kinds: tuple[tuple[str, str], ...] = (("float32", "dense"), ("bfloat16", "dense"), ("bfloat16", "fp8"))
    for kind in kinds:
        able = [row for row in measured if (row.variant.dtype, row.variant.linear) == kind]
        if not able:
            continue
        best = replace(min(able, key=lambda row: row.chunk_ms["total"] or 0.0).variant, static=True)
        for steps in sorted(bench.given.steps, reverse=True):
            for evaluations in (None, 8) if steps == 16 else (None,):
                for cache in (True, False) if kind[1] == "dense" else (True,):
                    name = f"{'fp8' if kind[1] == 'fp8' else kind[0]}, {steps} steps" + (
                        ", 8 passes" if evaluations else ""
                    )
                    variant = replace(best, steps=steps, evaluations=evaluations, cache=cache)
                    table.append(bench.measure(name + ("" if cache else ", no cache"), variant))
                    on_line(_line(asdict(table[-1]), [asdict(row) for row in table]))
    return table


def policy(given: BenchConfig, on_line: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Returns the measurements; keys as printed by `wambench bench policy --json`.

    Args:
        given: What to measure.
        on_line: Called with each line of the tables for people, as soon as it is measured.

    Raises:
        ValueError: There is no such config, or it does not fit the device.
    """
    bench = Bench(given)
    about = describe(bench)
    on_line(heading(about))
    on_line(f"\n{HEADER}")
    ladder = climb(bench, on_line)
    on_line(f"\n{HEADER}")
    steps = by_steps(bench, ladder, on_line)
    return {**about, "ladder": [asdict(row) for row in ladder], "steps": [asdict(row) for row in steps]}


def describe(bench: Bench) -> dict[str, Any]:
    """Returns what was measured, on what, and the matrix rates found there."""
    given = bench.given
    c = bench.config
    cuda = bench.device.type == "cuda"
    return {
        "config": given.config,
        "weights": given.weights or "random",
        "device": given.device,
        "device_name": torch.cuda.get_device_name(bench.device) if cuda else _processor(),
        "threads": None if cuda else torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": given.repeats,
        "parameters": flops.parameters(c),
        "tokens": {
            "frame": c.frame_tokens,
            "chunk": c.frames_per_chunk * c.frame_tokens + c.actions_per_chunk + c.states_per_chunk,
            "cached": (1 + c.frames_per_chunk * (c.max_chunks - 1)) * c.frame_tokens,
            "words": bench.words,
            "images": bench.images,
        },
        "matmul_tflops": {kind: rate / TERA for kind, rate in bench.rates.items()},
        "codec_unavailable": bench.codec_unavailable,
    }


def heading(about: dict[str, Any]) -> str:
    """Returns the lines above the tables."""
    tokens = ", ".join(f"{count} {name}" for name, count in about["tokens"].items() if count)
    where = about["device_name"] + (f", threads: {about['threads']}" if about["threads"] else "")
    rates = ", ".join(f"{kind} {rate:.3g}" for kind, rate in about["matmul_tflops"].items())
    weights = f"{about['parameters'] / 1e6:.1f} M weights ({about['weights']})"
    lines = [
        f"DreamZero {about['config']}, {weights}; tokens: {tokens}",
        f"{where}; torch {about['torch']}; median of {about['repeats']} chunks",
        f"matrix products reach, TFLOP/s: {rates}",
    ]
    if about["codec_unavailable"] is not None:
        lines.append(f"encode and decode are not measured: {about['codec_unavailable']}")
    return "\n".join(lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


COLUMNS = ("total", *STAGES)
HEADER = (
    f"{'milliseconds a chunk':38s}"
    + "".join(f"{name:>9s}" for name in COLUMNS)
    + (f"{'a pass':>9s}{'speed-up':>9s}{'TFLOP/s':>9s}{'of limit':>9s}{'MiB':>8s}")
)


def _line(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Returns a row of the table for people; speed-up is against the first measured one of `rows`."""
    if row["unavailable"] is not None:
        return f"{row['name']:38s}{row['unavailable']}"
    first = next(other for other in rows if other["unavailable"] is None)
    cells = [row["chunk_ms"][name] for name in COLUMNS]
    line = f"{row['name']:38s}" + "".join(f"{'-':>9s}" if value is None else f"{value:9.2f}" for value in cells)
    speed = first["chunk_ms"]["total"] / row["chunk_ms"]["total"]
    line += f"{row['evaluation_ms']:9.2f}{speed:8.1f}x{row['tflops']:9.3g}{row['fraction']:9.0%}"
    return line + f"{row['memory_mb']:8.0f}"
