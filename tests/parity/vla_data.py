"""The parts and the data protocol of the baselines against `basics` and `transforms`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation
from torch import Tensor

from tests.parity.result import Result, compare
from wambench.policies.actions import normalization
from wambench.policies.vla import action_expert, groot_transforms, openpi, pi05

PART, EXACT, RELATIVE = 1e-5, 0.0, 1e-5
SINUSOID = 2e-4
GREY = 1.0  # levels: the reference's two resizers differ by as much


def check_basics(folder: Path) -> list[Result]:
    """Norms, rotary positions, MLP, GELU, table, masks, attention, sinusoids, times."""
    t = load_file(folder / "basics.safetensors")
    with torch.no_grad():
        return [*_norms(t), *_layers(t), *_masks(t), *_times(t)]


def _norms(t: dict[str, Tensor]) -> list[Result]:
    plain, adaptive = action_expert.GemmaRMSNorm(12), action_expert.AdaRMSNorm(12, 10)
    plain.load_state_dict({"scale": t["rmsnorm.scale"]})
    adaptive.load_state_dict({f"modulation.{name}": t[f"adarms.{name}"] for name in ("weight", "bias")})
    out, gate = adaptive(t["adarms.x"], t["adarms.cond"])
    assert gate is not None
    small = [
        compare("rmsnorm", plain(t["rmsnorm.x"])[0], t["rmsnorm.out"], PART),
        compare("gate", gate, t["adarms.gate"], PART),
    ]
    residual = action_expert.add_gated(t["adarms.x"], t["adarms.branch"], gate)
    return [*small, compare("adarms", out, t["adarms.out"], PART),
            compare("gated residual", residual, t["adarms.gated_residual"], PART)]  # fmt: skip


def _layers(t: dict[str, Tensor]) -> list[Result]:
    mlp = action_expert.MLP(12, 20)
    mlp.load_state_dict({name: t[f"mlp.{name}"] for name in mlp.state_dict()})
    turn = action_expert.rotation(t["rope.positions"], 8)
    rotated = action_expert.rotate(t["rope.x"].transpose(1, 2), *turn).transpose(1, 2)
    sizes = action_expert.Sizes((12, 4), (12, 4), 1, 3, 1, 4, vocabulary=9)
    table = action_expert.ActionExpert(sizes, 12, 4, vocabulary=9)
    table.embed_tokens.load_state_dict({"weight": t["embed.table"]})
    layer = action_expert.Layer(sizes, 12, 4, 0)
    for name in ("q", "k", "v", "o"):
        getattr(layer, f"{name}_proj").load_state_dict({"weight": t[f"attention.{name}_proj.weight"]})
    x = t["attention.x"]
    turn = action_expert.rotation(torch.arange(x.shape[1])[None], 4)
    k, v = layer.keys(x, turn)
    heads = action_expert.attend(layer.queries(x, turn), k, v, action_expert.bias_of(t["attention.allowed"].bool()))
    return [
        compare("mlp", mlp(t["mlp.x"]), t["mlp.out"], PART),
        compare("gelu", torch.nn.functional.gelu(t["gelu.x"], approximate="tanh"), t["gelu.y"], PART),
        compare("rope", rotated, t["rope.out"], PART),
        compare("embedding", table.embed(t["embed.ids"].long()), t["embed.out"], PART),
        compare("keys", k.transpose(1, 2), t["attention.k"], PART),
        compare("values", v.transpose(1, 2), t["attention.v"], PART),
        compare("attention", layer.o_proj(heads), t["attention.out"], PART),
    ]


def _masks(t: dict[str, Tensor]) -> list[Result]:
    results = []
    for name in ("pi0", "pi05", "pi0fast", "blocks"):
        valid = t[f"mask.{name}.valid"].bool()
        allowed = action_expert.block_mask(t[f"mask.{name}.ar"], valid).to(torch.uint8)
        results.append(compare(f"mask of {name}", allowed, t[f"mask.{name}.allowed"], EXACT))
        positions = valid.long().cumsum(1) - 1
        results.append(compare(f"positions of {name}", positions, t[f"mask.{name}.positions"], EXACT))
    return results


def _times(t: dict[str, Tensor]) -> list[Result]:
    results = [
        compare(
            f"sinusoid of {width}",
            action_expert.time_features(t["sincos.t"], width),
            t[f"sincos.dim{width}.float32"],
            SINUSOID,
        )
        for width in (8, 32, 48)
    ]
    # draws cannot be repeated; their law can: the quantiles of both samples lie together
    levels = torch.linspace(0.05, 0.95, 10)
    ours = action_expert.draw_times(200_000, torch.Generator().manual_seed(0)).quantile(levels)
    results.append(compare("law of times", ours, t["time.t"].quantile(levels), 0.03))
    return [*results, compare("times", 0.999 * t["time.beta"] + 0.001, t["time.t"], PART)]


def check_transforms(folder: Path) -> list[Result]:
    """Normalisation, statistics, text, images, rotations, deltas, relative chunks."""
    t = {name: value.numpy() for name, value in load_file(folder / "transforms.safetensors").items()}
    return [*_normalised(t), *_stats(t), *_text(t), *_images(t), *_motions(t), *_groot(t)]


def _near(name: str, got: np.ndarray, expected: np.ndarray, tolerance: float = RELATIVE) -> Result:
    """Compares in units of each expected value where it is above 1."""
    size = np.maximum(np.abs(expected.astype(np.float64)), 1.0)
    return compare(name, torch.from_numpy(np.asarray(got / size)), torch.from_numpy(expected / size), tolerance)


def _same(name: str, got: object, expected: object) -> Result:
    return Result(name, float(got != expected), EXACT)


def _words(values: np.ndarray) -> str:
    return bytes(values.tolist()).decode()


def _normalised(t: dict[str, np.ndarray]) -> list[Result]:
    x, mean, std, q01, q99 = (t[f"norm.{name}"] for name in ("x", "mean", "std", "q01", "q99"))
    short, longer = slice(0, 4), {"quantile": (q01, q99), "zscore": (mean, std)}
    return [
        _near("quantile", normalization.quantile(x, q01, q99), t["norm.quantile"]),
        _near("quantile, undone", normalization.undo_quantile(t["norm.quantile"], q01, q99), t["norm.quantile_undo"]),
        _near(
            "quantile, cut", normalization.quantile(x[:, short], q01[short], q99[short]), t["norm.quantile_first4dims"]
        ),
        _near("z-score", normalization.zscore(x, mean, std), t["norm.zscore"]),
        _near("z-score, undone", normalization.undo_zscore(t["norm.zscore"], mean, std), t["norm.zscore_undo"]),
        _near("z-score, cut", normalization.zscore(x[:, short], mean[short], std[short]), t["norm.zscore_first4dims"]),
        *(
            _near(
                f"{kind}, longer",
                openpi.undo_longer(kind, t[f"norm.{kind}_padded_in"], *pair),
                t[f"norm.{kind}_padded_undo"],
            )
            for kind, pair in longer.items()
        ),
    ]


def _stats(t: dict[str, np.ndarray]) -> list[Result]:
    stats = openpi.running_stats(np.split(t["stats.data"], 3))
    return [_near(f"stats {name}", getattr(stats, name), t[f"stats.{name}"]) for name in ("mean", "std", "q01", "q99")]


def _text(t: dict[str, np.ndarray]) -> list[Result]:
    prompt = _words(t["text.prompt"])
    bins = pi05.bins(torch.from_numpy(t["bins.state"])).numpy()
    pi0, fast = openpi.pi0_pieces(prompt), openpi.fast_pieces(prompt, t["text.state"])

    def ids(pieces: list[str]) -> list[int]:
        return [byte + 300 for piece in pieces for byte in piece.encode()]

    codes = openpi.fast_rows(t["text.fast_action_codes"]).tolist()
    written = [*ids(fast[1:2]), *codes, *ids(fast[2:]), 1]
    sequence = openpi.fast_sequence([2, *ids(fast[:1])], written, len(t["text.fast_ids"]))
    padded = openpi.fast_sequence([2, *ids(pi0)], [], len(t["text.pi0_mask"]))
    marks = [("ids", sequence.ids), ("mask", sequence.mask), ("ar", sequence.causal), ("loss", sequence.learned)]
    return [
        compare("bins", torch.from_numpy(bins), torch.from_numpy(t["bins.index"]), EXACT),
        _same("pi0", [[pi0[0], True, False], [pi0[1], False, False]], json.loads(_words(t["text.pi0_pieces"]))),
        _same("pi05", openpi.pi05_text(prompt, t["bins.state"]), _words(t["text.pi05"])),
        _same("pi05, short", openpi.pi05_text(prompt, t["text.state"]), _words(t["text.pi05_short"])),
        _same("fast", fast, [piece[0] for piece in json.loads(_words(t["text.fast_pieces"]))]),
        _same("pi0 ids", padded.ids.tolist(), t["text.pi0_ids_as_bytes"].tolist()),
        _same("pi0 mask", padded.mask.tolist(), t["text.pi0_mask"].tolist()),
        *(_same(f"fast {name}", got.tolist(), t[f"text.fast_{name}"].tolist()) for name, got in marks),
    ]


def _images(t: dict[str, np.ndarray]) -> list[Result]:
    base, wrist = (openpi.from_libero(t[f"libero.{name}"], 16) for name in ("agentview", "wrist"))
    results = [
        compare("sent image", torch.from_numpy(base), torch.from_numpy(t["libero.sent_image"]), GREY),
        compare("sent wrist", torch.from_numpy(wrist), torch.from_numpy(t["libero.sent_wrist"]), GREY),
        _same("parsed", openpi.parse_image(t["parse.float_chw"]).tolist(), t["parse.uint8_hwc"].tolist()),
    ]
    for robot in ("libero", "droid"):
        for model in ("pi0", "pi05", "pi0_fast"):
            names, stack, mask = openpi.images(t["libero.sent_image"], t["libero.sent_wrist"], model, robot)
            results += [
                _same(f"{robot} {model} slots", list(names), json.loads(_words(t[f"{robot}.{model}.image_names"]))),
                _same(f"{robot} {model} images", stack.tolist(), t[f"{robot}.{model}.images"].tolist()),
                _same(f"{robot} {model} mask", list(map(int, mask)), t[f"{robot}.{model}.image_mask"].tolist()),
            ]
    for shape in ("wide", "tall", "small"):
        image = t[f"resize.{shape}.in"]
        resized, floats = openpi.resize_with_pad(image, 12, 12), openpi.resize_with_pad(openpi.to_float(image), 12, 12)
        pairs = [(kind, torch.from_numpy(t[f"resize.{shape}.{kind}"])) for kind in ("pil", "jax_uint8")]
        results += [compare(f"{shape} {kind}", torch.from_numpy(resized), expected, GREY) for kind, expected in pairs]
        results.append(_near(f"{shape} float", floats, t[f"resize.{shape}.jax_float"]))
    return results


def _motions(t: dict[str, np.ndarray]) -> list[Result]:
    results = [
        _near("axis-angle", openpi.axis_angle(t["quat.xyzw"]), t["quat.axis_angle"]),
        _near("pixels", openpi.to_float(t["libero.pi0.images"][:1]), t["image.float"]),
    ]
    parts = [t["libero.eef_pos"], openpi.axis_angle(t["libero.eef_quat"][None])[0], t["libero.gripper_qpos"]]
    results.append(_near("sent state", np.concatenate(parts), t["libero.sent_state"]))
    for name in ("aloha", "droid", "libero", "mixed"):
        case = {part: t[f"delta.{name}.{part}"] for part in ("absolute", "delta", "back", "state", "mask")}
        delta = openpi.to_delta(case["absolute"], case["state"], case["mask"])
        back = openpi.to_delta(case["delta"], case["state"], case["mask"], sign=1.0)
        results += [_near(f"delta {name}", delta, case["delta"]), _near(f"delta {name}, back", back, case["back"])]
    for name, size in (("libero", 7), ("droid", 8)):
        results.append(_near(f"outputs of {name}", t["pad.actions"][:, :size], t[f"outputs.{name}"]))
    return [*results, _near("padded", openpi.pad(t["pad.state"][:8]), t["pad.state"])]


def _groot(t: dict[str, np.ndarray]) -> list[Result]:
    state, poses = t["groot.eef.state"], t["groot.eef.absolute"]
    moved = groot_transforms.to_relative(poses, state)
    vectors = np.concatenate(
        [moved[:, :3], Rotation.from_matrix(groot_transforms.matrices(moved[:, 3:])).as_rotvec()], axis=1
    )
    low, high, x = (t[f"groot.norm.{name}"] for name in ("min", "max", "x"))
    joints, at = t["groot.joint.absolute"], t["groot.joint.state"]
    every = groot_transforms.matrices(np.concatenate([state[None], poses])[:, 3:])
    return [
        _near("rotations", every, t["groot.eef.rotation_matrices"]),
        _near("relative poses", moved, t["groot.eef.relative"]),
        _near("relative poses, back", groot_transforms.to_absolute(moved, state), t["groot.eef.back"]),
        _near("relative rotation vectors", vectors, t["groot.eef.relative_rotvec"]),
        _near("relative joints", openpi.to_delta(joints, at, np.ones(len(at))), t["groot.joint.relative"]),
        _near("min-max", groot_transforms.minmax(x, low, high, clip=False), t["groot.norm.minmax"]),
        _near("min-max, clipped", groot_transforms.minmax(x, low, high), t["groot.norm.minmax_clipped"]),
        _near("min-max, undone", groot_transforms.undo_minmax(t["groot.norm.minmax"], low, high), t["groot.norm.undo"]),
    ]


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    "basics.safetensors": check_basics,
    "transforms.safetensors": check_transforms,
}
