"""The tools that make the tables of the documentation run with the package as it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import architectures
import fit
import numpy as np
import pytest
import slim
import torch
from PIL import Image
from torch import Tensor, nn

from vrdir_plug import UNIT, Restorer, stages
from vrdir_plug.config import config_of
from vrdir_plug.data import Chance, draw_pairs
from vrdir_plug.front import PixelFilter
from vrdir_plug.learner import Learner
from vrdir_plug.teachers import Teacher


@pytest.mark.parametrize("name", architectures.NETWORKS)
def test_an_architecture_starts_at_the_identity_and_learns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "STAGES", stages.STAGES)  # the tool puts its own in their place
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, 112, 112), dtype=torch.uint8) for _ in range(4)]
    network = architectures.NETWORKS[name]()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    image = images[0][None, :, :96, :96] / 255
    with torch.inference_mode():
        assert (network(image) - image).abs().max() < 1e-4 or name in ("no-skip", "paper")
    after = architectures.trained(network, images, 2, batch=4).state_dict()
    assert any(not torch.equal(after[key], tensor) for key, tensor in before.items())


class Patches(nn.Module):
    """A classifier of patches of 8 and of 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 8, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return 40 * self.second(self.first(images).relu()).mean((2, 3))


def test_processes_of_other_seeds_draw_other_samples(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    for n in range(3):
        pixels = dice.integers(0, 256, (240, 240, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    Restorer("fast").half().save_pretrained(tmp_path / "old")
    drawn = []
    for seed in (0, 1, 1):
        fit.draw(fit.PARTS["noise"], tmp_path / "old", tmp_path / "x", [tmp_path], [], 32, seed)
        drawn.append(torch.load(tmp_path / "x")[0])
    first, second, again = drawn
    assert torch.equal(second, again)
    # of another seed all, and of one seed each
    samples = torch.cat([first, second])
    assert len(samples.unique(dim=0)) == len(samples) == 64


@pytest.mark.parametrize("name", fit.PARTS)
def test_a_part_is_fitted_to_what_was_drawn(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else moves, and what is asked for comes nearer."""
    dice = np.random.default_rng(0)
    for n in range(3):
        coarse = Image.fromarray(dice.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        coarse.resize((360, 240)).save(tmp_path / f"{n}.png")
    torch.manual_seed(0)
    old, part = Restorer(replace(config_of("fast"), weather=8)).half(), fit.PARTS[name]
    # a scene that is half as rich in contrast, which is taken for worth it
    weather: Any = old.weather_filter
    nn.init.constant_(weather.leave.bias[48:], -2.0)
    nn.init.constant_(weather.asks[1].bias, 0.5)
    with torch.no_grad():  # a network that does not restore anything is worth nothing
        old.light.range_switch.switch[0] = 1.0
    old.save_pretrained(tmp_path / "old")
    teachers, file = [Teacher(Patches(), UNIT)], tmp_path / "drawn.pt"
    fit.draw(part, tmp_path / "old", file, [tmp_path], teachers, 64, 0)
    epochs = 400 * part.batch // 128  # as many steps of each part
    fit.fit(part, tmp_path / "old", tmp_path / "new", [file], teachers, epochs)
    assert capsys.readouterr().out.count("held out") == 2
    new = Restorer.from_pretrained(tmp_path / "new")
    samples, learnt = fit.loaded(part, [file]), torch.arange(fit.TOGETHER, 64)
    before, after = (
        fit.mean_loss(part, network.float(), teachers, samples, learnt) for network in (old, new)
    )
    assert after < 0.8 * before
    moved = {n for n, w in old.state_dict().items() if not torch.equal(w, new.state_dict()[n])}
    assert moved and all(key.startswith(part.learns) for key in moved)


def test_what_was_held_out_counts_by_samples_whatever_the_batch() -> None:
    torch.manual_seed(0)
    restorer, part = Restorer("fast"), fit.PARTS["noise"]
    for parameter in restorer.pixel_filter.noise_filter.parameters():
        nn.init.normal_(parameter)
    samples = [part.sample(torch.randn(10, PixelFilter.known), torch.randn(10))]
    found = [
        fit.mean_loss(part._replace(batch=batch), restorer, [], samples, torch.arange(10))
        for batch in (10, 9, 4)
    ]
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_a_slim_network_is_trained_by_imitation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "STAGES", stages.STAGES)
    monkeypatch.setattr(slim, "trained", lambda network, options: len(options))
    Restorer("fast").half().save_pretrained(tmp_path)
    assert slim.main(str(tmp_path), "8", "8", "--steps", "2") == 2
    config = config_of("fast")
    assert [stage.name for stage in stages.STAGES] == ["imitate"]
    assert stages.stages_of(config) == [0] and stages.first_repeated(config) == 0


def test_a_slim_network_has_the_filters_of_the_large_one_and_comes_near_it() -> None:
    large = Restorer.from_pretrained("fast").requires_grad_(False)
    small = slim.slim(large, 8, [8])
    filters = "zoom_filter", "motion_filter", "defocus_filter", "streak_filter", "pixel_filter"
    for part in (*filters, "light", "pixel_dnc", "gains"):
        for name, weight in large.get_submodule(part).state_dict().items():
            assert torch.equal(small.get_submodule(part).state_dict()[name], weight)
    learner = Learner(small, [])
    parts = stages.release(learner, slim.BEHIND)
    optimiser, found = torch.optim.Adam(parts, 2e-3), []
    images = [torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8) for _ in range(2)]
    pairs = draw_pairs(images, 4, 64, 2, Chance.of(1))
    for _ in range(80):
        terms = slim.imitation_loss(large, learner, pairs, [], torch.Generator())
        found.append(float(terms["pixels"].detach()))
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        optimiser.zero_grad()
    assert found[-1] < 0.7 * found[0]
