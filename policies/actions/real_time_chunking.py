"""Real-time chunking: a new chunk that continues the one still being played, by guided inpainting.

Black, Galliker and Levine, arXiv 2506.07339: at every denoising step the velocity is corrected by the gradient of how
far the predicted clean chunk is from what the old one says (pseudo-inverse guidance, Song et al., ICLR 2023). The
gradient is a vector-Jacobian product through the network; leaving the network out (the identity in its place) is
another method, and moves the result by far more than any tolerance (tests).

The paper counts tau from 0 (noise) to 1 (data), with dx/dtau = data - noise. DreamZero and pi0 count sigma = 1 - tau
with velocity noise - data; `guided_velocity` is for these, and a flow policy plugs in by

    velocity = lambda x: self.velocity(x, sigma)
    v = velocity(x) if guidance is None else rtc.guided_velocity(velocity, x, sigma, guidance)

Letters: B batch, H actions of a chunk, A numbers of an action, d delay, s steps executed per query, e = H - s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from wambench.interface import unknown_name

BETA = 5.0  # largest guidance weight, the paper's value in simulation
SCHEDULES = ("exp", "linear", "ones", "zeros")

Field = Callable[[Tensor], Tensor]
TimedField = Callable[[Tensor, float], Tensor]


def prefix_weights(delay: int, end: int, horizon: int, schedule: str = "exp") -> Tensor:
    """Returns (H,) how much each action of the old chunk counts.

    1 for the first `delay` actions, which will have been carried out whatever the new chunk says, then falling to 0 at
    `end`, where the old chunk ends.

    Args:
        delay: d, control steps until the new chunk plays.
        end: e, actions that the old chunk still has.
        horizon: H.
        schedule: "linear"; "exp", which falls faster; "ones" up to the end; "zeros": hard masking, nothing behind d.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("schedule of prefix weights", schedule, SCHEDULES)
    start = min(delay, end)
    i = torch.arange(horizon, dtype=torch.float64)
    ramp = ((start - 1 - i) / (end - start + 1) + 1).clamp(0.0, 1.0)
    weights = {
        "linear": ramp,
        "exp": ramp * torch.expm1(ramp) / math.expm1(1.0),
        "ones": torch.ones_like(i),
        "zeros": (i < start).double(),
    }[schedule]
    return torch.where(i < end, weights, 0.0).float()


def guidance_weight(tau: float, beta: float = BETA) -> float:
    """Returns min((1 - tau) / tau * (tau^2 + (1 - tau)^2) / (1 - tau)^2, beta); beta at both ends."""
    if tau <= 0.0 or tau >= 1.0:
        return beta
    return min((tau**2 + (1.0 - tau) ** 2) / (tau * (1.0 - tau)), beta)


@dataclass(frozen=True)
class Guidance:
    """What a new chunk should agree with.

    Attributes:
        old: (..., H, D) what will be carried out from now on, in units of the network, zeros where nothing is known; a
            network of more than D numbers an action (A) is left alone in the others.
        weights: (H,) how much each of these actions counts.
        beta: Largest guidance weight.
    """

    old: Tensor
    weights: Tensor
    beta: float = BETA

    def error(self, clean: Tensor) -> Tensor:
        """Returns (..., H, A) the weighted distance from a predicted clean chunk to the old one."""
        known = self.old.shape[-1]
        off = (self.old - clean[..., :known]) * self.weights[:, None]
        return functional.pad(off, (0, clean.shape[-1] - known))

    def to(self, device: torch.device | str) -> Guidance:
        """Returns the same on another device."""
        return replace(self, old=self.old.to(device), weights=self.weights.to(device))


def guidance_of(previous: np.ndarray | Tensor, delay: int, horizon: int, beta: float = BETA) -> Guidance:
    """Returns the guidance for `interface.Guided.act_guided`.

    Args:
        previous: (n, A) actions that will be carried out from now on, in the units of the network.
        delay: How many of them will have been when the new chunk plays.
        horizon: H of the new chunk; actions beyond it are left out.
        beta: Largest guidance weight.
    """
    known = torch.as_tensor(previous, dtype=torch.float32)[:horizon]
    old = torch.cat([known, known.new_zeros(horizon - len(known), known.shape[1])])
    weights = prefix_weights(delay, len(known), horizon).to(known.device)
    return Guidance(old, weights, beta)


def correction(x: Tensor, clean: Tensor, sigma: float, guidance: Guidance) -> Tensor:
    """Returns what to take from the velocity noise - data at noise level sigma: g (d clean / d x)^T error.

    Args:
        x: (B, H, A) noisy chunk that `clean` was computed from with gradients.
        clean: (B, H, A) predicted clean chunk, x - sigma velocity.
        sigma: Noise level, 1 is noise.
        guidance: See `Guidance`.
    """
    (product,) = torch.autograd.grad(clean, x, guidance.error(clean.detach()))
    return guidance_weight(1.0 - sigma, guidance.beta) * product


def guided_velocity(velocity: Field, x: Tensor, sigma: float, guidance: Guidance) -> Tensor:
    """Returns the guided velocity, noise - data, of x at noise level sigma (1 is noise).

    Args:
        velocity: The network at this noise level: (B, H, A) -> (B, H, A), differentiable.
        x: (B, H, A) noisy chunk.
        sigma: Noise level.
        guidance: See `Guidance`.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        v = velocity(x)
        return v.detach() - correction(x, x - sigma * v, sigma, guidance)


def guided_velocity_towards_data(velocity: Field, x: Tensor, tau: float, guidance: Guidance) -> Tensor:
    """Returns the guided velocity in the paper's convention (and GR00T's): data - noise at tau, 0 is noise."""
    return -guided_velocity(lambda y: -velocity(y), x, 1.0 - tau, guidance)


def sample(velocity: TimedField, noise: Tensor, steps: int, guidance: Guidance | None = None) -> list[Tensor]:
    """Returns the steps + 1 samples of Euler's method from noise to data; without guidance the naive sampler.

    Args:
        velocity: (x, tau) -> data - noise, tau = 0 is noise.
        noise: (B, H, A).
        steps: N, each of length 1 / N.
        guidance: See `Guidance`.
    """
    path = [noise]
    for i in range(steps):
        x = path[-1]
        tau = i / steps
        v = velocity(x, tau) if guidance is None else guided_velocity_towards_data(_at(velocity, tau), x, tau, guidance)
        path.append(x + v / steps)
    return path


def _at(velocity: TimedField, tau: float) -> Field:
    return lambda x: velocity(x, tau)


def splice(old: Tensor, new: Tensor, delay: int, executed: int) -> Tensor:
    """Returns what is carried out between two queries: old[:d], then new[d:s]; (..., s, A).

    Reference implementation, checked against the paper's code by `make parity`; no command uses it.
    """
    return torch.cat([old[..., :delay, :], new[..., delay:executed, :]], dim=-2)


def shift_chunk(chunk: Tensor, executed: int) -> Tensor:
    """Returns a chunk (..., H, A) as seen s steps later: chunk[s:], then zeros.

    Reference implementation, checked against the paper's code by `make parity`; no command uses it.
    """
    return torch.cat([chunk[..., executed:, :], torch.zeros_like(chunk[..., :executed, :])], dim=-2)


def backward_loss(candidates: Tensor, old: Tensor, weights: Tensor) -> Tensor:
    """Returns (...) how far chunks are from the old one: sum_i W_i |candidate_i - old_i|_2.

    Args:
        candidates: (..., H, A).
        old: (..., H, A), aligned to now.
        weights: (H,).
    """
    return (torch.linalg.vector_norm(candidates - old, dim=-1) * weights).sum(dim=-1)


def bid(
    candidates: Tensor, old: Tensor, weights: Tensor, weak: Tensor | None = None, neighbours: int = 3
) -> tuple[Tensor, Tensor]:
    """Returns the chunks (B, H, A) and indices (B,) chosen by bidirectional decoding (Liu et al., arXiv 2408.17355).

    Reference implementation, checked against the paper's code by `make parity`; no command uses it.

    Args:
        candidates: (N, B, H, A) chunks drawn from the policy.
        old: (B, H, A) the old chunk, aligned to now.
        weights: (H,) of the backward loss.
        weak: (N, B, H, A) chunks of a weaker policy, to stay away from; None leaves the forward contrast out.
        neighbours: k; the contrast compares with the k chunks of each policy whose own backward loss is least.
    """
    loss = backward_loss(candidates, old, weights)
    total = loss
    if weak is not None:
        near = _distance(candidates, _best(candidates, loss, neighbours))
        far = _distance(candidates, _best(weak, backward_loss(weak, old, weights), neighbours))
        total = loss + (near - far) / len(candidates)
    index = total.argmin(dim=0)
    return candidates[index, torch.arange(candidates.shape[1])], index


def _best(chunks: Tensor, loss: Tensor, count: int) -> Tensor:
    """Returns the (k, B, H, A) chunks of least loss, per sample."""
    order = loss.argsort(dim=0, stable=True)[:count]
    return chunks[order, torch.arange(chunks.shape[1])]


def _distance(chunks: Tensor, others: Tensor) -> Tensor:
    """Returns (N, B): for each chunk the sum over the others and over time of its distance to them."""
    return torch.linalg.vector_norm(chunks[:, None] - others[None], dim=-1).sum(dim=(1, 3))
