"""Linear layers that multiply in 8 or 4 bits: FP8 (e4m3) on Hopper and later, NVFP4 on Blackwell.

Weights are quantised once, activations at every call. Each layer can also emulate itself: it rounds in the same way and
multiplies the rounded values in float32, which any machine can do; that is how the arithmetic is tested.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0
FP4_LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FP4_BLOCK = 16  # values that share a scale
TINY = 1e-12


def why_unavailable(kind: str, device: torch.device) -> str | None:
    """Returns why a device cannot multiply in "fp8" or "nvfp4", or None if it can."""
    if device.type != "cuda":
        return f"{kind} needs an NVIDIA GPU"
    major, minor = torch.cuda.get_device_capability(device)
    name = f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor})"
    if kind == "fp8":
        return None if (major, minor) >= (8, 9) else f"fp8 needs compute capability 8.9, this is {name}"
    if major < 10:
        return f"nvfp4 needs a Blackwell GPU, this is {name}"
    if not (hasattr(torch, "float4_e2m1fn_x2") and hasattr(functional, "scaled_mm")):
        return f"nvfp4 is not offered by torch {torch.__version__}"
    return None


def to_fp8(x: Tensor, by_row: bool) -> tuple[Tensor, Tensor]:
    """Returns e4m3 values of (M, K) and the float32 scale, (M, 1) or scalar, that gives them back."""
    size = x.abs()
    largest = size.amax(dim=-1, keepdim=True) if by_row else size.amax()
    scale = (largest.float() / FP8_MAX).clamp(min=TINY)
    return (x.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8), scale


class Float8Linear(nn.Module):
    """x W^T + b in e4m3 with float32 accumulation.

    Args:
        weight: (out, in).
        bias: (out,), or None.
        by_row: One scale per token and per output channel (more exact) instead of one per tensor (fastest kernels).
        emulate: Multiply the rounded values in float32.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, by_row: bool = True, emulate: bool = False) -> None:
        super().__init__()
        values, scale = to_fp8(weight, by_row)
        self.register_buffer("weight", values)
        self.register_buffer("scale", scale.t() if by_row else scale)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.by_row = by_row
        self.emulate = emulate

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out) of the same type."""
        values, scale = to_fp8(x.flatten(0, -2), self.by_row)
        if self.emulate:
            y = (values.float() @ self.weight.float().t()) * scale * self.scale
            y = (y if self.bias is None else y + self.bias).to(x.dtype)
        else:
            kind = x.dtype if x.dtype is not torch.float32 else torch.bfloat16
            bias = None if self.bias is None else self.bias.to(kind)
            y = torch._scaled_mm(
                values, self.weight.t(), scale_a=scale, scale_b=self.scale, bias=bias, out_dtype=kind,
                use_fast_accum=True,
            ).to(x.dtype)  # fmt: skip
        return y.unflatten(0, x.shape[:-1])


def outer_scale(largest: Tensor) -> Tensor:
    """Returns NVFP4's scale of a whole tensor, so that its largest magnitude is level 6 in a block of scale 448."""
    return (largest.float() / (6.0 * FP8_MAX)).clamp(min=TINY)


def to_fp4(x: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Returns NVFP4 codes of (M, K) and the e4m3 scales (M, K / 16) of their blocks.

    A value is sign * level * block scale * largest / (6 * 448): two levels of scales, the outer one per tensor.

    Args:
        x: Values.
        largest: Largest magnitude in the tensor, float32 scalar.

    Returns:
        uint8 codes 0 to 15 (bit 3 is the sign), one per value, and the scales.
    """
    outer = outer_scale(largest)
    blocks = x.float().unflatten(-1, (-1, FP4_BLOCK))
    scales = (blocks.abs().amax(dim=-1) / (6.0 * outer)).clamp(max=FP8_MAX).to(FP8)
    unit = (scales.float() * outer).clamp(min=TINY)[..., None]
    levels = torch.tensor(FP4_LEVELS, device=x.device)
    codes = torch.bucketize((blocks.abs() / unit).clamp(max=6.0), (levels[1:] + levels[:-1]) / 2)
    return (codes + 8 * (blocks < 0)).to(torch.uint8).flatten(-2), scales


def from_fp4(codes: Tensor, scales: Tensor, largest: Tensor) -> Tensor:
    """Returns the float32 values of `to_fp4`."""
    levels = torch.tensor(FP4_LEVELS + tuple(-v for v in FP4_LEVELS), device=codes.device)
    outer = outer_scale(largest)
    return (levels[codes.long()].unflatten(-1, (-1, FP4_BLOCK)) * (scales.float() * outer)[..., None]).flatten(-2)


def pack_codes(codes: Tensor) -> Tensor:
    """Returns two codes per byte, the first in the low half, (M, K / 2)."""
    pairs = codes.unflatten(-1, (-1, 2))
    return pairs[..., 0] | (pairs[..., 1] << 4)


def arrange_scales(scales: Tensor) -> Tensor:
    """Returns scales (M, N) flat, in the order the tensor cores read: tiles of 128 rows and 4 columns.

    In a tile, row 32 i + j, column c goes to place (j, 4 i + c) of a 32 x 16 matrix. Short tiles are filled with zeros.
    """
    rows, columns = scales.shape
    wide = functional.pad(scales.view(torch.uint8), (0, -columns % 4, 0, -rows % 128))
    tiles = wide.view(wide.shape[0] // 128, 4, 32, wide.shape[1] // 4, 4)
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1).view(scales.dtype)


class Float4Linear(nn.Module):
    """x W^T + b in NVFP4: 4-bit values, an e4m3 scale for each 16 of them, and one float32 scale per tensor.

    The arithmetic is tested by emulation; the call of the Blackwell kernel has not run on any device yet.
    """

    weight: Tensor
    scales: Tensor
    largest: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, emulate: bool = False) -> None:
        super().__init__()
        largest = weight.abs().amax().float()
        codes, scales = to_fp4(weight, largest)
        self.register_buffer("weight", codes if emulate else pack_codes(codes))
        self.register_buffer("scales", scales if emulate else arrange_scales(scales))
        self.register_buffer("largest", largest)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.emulate = emulate

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out) of the same type."""
        flat = x.flatten(0, -2)
        largest = flat.abs().amax().float()
        codes, scales = to_fp4(flat, largest)
        if self.emulate:
            y = from_fp4(codes, scales, largest) @ from_fp4(self.weight, self.scales, self.largest).t()
        else:
            y = self._multiply(pack_codes(codes), arrange_scales(scales)) * outer_scale(largest)
            y = y * outer_scale(self.largest)
        y = y if self.bias is None else y + self.bias
        return y.to(x.dtype).unflatten(0, x.shape[:-1])

    def _multiply(self, values: Tensor, scales: Tensor) -> Tensor:
        recipe = functional.ScalingType.BlockWise1x16
        swizzle = functional.SwizzleType.SWIZZLE_32_4_4
        kind = torch.float4_e2m1fn_x2
        return functional.scaled_mm(
            values.view(kind), self.weight.view(kind).t(), scales, recipe, self.scales, recipe, swizzle, swizzle,
            output_dtype=torch.bfloat16,
        )  # fmt: skip
