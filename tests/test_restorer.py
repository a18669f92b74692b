"""The restorer: its contract over sizes and precisions; fused forms against literal ones."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vrdir_plug.restorer import (
    DNC,
    FGM,
    PROFILES,
    SPECTRUM,
    Restorer,
    RestorerConfig,
    modulate_by_fft,
    modulate_by_products,
    octaves,
    pyramid,
)

RESNET50_MACS = 4.09e9  # at 224 px, torchvision's table
CONFIGS = (
    RestorerConfig("tiny", 8, ((8, 12), (8,))),
    RestorerConfig("tiny_no_units", 8, ((),)),
    RestorerConfig("tiny_no_skip", 8, ((8,),), skip=False),
    RestorerConfig("tiny_published", 8, ((),), branches=3, grid=0, skip=False, published=True),
)


@pytest.fixture(params=CONFIGS, ids=lambda config: config.profile)
def restorer(request: Any) -> Restorer:
    """Every weight moved at random, so that no part is at rest in its initial identity."""
    torch.manual_seed(0)
    restorer = Restorer(request.param)
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return restorer


def test_any_size_comes_back_as_it_went_in(restorer: Restorer) -> None:
    for size in range(1, 98):
        images = torch.rand(1, 3, size, 98 - size)
        restored = restorer(images)
        assert restored.shape == images.shape
        assert restored.isfinite().all() and restored.min() >= 0 and restored.max() <= 1


@pytest.mark.parametrize("weights", (torch.float32, torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("pixels", (torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_precisions_agree(restorer: Restorer, weights: torch.dtype, pixels: torch.dtype) -> None:
    images = torch.rand(2, 3, 37, 50)
    expected = restorer(images)
    restored = copy.deepcopy(restorer).to(weights)(images.to(pixels))
    assert restored.dtype == pixels
    assert (restored.float() - expected).abs().mean() < 0.02


def test_autocast_agrees(restorer: Restorer) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        restored = restorer(images)
    assert (restored - restorer(images)).abs().mean() < 0.02


def test_images_of_a_batch_do_not_see_each_other(restorer: Restorer) -> None:
    images = torch.rand(3, 3, 24, 31)
    alone = torch.cat([restorer(image[None]) for image in images])
    torch.testing.assert_close(restorer(images), alone, atol=1e-5, rtol=0)


def test_train_and_eval_are_the_same_and_the_input_stays(restorer: Restorer) -> None:
    images = torch.rand(1, 3, 20, 20)
    before = images.clone()
    assert torch.equal(restorer.train()(images), restorer.eval()(images))
    assert torch.equal(images, before)


def test_memory_layout_comes_back_as_it_went_in(restorer: Restorer) -> None:
    images = torch.rand(2, 3, 40, 24)
    restored = restorer(images)
    last = restorer(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, restored)
    assert restored.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last)


def test_every_parameter_learns_from_an_image(restorer: Restorer) -> None:
    restorer.rebuild(torch.rand(2, 3, 32, 32)).square().sum().backward()
    for name, parameter in restorer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("profile", ("fast", "strong"))
def test_identity_at_initialisation(profile: str) -> None:
    images = torch.rand(1, 3, 65, 70)
    torch.testing.assert_close(Restorer(profile)(images), images, atol=1e-6, rtol=0)


def test_the_published_enhancement_starts_near_the_identity() -> None:
    ise, features, seen = Restorer("paper").ise, torch.randn(1, 128, 12, 12), torch.empty(1, 0)
    enhanced = ise(features, ise.fgm(features, seen), seen)
    torch.testing.assert_close(enhanced, features, atol=0.05, rtol=0)


@pytest.mark.parametrize(("profile", "share"), (("fast", 0.10), ("strong", 1.0)))
def test_cost_is_a_share_of_a_resnet50(profile: str, share: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Restorer(profile)(torch.rand(1, 3, 224, 224))
    assert counter.get_total_flops() / 2 <= share * RESNET50_MACS


def test_fast_is_under_a_megabyte_and_a_half_in_half_precision() -> None:
    assert 2 * sum(p.numel() for p in Restorer("fast").parameters()) < 1.5e6


# --- fused against literal -------------------------------------------------------------------


def literal_dnc(dnc: DNC, n: int, features: Tensor, seen: Tensor) -> Tensor:
    """The published sentence by sentence: normalise, pool, gate, add."""
    mean = features.mean((2, 3), keepdim=True)
    deviation = features.std((2, 3), correction=0, keepdim=True)
    gamma, beta = (v[n][None, :, None, None] for v in (dnc.gamma, dnc.beta))
    normalised = gamma * (features - mean) / (deviation + dnc.eps) + beta
    if dnc.published:
        seen = torch.cat([features, normalised], 1).mean((2, 3))
    else:
        seen = torch.cat([mean.flatten(1), (deviation + dnc.eps).log().flatten(1), seen], 1)
    gates = F.linear(F.linear(seen, dnc.reduce[n]).relu(), dnc.expand[n].T, dnc.bias[n])
    keep, bring = gates.chunk(2, dim=1)
    if dnc.published:
        keep, bring = keep.sigmoid(), bring.sigmoid()
    else:
        keep, bring = 2 * keep.sigmoid(), bring.tanh()
    return keep[..., None, None] * features + bring[..., None, None] * normalised


def literal_fgm(fgm: FGM, features: Tensor, seen: Tensor) -> Tensor:
    """Angles and all, with the whole complex transform."""
    size = features.shape[-2:]
    if fgm.grid:
        features = F.interpolate(features, (fgm.grid,) * 2, mode="bilinear", antialias=True)
    spectrum = torch.fft.fft2(features, norm="ortho")
    amplitude = spectrum.abs()
    modulated = fgm.amplitudes(amplitude) * amplitude / (amplitude + fgm.eps)
    gate = torch.fft.ifft2(torch.polar(modulated, spectrum.angle()), norm="ortho").real
    logits = fgm.gate(gate)
    if fgm.whole is not None:
        into, out = fgm.whole
        logits = logits + out(into(seen[..., None, None]).relu())
    gate = logits.softmax(1)
    return F.interpolate(gate, size, mode="bilinear") if fgm.grid else gate


def test_ise_in_one_pass_equals_the_sum_over_branches(restorer: Restorer) -> None:
    features, images = torch.randn(2, 8, 12, 12), torch.rand(2, 3, 48, 48)
    seen = torch.empty(2, 0) if restorer.config.published else octaves(images)
    gate = literal_fgm(restorer.ise.fgm, features, seen)
    torch.testing.assert_close(restorer.ise.fgm(features, seen), gate, atol=1e-5, rtol=0)
    expected: Any = features
    block: Any
    for block in restorer.ise.blocks:
        enhanced = block.unit(expected)
        branches = [literal_dnc(block.dnc, n, enhanced, seen) for n in range(gate.shape[1])]
        expected = sum(gate[:, n, None] * branch for n, branch in enumerate(branches))
    torch.testing.assert_close(restorer.ise(features, gate, seen), expected, atol=1e-5, rtol=1e-5)


def test_a_given_branch_replaces_the_gate_but_not_what_the_gate_says(restorer: Restorer) -> None:
    images, count = torch.rand(2, 3, 32, 32), restorer.config.branches
    restored, gate = restorer.rebuild_and_gate(images)
    for branch in torch.eye(count):
        other, same = restorer.rebuild_and_gate(images, branch.expand(2, -1))
        assert torch.equal(gate, same)
        assert not torch.allclose(other, restored, atol=1e-4)


def test_octaves_share_out_the_energy_of_the_image() -> None:
    images = torch.rand(2, 3, 32, 48)
    seen = octaves(images)
    assert seen.shape == (2, SPECTRUM)
    mean, *bands = seen.split(3, dim=1)
    torch.testing.assert_close(mean, images.mean((2, 3)))
    energy = torch.stack([((band - 2).exp() - 1e-3).square() for band in bands]).sum(0)
    torch.testing.assert_close(energy, images.var((2, 3), correction=0), atol=1e-5, rtol=1e-3)


def test_a_pyramid_sums_to_its_image_and_puts_detail_first() -> None:
    images = torch.rand(2, 3, 32, 48)
    bands = pyramid(images).unflatten(1, (-1, 3))
    torch.testing.assert_close(bands.sum(1), images)
    energies = bands.var((2, 3, 4), correction=0)  # of white noise: less in each coarser octave
    assert (energies[:, :-1] > energies[:, 1:]).all()


@pytest.mark.parametrize("size", (1, 2, 7, 16, 32))
def test_products_equal_the_fast_transform(size: Any) -> None:
    features = torch.randn(2, 3, size, size)
    mixing = torch.randn(3, 3, 1, 1)

    def gain(amplitude: Tensor) -> Tensor:
        return F.conv2d(amplitude, mixing) / (amplitude + 0.01)

    expected = modulate_by_fft(features, gain)
    torch.testing.assert_close(modulate_by_products(features, gain), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", ((5, 7), (8, 3), (1, 1), (12, 12)))
def test_a_gain_of_one_gives_the_features_back(size: Any) -> None:
    features = torch.randn(1, 2, *size)
    torch.testing.assert_close(modulate_by_fft(features, torch.ones_like), features)


def test_gates_are_shares() -> None:
    gate = FGM(8, 5, 16)(torch.randn(2, 8, 9, 30), torch.randn(2, SPECTRUM))
    assert gate.shape == (2, 5, 9, 30) and gate.min() >= 0
    torch.testing.assert_close(gate.sum(1), torch.ones(2, 9, 30))


def test_a_flat_image_keeps_dnc_finite() -> None:
    scale, offset = DNC(3, 2, 4)(torch.full((1, 3), 0.5), torch.zeros(1, 3))
    assert scale.isfinite().all() and offset.isfinite().all()


def test_the_decoder_is_linear_so_that_the_change_can_be_decoded_alone() -> None:
    decoder = Restorer(CONFIGS[0]).decoder
    a, b = torch.randn(2, 1, 8, 6, 6)
    torch.testing.assert_close(decoder(a - b), decoder(a) - decoder(b), atol=1e-5, rtol=0)


# --- bad input -------------------------------------------------------------------------------

GOOD = torch.rand(1, 3, 8, 8)
BAD = (
    ([GOOD], TypeError, "list"),
    (GOOD.numpy(), TypeError, "ndarray"),
    ((GOOD * 255).byte(), TypeError, r"images.float\(\) / 255"),
    (GOOD.double()[0], ValueError, r"images\[None\]"),
    (GOOD.permute(0, 2, 3, 1), ValueError, r"permute\(0, 3, 1, 2\)"),
    (GOOD[:, :1], ValueError, "expand"),
    (torch.rand(1, 4, 8, 8), ValueError, "alpha"),
    (torch.rand(1, 5, 8, 8), ValueError, "expected RGB"),
    (torch.rand(1, 3, 0, 8), ValueError, "at least 1"),
    (GOOD / 0, ValueError, "NaN or infinite"),
    (GOOD * float("nan"), ValueError, "NaN or infinite"),
)


@pytest.mark.parametrize(("images", "error", "remedy"), BAD)
def test_bad_images_are_refused_with_the_remedy(
    images: Tensor, error: type[Exception], remedy: str
) -> None:
    with pytest.raises(error, match=remedy):
        Restorer(CONFIGS[0])(images)


def test_an_empty_batch_comes_back() -> None:
    assert Restorer(CONFIGS[0])(torch.rand(0, 3, 8, 8)).shape == (0, 3, 8, 8)


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="fast, strong, paper"):
        Restorer("fastest")


def test_profiles_build_and_say_what_they_are() -> None:
    for config in PROFILES:
        assert config.profile in repr(Restorer(config))


def test_compiles_and_exports_for_any_size_in_one_graph() -> None:
    torch.manual_seed(0)
    restorer = Restorer(CONFIGS[0]).eval()
    images, *others = (
        torch.rand(size) for size in ((2, 3, 33, 47), (3, 3, 41, 30), (1, 3, 32, 48))
    )
    compiled = torch.compile(restorer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), restorer(images))
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(
        restorer, (images,), dynamic_shapes={"images": {0: auto, 2: auto, 3: auto}}
    )
    for other in others:
        torch.testing.assert_close(exported.module()(other), restorer(other))
