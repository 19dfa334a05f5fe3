"""The renderer keeps what it is not told to move, moves and paints the rest, and refuses files that do not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wambench.policies import weight_files
from wambench.policies.perception import renderer
from wambench.policies.perception.encoder import to_pixels
from wambench.policies.perception.renderer import Renderer, RendererConfig, Told

CONFIG = RendererConfig(("red_cube", "hand"), (8, 2, 4), (32, 64), widths=(16, 16, 16), hidden=32, hints=4)


def told(seed: int, count: int = 2) -> Told:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, *CONFIG.latent, generator=generator)
    return Told(latents, torch.rand(count, len(CONFIG.points), 4, generator=generator))


def pictures(seed: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, *CONFIG.canvas, 3), generator=torch.Generator().manual_seed(seed)).byte()


def model_of() -> Renderer:
    torch.manual_seed(0)
    return Renderer(CONFIG).eval()


def test_it_starts_as_a_copy() -> None:
    frames = pictures(0)
    drawn = model_of().draw(frames, told(1), told(2))
    assert drawn.shape == frames.shape and drawn.dtype == torch.uint8
    assert (drawn.int() - frames.int()).abs().max() <= 12  # what does not rest has a twentieth of the weight


def test_views_are_drawn_apart() -> None:
    model = model_of()
    torch.nn.init.normal_(model.out.weight, std=0.1)
    torch.nn.init.normal_(model.affine.weight, std=0.1)
    frames, now, then = pictures(0), told(1), told(2)
    other = frames.clone()
    other[:, :, 32:] = 255 - other[:, :, 32:]
    one, two = (model.draw(f, now, then)[:, :, :32] for f in (frames, other))
    assert torch.equal(one, two)  # the left view knows nothing of the right one
    assert not torch.equal(one, frames[:, :, :32])


def test_an_affine_map_moves_a_whole_view() -> None:
    model = model_of()
    with torch.no_grad():
        model.affine.weight.zero_()
        model.affine.bias[6 + 2] = 4.0  # half of it, in half views, of the second map: from one view further right
        assert model.out.bias is not None
        model.out.bias[2 + 2 * 16 : 2 + 3 * 16] = 40.0  # nothing else is seen
    frames = pictures(0)
    drawn = model.draw(frames, told(1), told(1))
    edge = frames[:, :, 31:32].expand(-1, -1, 31, -1)  # beyond the border lies its last column
    assert (drawn[:, :, 1:32].int() - edge.int()).abs().max() <= 1


def test_weights_add_to_one_and_shrunken_layers_are_those_of_the_shrunken_frame() -> None:
    model = model_of()
    torch.nn.init.normal_(model.out.weight, std=0.1)
    pixels = to_pixels(pictures(0))
    drawing = model.drawing(pixels, told(1), told(2))
    torch.testing.assert_close(drawing.weights.sum(dim=1), torch.ones_like(drawing.weights[:, 0]))
    assert drawing.layers().shape == (4, CONFIG.maps + 1, 3, 32, 32)
    small = drawing.layers(4)
    torch.testing.assert_close(small[:, 0], torch.nn.functional.avg_pool2d(model.by_view(pixels), 4))
    assert drawing.moved(4).shape == (4, 3, 8, 8)


def test_it_reads_what_is_told() -> None:
    model = model_of()
    for name, parameter in model.named_parameters():
        if "film" in name or name.startswith("out"):
            torch.nn.init.normal_(parameter, std=0.2)
    frames, now, then = pictures(0), told(1), told(2)
    plain = model.draw(frames, now, then)
    assert not torch.equal(plain, model.draw(frames, now, replace(then, points=told(3).points)))
    assert not torch.equal(plain, model.draw(frames, now, replace(then, latents=told(3).latents)))


def test_an_absent_object_is_nowhere() -> None:
    model, then = model_of(), told(2)
    then.points[:, 0, 3] = 0.0
    elsewhere = then.points.clone()
    elsewhere[:, 0, :3] += 1.0
    torch.testing.assert_close(model._say(told(1), then), model._say(told(1), Told(then.latents, elsewhere)))


def test_files(tmp_path: Path) -> None:
    model = model_of()
    path = tmp_path / "renderer.safetensors"
    meta = {"kind": "renderer", "config": CONFIG.to_dict()}
    weight_files.write_weights(path, model.state_dict(), {"points_mean"}, meta)
    loaded, found = renderer.load(path)
    assert loaded.config == CONFIG and found["kind"] == "renderer"
    weight_files.write_weights(path, model.state_dict(), set(), meta | {"config": {"sides": 3}})
    with pytest.raises(ValueError, match="damaged weights file"):
        renderer.load(path)
