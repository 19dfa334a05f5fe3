"""What a training costs: floating-point operations of a step, counted while it runs.

A multiply-add counts two, and only matrix products and attention are counted (`torch.utils.flop_counter`), as in
`dreamzero.flops`. Counting what runs, instead of deriving it from sizes, treats every method alike, with its forward
and backward passes and its frozen parts.
"""

from __future__ import annotations

import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from wambench.policies.training import loop

DRAWS = 16  # batches differ in the number of chunks and words


def per_sample(job: loop.TrainJob[loop.Model]) -> float:
    """Returns the mean operations of forward and backward pass per sample of a job; weights and gradients stay."""
    before = [p.grad for p in job.model.parameters()]
    with FlopCounterMode(display=False) as counter:
        for seed in range(DRAWS):
            job.progress = (seed + 0.5) / DRAWS  # a training may have stages
            losses = job.loss(job.model, torch.Generator().manual_seed(seed))
            torch.stack([value.float() for value in losses]).sum().backward()
    for p, gradient in zip(job.model.parameters(), before, strict=True):
        p.grad = gradient
    return counter.get_total_flops() / (DRAWS * job.batch)


def steps_for(flops: float, each: float, samples: int) -> int:
    """Returns how many steps of so many samples, `each` operations a sample, come nearest to a budget; at least one."""
    return max(1, math.floor(flops / (each * samples) + 0.5))
