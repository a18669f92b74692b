"""The restorer: its contract over sizes and precisions; fused forms against literal ones."""

import copy
import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
import torch.nn.functional as F
from networks import moved
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vrdir_plug.bands import SPECTRUM, bands_of, image_of, inner, mean_and_deviation, spectrum_of
from vrdir_plug.bench import at_work
from vrdir_plug.config import PROFILES, RestorerConfig
from vrdir_plug.fourier import modulate_by_fft, modulate_by_products
from vrdir_plug.front import Light, PixelDNC, PixelFilter, ShadowSwitch, quantiles, smoothed
from vrdir_plug.ise import DNC, FGM, SpatialUnit
from vrdir_plug.restorer import BandGains, Restorer

RESNET50_MACS = 4.09e9  # at 224 px, torchvision's table
CONFIGS = (
    RestorerConfig("tiny", 8, ((8, 12, 8), (8,))),
    RestorerConfig("tiny_no_units", 8, ((),)),
    RestorerConfig("tiny_no_skip", 8, ((8,),), skip=False),
    RestorerConfig("tiny_published", 8, ((),), branches=3, grid=0, skip=False, published=True),
    RestorerConfig("tiny_denoiser", 8, ((8,),), denoiser=8),
    RestorerConfig("tiny_weather", 8, ((8,),), weather=8),
)


@pytest.fixture(params=CONFIGS, ids=lambda config: config.profile)
def restorer(request: Any) -> Restorer:
    return moved(request.param)


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
    # with impulses for PixelFilter, and of little detail, or VeilSwitch sees no veil and
    # ContrastSwitch enough contrast; one darker, for ShadowSwitch; as large as the windows of
    # MotionFilter
    ramp = torch.linspace(0.2, 0.7, 64)
    images = torch.stack([ramp, 0.1 + ramp**3]).view(2, 1, 1, 64) + 0.05 * torch.rand(2, 3, 64, 64)
    images[..., ::7, ::5] = 1
    scene, _ = restorer.uncovered(images)
    rebuilt = restorer.rebuild(scene)
    sums = [part.square().sum() for part in rebuilt]
    if not restorer.config.published:  # what tells whether it is worth it
        sums.append(restorer.worth.chance(restorer.judge(scene).told).sum())
    torch.stack(sums).sum().backward()
    for name, parameter in restorer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("profile", ("fast", "strong"))
def test_identity_at_initialisation(profile: str) -> None:
    # values at the ends of the range may be impulses, of which a few are mended by a hair's breadth
    images = 0.05 + 0.9 * torch.rand(1, 3, 65, 70)
    torch.testing.assert_close(Restorer(profile)(images), images, atol=2e-6, rtol=0)


def test_the_published_enhancement_starts_near_the_identity() -> None:
    ise, features = Restorer("paper").ise, torch.randn(1, 128, 12, 12)
    enhanced = ise(features, ise.fgm.published(features), torch.empty(1, 0))
    torch.testing.assert_close(enhanced, features, atol=0.05, rtol=0)


@pytest.mark.parametrize(("profile", "share"), (("fast", 0.10), ("strong", 1.0)))
def test_cost_is_a_share_of_a_resnet50(profile: str, share: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        at_work(profile)(torch.rand(1, 3, 224, 224))
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


def literal_modulation(fgm: FGM, features: Tensor) -> Tensor:
    """Angles and all, with the whole complex transform."""
    spectrum = torch.fft.fft2(features, norm="ortho")
    amplitude = spectrum.abs()
    modulated = fgm.amplitudes(amplitude) * amplitude / (amplitude + fgm.eps)
    return torch.fft.ifft2(torch.polar(modulated, spectrum.angle()), norm="ortho").real


def literal_gate(fgm: FGM, features: Tensor, bands: Tensor) -> Tensor:
    """Ours, every addend by itself."""
    grid = (fgm.grid, fgm.grid)
    small, energy = (
        F.interpolate(x, grid, mode="bilinear", antialias=True) for x in (features, bands.square())
    )
    seen = torch.cat([literal_modulation(fgm, small), (energy.sqrt() + 1e-3).log() + 2], 1)
    hidden = fgm.local(seen).relu()
    logits = fgm.gate(hidden + hidden.mean((2, 3), keepdim=True))
    into, out = fgm.whole
    logits = logits + out(into(spectrum_of(*mean_and_deviation(bands))[..., None, None]).relu())
    return F.interpolate(logits.softmax(1), features.shape[-2:], mode="bilinear")


def test_the_published_gate_equals_its_formula() -> None:
    fgm, features = FGM(8, 3, 0, published=True), torch.randn(2, 8, 9, 12)
    for parameter in fgm.parameters():
        nn.init.normal_(parameter, std=0.2)
    expected = fgm.gate(literal_modulation(fgm, features)).softmax(1)
    torch.testing.assert_close(fgm.published(features), expected, atol=1e-5, rtol=0)


def test_our_gate_equals_its_parts() -> None:
    fgm, features, images = FGM(8, 5, 16), torch.randn(2, 8, 12, 20), torch.rand(2, 3, 48, 80)
    for parameter in fgm.parameters():
        nn.init.normal_(parameter, std=0.2)
    bands = bands_of(images)
    amplitude = fgm.amplitude(bands.square())
    gate = fgm(features, amplitude, fgm.prior(spectrum_of(*mean_and_deviation(bands))))
    torch.testing.assert_close(gate, literal_gate(fgm, features, bands), atol=1e-5, rtol=0)


def test_ise_in_one_pass_equals_the_sum_over_branches(restorer: Restorer) -> None:
    features, count = torch.randn(2, 8, 12, 12), restorer.config.branches
    published = restorer.config.published
    seen = torch.empty(2, 0) if published else torch.randn(2, SPECTRUM)
    gate = torch.randn(2, count, 12, 12).softmax(1)
    expected: Any = features
    block: Any
    for block in restorer.ise.blocks:
        known = torch.cat([gate.mean((2, 3)), seen], 1)
        enhanced = expected if block.unit is None else block.unit(expected, known)
        branches = [literal_dnc(block.dnc, n, enhanced, seen) for n in range(len(block.dnc.beta))]
        branches += [] if published else [expected]  # clean images pass unit and DNC by
        assert len(branches) == count
        expected = sum(gate[:, n, None] * branch for n, branch in enumerate(branches))
    torch.testing.assert_close(restorer.ise(features, gate, seen), expected, atol=1e-5, rtol=1e-5)


def test_a_given_branch_replaces_the_gate_but_not_what_the_gate_says(restorer: Restorer) -> None:
    images, count = torch.rand(2, 3, 32, 32), restorer.config.branches
    restored, _, shares, *_ = restorer.rebuild(images)
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    for branch in torch.eye(count):
        other, _, same, *_ = restorer.rebuild(images, branch.expand(2, -1))
        assert torch.equal(shares, same)
        assert not torch.allclose(other, restored, atol=1e-4)


@pytest.mark.parametrize("restorer", CONFIGS[:2], indirect=True, ids=lambda c: c.profile)
def test_the_clean_branch_gives_back_what_filter_and_light_make(restorer: Restorer) -> None:
    images = torch.rand(2, 3, 32, 48)
    clean = F.one_hot(torch.tensor([restorer.config.branches - 1] * 2), restorer.config.branches)
    filtered, known = restorer.pixel_filter(restorer.cleared(images)[0])
    assert not torch.allclose(filtered, images, atol=0.01)
    expected = restorer.light(filtered, restorer.pixel_filter.clear(known))
    rebuilt = restorer.rebuild(images, clean.float()).images
    torch.testing.assert_close(rebuilt, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("restorer", CONFIGS[:1], indirect=True, ids=lambda c: c.profile)
def test_images_below_the_bypass_come_back_bit_identical(restorer: Restorer) -> None:
    images = torch.cat([torch.rand(2, 3, 30, 45), 0.1 * torch.rand(2, 3, 30, 45)])
    scores, restored = restorer.degradation(images).detach(), restorer(images)
    assert scores.shape == (4,) and scores.min() > 0 and scores.max() < 1
    restorer.config = replace(restorer.config, bypass=float(scores.median()) + 1e-6)
    below = scores < restorer.config.bypass
    assert 0 < below.sum() < 4
    passed = restorer(images)
    assert torch.equal(passed[below], images[below])
    assert torch.equal(passed[~below], restored[~below])


@pytest.mark.parametrize("restorer", CONFIGS[:1], indirect=True, ids=lambda c: c.profile)
def test_images_that_are_not_worth_it_are_not_restored(restorer: Restorer) -> None:
    images = light_and_dark()
    restorer.light.shadow_switch = ShadowSwitch()  # for which none is dark
    scores = {}
    for bias in (-9.0, 0.0, 9.0):
        nn.init.constant_(restorer.worth[1].bias, bias)
        scores[bias] = restorer.degradation(images).detach()
    assert scores[-9.0].max() < 1e-6
    assert (scores[0.0] <= scores[9.0]).all() and scores[9.0].min() > 1e-3
    nn.init.constant_(restorer.worth[1].bias, -9.0)
    restorer.config = replace(restorer.config, bypass=1e-3)
    assert torch.equal(restorer(images), images)


@pytest.mark.parametrize("restorer", CONFIGS[:1], indirect=True, ids=lambda c: c.profile)
def test_dark_images_are_worth_it_whatever_worth_says(restorer: Restorer) -> None:
    images = torch.rand(2, 3, 64, 64) * torch.tensor([0.2, 1]).view(2, 1, 1, 1)
    nn.init.constant_(restorer.worth[1].bias, -9.0)
    restorer.light.shadow_switch.switch.data[:] = torch.tensor([0.22, 40.0])
    dark, bright = restorer.degradation(images)
    assert dark > 0.5 and bright < 1e-4


@pytest.mark.parametrize("restorer", CONFIGS[:3], indirect=True, ids=lambda c: c.profile)
def test_images_are_enhanced_as_far_as_fgm_gives_them_to_the_branch_of_blur(
    restorer: Restorer,
) -> None:
    images = torch.rand(3, 3, 32, 48) * torch.tensor([1, 0.5, 0.1])[:, None, None, None]
    judged = restorer.judge(images)
    assert (judged.needed == 1).all()  # before it was said from which share on
    lit, enhanced = judged.images, restorer.enhance(judged).images
    assert (enhanced - lit).abs().mean((1, 2, 3)).min() > 1e-2
    for least in (0.01, *(judged.shares[:, 3].detach() / 1.25).tolist(), 1.0):
        restorer.config = replace(restorer.config, enhanced_from=least)
        needed = (judged.shares[:, 3] / least - 1).clamp(0, 1)
        both = zip(lit, enhanced, needed.tolist(), strict=True)
        expected = torch.stack([a.lerp(b, w) for a, b, w in both])
        torch.testing.assert_close(restorer(images), expected.clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("restorer", CONFIGS[:3], indirect=True, ids=lambda c: c.profile)
@pytest.mark.parametrize("mode", ("select", "skip"))
def test_what_no_image_needs_is_not_computed(restorer: Restorer, mode: str) -> None:
    images, computed = torch.rand(2, 3, 32, 48), []
    restorer.encoder.register_forward_hook(lambda *_: computed.append(1))
    most = float(restorer.judge(images).shares[:, 3].detach().max())
    restorer.mode = mode
    for least, times in ((0.9 * most, 1), (1.1 * most, 0)):
        restorer.config = replace(restorer.config, bypass=1e-9, enhanced_from=least)
        computed.clear()
        restorer(images)
        assert len(computed) == times


@pytest.mark.parametrize(
    ("changed", "message"),
    (
        ({"enhanced_from": 1.5}, "enhanced_from must be a score from 0 to 1, came 1.5"),
        ({"bypass": 1.5}, "bypass must be a score from 0 to 1, came 1.5"),
        ({"bypass": -0.1}, "bypass must be a score from 0 to 1, came -0.1"),
    ),
)
def test_scores_of_a_config_are_shares(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIGS[0], **changed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"no branch to tell {next(iter(changed))}: set 0"):
        replace(CONFIGS[3], **dict.fromkeys(changed, 0.5))  # type: ignore[arg-type]


@pytest.fixture
def gated(restorer: Restorer) -> Restorer:
    """Of the images that follow, it takes the first and the third for clean."""
    scores = restorer.degradation(light_and_dark()).detach().sort().values
    restorer.config = replace(restorer.config, bypass=float(scores[1:3].mean()))
    return restorer


def light_and_dark() -> Tensor:
    images = torch.rand(4, 3, 30, 45, generator=torch.Generator().manual_seed(0))
    return images * torch.tensor([1, 0.1, 1, 0.1])[:, None, None, None]


@pytest.mark.parametrize("restorer", CONFIGS[:3], indirect=True, ids=lambda c: c.profile)
@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last), ids=str)
def test_skipping_gives_what_selecting_gives(gated: Restorer, layout: torch.memory_format) -> None:
    images = light_and_dark().contiguous(memory_format=layout).requires_grad_()
    results = []
    for mode in ("select", "skip"):
        gated.mode, images.grad = mode, None
        restored = gated(images)
        restored.square().sum().backward()
        assert restored.is_contiguous(memory_format=layout)
        results.append((restored.detach(), images.grad))
    untouched = (results[1][0] == images).flatten(1).all(1)
    assert untouched.sum() == 2
    (selected, gradient), (skipped, other) = results
    torch.testing.assert_close(selected, skipped, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, other, atol=1e-3, rtol=1e-3)  # sums over many pixels


@pytest.mark.parametrize("restorer", CONFIGS[:1], indirect=True, ids=lambda c: c.profile)
def test_skipping_enhances_only_the_images_that_need_it(gated: Restorer) -> None:
    enhanced: list[int] = []
    gated.decoder.register_forward_pre_hook(lambda _, inputs: enhanced.append(len(inputs[0])))
    images = light_and_dark()
    gated.mode = "select"
    untouched = (gated(images) == images).flatten(1).all(1)
    gated.mode = "skip"
    gated(images)
    assert torch.equal(gated(images[untouched]), images[untouched])
    assert enhanced == [4, 2]


@pytest.mark.parametrize("restorer", CONFIGS[:1], indirect=True, ids=lambda c: c.profile)
def test_a_graph_selects_whatever_the_mode(gated: Restorer) -> None:
    images = light_and_dark()
    selecting = torch.export.export(gated, (images,)).module()
    gated.mode = "skip"
    skipping = torch.export.export(gated, (images,)).module()
    torch.testing.assert_close(skipping(images), selecting(images), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(selecting(images), gated(images), atol=1e-4, rtol=0)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'select' or 'skip', came 'fast'"):
        Restorer(CONFIGS[0], mode="fast")


def test_the_published_network_has_no_degradation_score() -> None:
    with pytest.raises(ValueError, match="no branch for clean"):
        Restorer(CONFIGS[3]).degradation(torch.rand(1, 3, 8, 8))


def test_the_strength_of_the_spatial_unit_is_a_share_of_its_change() -> None:
    unit, features, known = SpatialUnit(8, (8, 12), 5), torch.randn(2, 8, 12, 12), torch.randn(2, 5)
    nn.init.normal_(unit.head.weight)
    change = unit(features, known) - features
    assert change.abs().mean() > 0.1
    for strength in (0.0, 0.5, 1.5):
        nn.init.constant_(torch.as_tensor(unit.strength.bias), strength - 1)
        torch.testing.assert_close(unit(features, known), features + strength * change)


def test_the_spatial_unit_is_steered_by_what_is_known_of_the_image() -> None:
    torch.manual_seed(0)
    unit, features = SpatialUnit(8, (8, 12), 5), torch.randn(2, 8, 12, 12)
    nn.init.normal_(unit.head.weight)
    none, some = torch.zeros(2, 5), torch.randn(2, 5)
    assert torch.equal(unit(features, some), unit(features, none)), "steers nothing at first"
    nn.init.normal_(unit.steer.weight)
    assert not torch.allclose(unit(features, some), unit(features, none), atol=0.1)
    nn.init.normal_(unit.strength.weight)
    alone = torch.cat([unit(f[None], s[None]) for f, s in zip(features, some, strict=True)])
    torch.testing.assert_close(unit(features, some), alone, atol=1e-5, rtol=1e-5)


def test_bands_are_the_orthonormal_dct_of_each_cell() -> None:
    images = torch.rand(2, 3, 16, 24)
    bands = bands_of(images).unflatten(1, (3, 4, 4))
    cells = images.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).permute(0, 1, 3, 5, 2, 4)
    expected = torch.from_numpy(scipy.fft.dctn(cells.numpy(), axes=(2, 3), norm="ortho"))
    torch.testing.assert_close(bands, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(image_of(bands.flatten(1, 3)), images, atol=1e-5, rtol=0)


def test_the_spectrum_knows_brightness_contrast_and_noise() -> None:
    images = F.interpolate(torch.rand(1, 3, 8, 8), (64, 64), mode="bilinear")
    pale, noisy = 0.5 + images / 4, images + 0.2 * torch.randn(1, 3, 64, 64)
    plain, faded, rough = (
        spectrum_of(*mean_and_deviation(bands_of(x))) for x in (images, pale, noisy)
    )
    assert plain.shape == (1, SPECTRUM)
    torch.testing.assert_close(plain[:, :3], images.mean((2, 3)))
    coarse, finest = (plain[:, 3::16], faded[:, 3::16]), (plain[:, 18::16], rough[:, 18::16])
    torch.testing.assert_close(
        coarse[0] - coarse[1], torch.full((1, 3), math.log(4)), atol=0.01, rtol=0
    )
    assert (finest[1] - finest[0]).min() > 2


def test_smoothing_is_that_of_scipy() -> None:
    planes = torch.rand(2, 3, 20, 23)
    down = scipy.ndimage.convolve1d(planes.numpy(), [0.25, 0.5, 0.25], 2)
    expected = torch.from_numpy(scipy.ndimage.convolve1d(down, [0.25, 0.5, 0.25], 3))
    torch.testing.assert_close(smoothed(planes) / 16, inner(expected, 1), atol=1e-6, rtol=0)


def test_impulses_are_replaced_by_the_mean_of_neighbours_that_are_none() -> None:
    """Pixel by pixel, as the switching filter is written down."""
    torch.manual_seed(0)
    images, dice = 0.3 + 0.2 * torch.rand(1, 3, 12, 13), torch.rand(1, 3, 12, 13)
    images[..., 6:] += 0.4 * torch.rand(1, 3, 12, 7)  # too rough to tell an impulse from the rest
    images[dice < 0.2], images[dice > 0.8] = 0, 1
    images[..., :4, :4] = 1  # too many ends around to tell what lies beneath
    replaced = kept = 0
    mended = images + PixelFilter().impulses(images)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    weights = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]])
    for colour, row, column in np.ndindex(3, 12, 13):
        around = padded[0, colour, row : row + 3, column : column + 3]
        valid = weights * ((around > 0.002) & (around < 0.998))
        value = images[0, colour, row, column]
        if (value == 0 or value == 1) and valid.sum() >= 4:
            mean = (valid * around).sum() / valid.sum()
            deviation = ((valid * (around - mean).square()).sum() / valid.sum()).sqrt()
            impulse = bool(abs(mean - value) > max(PixelFilter.far, 4 * float(deviation)))
            replaced, kept = (replaced + 1, kept) if impulse else (replaced, kept + 1)
            value = mean if impulse else value
        torch.testing.assert_close(mended[0, colour, row, column], value, atol=1e-5, rtol=0)
    assert min(replaced, kept) > 20


def test_impulses_are_left_where_there_are_few() -> None:
    """A star in the sky is no noise."""
    images = torch.full((2, 3, 64, 64), 0.5)
    images[0, :, 20, 20], images[1, :, ::4, ::4] = 1, 1
    filtered, _ = PixelFilter()(images)
    torch.testing.assert_close(filtered[0], images[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(filtered[1], torch.full((3, 64, 64), 0.5), atol=0.01, rtol=0)


def test_each_wavelet_band_has_its_gain() -> None:
    torch.manual_seed(0)
    pixels, images = PixelFilter(), 0.2 + 0.6 * torch.rand(2, 3, 48, 60)
    gains = torch.tensor([0.5, -0.4, 1.0])
    with torch.no_grad():
        pixels.asks[1].bias[:] = gains / 3
    gains = (2 * (gains / 2).tanh()).expm1()
    levels = [F.pad(images, (16,) * 4, mode="replicate").numpy()]
    for step in pixels.steps:
        kernel = np.zeros(2 * step + 1)
        kernel[[0, step, -1]] = 0.25, 0.5, 0.25
        down = scipy.ndimage.convolve1d(levels[-1], kernel, 2)
        levels.append(scipy.ndimage.convolve1d(down, kernel, 3))
    expected = torch.from_numpy(levels[0])
    for band, gain in enumerate(gains):
        expected = expected + gain * torch.from_numpy(levels[band] - levels[band + 1])
    assert (pixels(images)[0] - images).abs().max() > 0.1
    torch.testing.assert_close(pixels(images)[0], inner(expected, 16), atol=1e-4, rtol=0)


def test_the_range_is_of_percentiles_of_all_colours_together() -> None:
    fine = torch.rand(2, 3, 32, 32)
    fine[0, 0, 0, :20] = 9  # a light in the picture is not its range
    low, high = np.quantile(fine.flatten(1).numpy(), [30 / 3071, 1 - 30 / 3071], axis=1)
    found = torch.cat(quantiles(fine, 1, 99), 1)[..., 0, 0].numpy()
    np.testing.assert_allclose(found, np.stack([low, high], 1), rtol=1e-5)


def lit(images: Tensor, clear: float = 1.0, **switches: float) -> Tensor:
    """What Light makes of images with the switches of this name from there on."""
    light, noise = Light(), torch.full((len(images),), clear)
    torch.testing.assert_close(light(images, noise), images)  # at first
    for name, threshold in switches.items():
        layer: Any = light.get_submodule(name)
        nn.init.constant_(layer.switch[:1], threshold)
    restored: Tensor = light(images, noise).detach()
    return restored


def test_a_narrow_range_is_stretched_and_a_wide_one_left() -> None:
    """Against numpy's percentiles of the same means."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 128, 128)
    noisy = (ramp + 0.1 * torch.randn(1, 3, 128, 128)).clamp(0, 1)
    images = torch.cat([0.02 + 0.25 * noisy, 0.4 + 0.5 * noisy, noisy])
    wide = lit(images, range_switch=0.65)
    for image, found in zip(images.numpy(), wide.numpy(), strict=True):
        low, high = np.quantile(means_of(image), [0.01, 0.99])
        share = 1 / (1 + np.exp(12 * (high - low - 0.65)))
        width = max(high - low, 0.83)
        there = (image - low) / (high - low) * width + (1 - width) * low / (1 - high + low)
        np.testing.assert_allclose(found, image + share * (there - image), atol=0.01)
    assert wide[0].mean() > 0.4  # hardly dark any longer
    assert (wide[2] - images[2]).abs().mean() < 0.01
    flat = torch.tensor([0.0, 0.3, 1.0]).view(3, 1, 1, 1).expand(3, 3, 64, 64)
    torch.testing.assert_close(lit(flat, range_switch=0.65), flat, atol=1e-3, rtol=0)


def means_of(image: Any) -> Any:
    """Of the cells of (3, 128, 128): (3, 32, 32)."""
    return image.reshape(3, 32, 4, 32, 4).mean((2, 4))


def mapped(image: Any, scale: Any, offset: Any) -> Any:
    """Pixels (3, 128, 128) by a scale (32, 32) and offsets (3, 32, 32) between whose places there
    are no steps."""
    scale, *offset = (
        cv2.resize(m, (128, 128), interpolation=cv2.INTER_LINEAR) for m in (scale, *offset)
    )
    return image * scale + np.stack(offset)


def mean_around(grid: Any, side: int) -> Any:
    """Twice the mean of what is there of so many parts down and across."""
    inside = scipy.ndimage.uniform_filter(np.ones_like(grid), side, mode="constant")
    for _ in range(2):
        grid = scipy.ndimage.uniform_filter(grid, side, mode="constant") / inside
    return grid


def scene_behind(transmission: float) -> tuple[Tensor, Tensor]:
    """Dark things on a coloured ground that becomes paler to the right, one pale place, and what is
    seen of it through a bluish haze, twice as thick at the bottom as at the top."""
    ground = torch.linspace(0.2, 0.5, 128) * torch.tensor([1.0, 0.8, 0.4]).view(3, 1, 1)
    clear = (ground * (torch.arange(128) // 4 % 3 > 0)[:, None]).expand(3, 128, 128).clone()
    clear[:, :32, :32] = 0.95
    through = torch.linspace(transmission**0.5, transmission, 128)[:, None]
    airlight = torch.tensor([0.85, 0.9, 0.95]).view(3, 1, 1)
    return clear[None], (clear * through + airlight * (1 - through))[None]


def test_a_veil_is_taken_by_the_dark_channel_prior() -> None:
    """Against the same prior made of scipy's filters; and haze is nearer to the clear scene."""
    clear, hazy = scene_behind(0.3)
    found = lit(hazy, veil_switch=0.18)
    means = means_of(hazy[0].numpy())
    dark = scipy.ndimage.minimum_filter(means.min(0), 3, mode="nearest")
    air = means[:, dark >= np.sort(dark, None)[1013]].mean(1)[:, None, None]
    veil = scipy.ndimage.minimum_filter((means / air).min(0), 3, mode="nearest")
    veil = mean_around(veil, 3)
    pale = 1 / (1 + np.exp(-40 * (np.sort(dark, None)[102] - 0.18)))
    squares = means_of(hazy[0].numpy() ** 2)
    detail = np.sort(np.sqrt((squares - means**2).mean(0).clip(0)), None)[921] / 0.22
    transmission = np.maximum(1 - 0.8 * pale * veil, np.clip(detail, 0.15, 1))
    assert transmission.min() < 0.5 < pale  # else there is nothing to compare
    expected = mapped(hazy[0].numpy(), 1 / transmission, air * (1 - 1 / transmission))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-4)
    assert (found - clear).abs().mean() < 0.6 * (hazy - clear).abs().mean()


def test_no_veil_is_taken_from_what_is_clear_or_has_all_detail() -> None:
    clear, _ = scene_behind(1.0)
    snow = (0.35 + clear + 0.5 * (torch.rand(1, 1, 128, 128) > 0.8)).clamp(0, 1)
    night = 0.1 * clear
    for images in (clear, snow, night):
        found = lit(images, veil_switch=0.18)
        torch.testing.assert_close(found, images, atol=0.02, rtol=0)


def test_a_dark_image_with_a_lamp_in_it_is_lifted_where_it_is_dark() -> None:
    """Against scipy's local means; and details keep their share of them."""
    torch.manual_seed(0)
    ground = 0.12 + 0.04 * torch.rand(3, 32, 32).repeat_interleave(4, 1).repeat_interleave(4, 2)
    ground[:, 90:120, 4:30] = 0.95
    found = lit(ground[None], shadow_switch=0.28)[0].numpy()
    means = means_of(ground.numpy())
    mean = means.mean()
    exponent = 1 + (np.log(0.35) / np.log(mean) - 1) / (1 + np.exp(-40 * (0.28 - mean)))
    lift = mean_around(means.mean(0), 7) ** (exponent - 1)
    assert mean < 0.25 and lift.max() > 2 > 1.2 > lift.min()
    expected = mapped(ground.numpy(), lift, np.zeros((3, 32, 32), np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    corner = np.s_[:, :16, -16:]
    before, after = (
        image[corner].std() / image[corner].mean() for image in (ground.numpy(), found)
    )
    np.testing.assert_allclose(after, before, rtol=0.05)


def test_what_is_bright_or_black_altogether_is_not_lifted() -> None:
    bright, black = torch.rand(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    for images in (bright, black):
        found = lit(images, shadow_switch=0.28)
        torch.testing.assert_close(found, images, atol=0.005, rtol=0)


def in_fog(contrast: float) -> Tensor:
    """Fine things of two contrasts, behind banks of fog that are brighter to the right."""
    torch.manual_seed(0)
    fine = torch.randn(3, 32, 32).repeat_interleave(4, 1).repeat_interleave(4, 2)
    fine[..., 64:] *= 0.5
    return (torch.linspace(0.3, 0.7, 128) + contrast * fine)[None]


def test_what_is_faint_everywhere_is_given_contrast_around_its_local_means() -> None:
    """Against scipy's means and deviations of the same parts."""
    fog = in_fog(0.06)
    found = lit(fog, contrast_switch=0.16)[0].numpy()
    means = means_of(fog[0].numpy())
    local = np.stack([mean_around(plane, 7) for plane in means])
    squares = np.stack([mean_around(plane, 7) for plane in means_of(fog[0].numpy() ** 2)])
    richest = np.sort(np.sqrt((squares - local**2).mean(0)), None)[921]
    gain = 1 + (min(0.3 / richest, 3.0) - 1) / (1 + np.exp(-120 * (0.16 - richest)))
    assert 2.5 < gain < 3 and richest < 0.12
    expected = mapped(fog[0].numpy(), np.full((32, 32), gain, np.float32), (1 - gain) * local)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_has_contrast_somewhere_or_was_noisy_keeps_the_light_it_has() -> None:
    plain = torch.full((1, 3, 128, 128), 0.4)
    for images, clear in ((in_fog(0.3), 1), (plain, 1), (in_fog(0.06), 0)):
        found = lit(images, clear, contrast_switch=0.16)
        torch.testing.assert_close(found, images, atol=0.005, rtol=0)


def test_band_gains_learn_to_take_what_is_not_wanted_and_leave_clean_images() -> None:
    torch.manual_seed(0)
    clean = torch.linspace(0.2, 0.8, 64).expand(4, 3, 64, 64)
    bands, noisy = bands_of(clean), bands_of(clean + 0.1 * torch.randn_like(clean))
    shares = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]).expand(4, 5)
    seen = torch.zeros(4, SPECTRUM)
    layer = BandGains(5)
    torch.testing.assert_close(layer(noisy, shares, seen), noisy)  # at first
    optimiser = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        (layer(noisy, shares, seen) - bands).square().mean().backward()
        optimiser.step()
    left = (layer(noisy, shares, seen) - bands).square().mean((0, 2, 3)).detach()
    # noise of 0.1 in all bands; a slope of means and of the lowest frequency across must stay
    assert (left.view(3, 16)[:, 2:] < 0.1 * 0.1**2).all()
    assert (left < 1.2 * 0.1**2).all()
    torch.testing.assert_close(layer(noisy, shares.roll(3, 1), seen), noisy)  # called clean


def test_pixel_dnc_in_one_pass_equals_the_sum_over_windows_in_their_shares() -> None:
    """Where all regions look alike, both windows have the statistics of the image."""
    torch.manual_seed(0)
    pixels = PixelDNC()
    for parameter in pixels.parameters():
        nn.init.normal_(parameter, std=0.2)
    cells, seen = torch.rand(1, 48, 1, 1).expand(1, 48, 16, 16), torch.randn(1, SPECTRUM)
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.3]])
    image = F.pixel_shuffle(cells, 4)
    windows = literal_dnc(pixels.dnc, 0, image.repeat(1, 2, 1, 1), seen)
    expected = image + sum(0.1 * (window - image) for window in windows.split(3, dim=1))
    bands = bands_of(image)
    restored = image_of(pixels(bands, bands.square(), seen, shares))
    torch.testing.assert_close(restored, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", ((1, 1), (2, 2), (7, 7), (16, 16), (12, 31), (32, 5)))
def test_products_equal_the_fast_transform(size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size)
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
    fgm = FGM(8, 5, 16)
    amplitude = fgm.amplitude(torch.randn(2, 48, 9, 30))
    gate = fgm(torch.randn(2, 8, 9, 30), amplitude, torch.randn(2, 5))
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


@pytest.mark.parametrize("pixel", (math.nan, math.inf, -math.inf))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float16), ids=str)
def test_where_values_are_not_looked_at_a_bad_pixel_makes_the_image_nan(
    restorer: Restorer, dtype: torch.dtype, pixel: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; the other image of the batch is as it would be alone."""
    if not restorer.config.published:
        restorer.config = replace(restorer.config, bypass=1.0)  # clean ones would come back
    images = torch.rand(2, 3, 32, 48)
    expected = restorer.to(dtype)(images)[1]
    images[0, 1, 30, 5] = pixel
    monkeypatch.setattr("vrdir_plug.restorer.check_images", lambda images: None)
    restored = restorer(images)
    assert restored[0].isnan().all()
    torch.testing.assert_close(restored[1], expected)


def test_nothing_waits_for_the_device(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without values: whatever would read one raises."""
    # autocast knows no such device, and keeps what it is asked on the host
    modules = "bands", "front", "ise", "mosaic", "motion", "restorer", "streaks", "weather", "zoom"
    for module in modules:
        name = f"vrdir_plug.{module}.full_precision"
        monkeypatch.setattr(name, lambda like: nullcontext())
    if not restorer.config.published:
        restorer.config = replace(restorer.config, bypass=0.5)
    images = torch.rand(2, 3, 37, 50, device="meta")
    assert restorer.to("meta")(images).shape == images.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(images.isfinite().all())


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


@pytest.mark.parametrize("value", (0.0, 0.5, 1.0))
def test_gradients_of_flat_images_are_numbers(value: float) -> None:
    images = torch.full((1, 3, 48, 48), value, requires_grad=True)
    moved(CONFIGS[0])(images).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
