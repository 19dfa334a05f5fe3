"""Noise is a function of a generator of the CPU."""

import torch

from wambench.policies.networks.noise import normal


def test_noise_of_the_cpu_is_that_of_its_generator() -> None:
    drawn = normal((3, 4), torch.Generator().manual_seed(5), "cpu")
    assert torch.equal(drawn, torch.randn(3, 4, generator=torch.Generator().manual_seed(5)))
