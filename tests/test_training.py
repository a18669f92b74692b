"""Training: the order of the prior, exact resumption, and that it learns, on tiny networks."""

import copy
import runpy
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import moved
from PIL import Image
from safetensors.torch import save_file
from skimage.data import astronaut
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from vrdir_plug import (
    UNIT,
    Restorer,
    RestorerConfig,
    data,
    filter_stages,
    losses,
    network_stages,
    progress,
    stages,
    training,
)
from vrdir_plug.config import config_of
from vrdir_plug.degradations import (
    CLEAN_FAMILY,
    FAMILIES,
    LIGHT_FAMILY,
    NOISE_FAMILY,
    Degradation,
    dimmed,
    gaussian_noise,
    haze,
    impulse_noise,
    jpeg,
    low_light,
    motion_blur,
    rain,
    snowfall,
)
from vrdir_plug.front import PixelFilter
from vrdir_plug.learner import CROP, Learner
from vrdir_plug.noise import NoiseFilter
from vrdir_plug.teachers import Teacher

TINY = RestorerConfig("tiny", 8, ((8,),), grid=8)


class Classifier(nn.Module):
    """Five halvings of the resolution, as recognisers have."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 4, 6, 8, 8, 8)
        self.body = nn.Sequential(*(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sizes)))
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.body:
            images = layer(images).relu()
        logits: Tensor = self.head(images.mean((2, 3)))
        return logits


@pytest.fixture
def images() -> list[Tensor]:
    return [torch.from_numpy(astronaut().copy()).permute(2, 0, 1).contiguous()]


def teachers() -> list[Teacher]:
    torch.manual_seed(5)
    return [Teacher(Classifier(), UNIT), Teacher(Classifier(), UNIT)]


def run(images: list[Tensor], steps: int = 25, batch: int = 8, width: int = 0) -> training.Run:
    torch.manual_seed(0)
    restorer = Restorer(replace(TINY, denoiser=width, weather=width))
    return training.Run(images, restorer, teachers(), steps, batch, 1e-3, seed=1)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_a_stage_moves_what_learns_and_nothing_else(images: list[Tensor]) -> None:
    state = run(images, batch=32, width=8)
    for learner in (state.learner, state.average):
        with torch.no_grad():  # where nothing is restored Worth learns nothing
            learner.restorer.light.range_switch.switch[0] = 1.0
            # and the Denoiser where there is no noise
            learner.restorer.pixel_filter.noise_filter.asks[1].bias.fill_(2.0)
            # and WeatherFilter's judgement where nothing would be taken away
            nn.init.normal_(learner.restorer.weather_filter.leave.weight, std=0.05)
    for stage in stages.STAGES:
        before = weights_of(state.learner), weights_of(state.average)
        state.advance()
        for network, old in zip((state.learner, state.average), before, strict=True):
            moved = {n for n, t in network.state_dict().items() if not torch.equal(t, old[n])}
            learns = {n for n in moved if any(part in n for part in stage.learns)}
            assert moved and learns == moved, stage.name
        state.step = state.stage_steps
        state.finished()
    names = [
        "zoom",
        "motion",
        "defocus",
        "streaks",
        "pixels",
        "noise",
        "response",
        "encoder",
        "decoder",
        "branches",
        "ise",
        "over",
        "denoiser",
        "weather",
        "covered",
        "enhanced",
        "worth",
    ]
    assert [stage.name for stage in stages.STAGES] == names


def test_the_published_network_has_no_stages_of_ours(images: list[Tensor]) -> None:
    published = RestorerConfig("p", 8, ((),), branches=3, grid=0, skip=False, published=True)
    state = training.Run(images, Restorer(published), teachers(), 25, 8, 1e-3, seed=1)
    names = [stage.name for n, stage in enumerate(stages.STAGES) if state.steps_of(n)]
    assert names == ["encoder", "decoder", "branches", "ise"]
    state.stage = state.stages[-1]
    state.step = state.stage_steps
    assert state.finished()


def test_resuming_is_bit_identical(images: list[Tensor], tmp_path: Path) -> None:
    through, first = run(images), run(images)
    for _ in range(7):
        assert not through.finished() and not first.finished()
        through.advance(), first.advance()
    first.save(tmp_path)
    second = run(images)
    second.restore(torch.load(tmp_path / training.CHECKPOINT, weights_only=True))
    while not through.finished():
        through.advance()
    while not second.finished():
        second.advance()
    for a, b in zip(through.average.parameters(), second.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_fewer_branches_than_families_share_the_rest() -> None:
    families = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]])
    wanted = torch.tensor([[0.5, 0.5, 0], [0, 0, 1], [0, 0, 1]])
    assert torch.equal(filter_stages.wanted_shares(families, 3), wanted)
    assert torch.equal(filter_stages.wanted_shares(families, 5), families)


def test_train_is_interrupted_and_goes_on(
    images: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = training.Run.advance

    def press_ctrl_c(self: training.Run) -> dict[str, Tensor]:
        if (stages.STAGES[self.stage].name, self.step) == ("ise", 1):
            signal.raise_signal(signal.SIGINT)
        return advance(self)

    settings: Any = {"teachers": teachers(), "folder": tmp_path, "steps": 100, "batch": 4}
    with monkeypatch.context() as patched:
        patched.setattr(training.Run, "advance", press_ctrl_c)
        assert training.train(images, profile=TINY, **settings) is False
    assert training.train(images, profile=TINY, **settings) is True
    assert Restorer.from_pretrained(tmp_path / "weights").config == TINY
    assert "ise,20," in (tmp_path / progress.LOG).read_text()


def test_the_log_has_rates_and_tensorboard_the_same(images: list[Tensor], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings: Any = {"teachers": teachers(), "folder": tmp_path, "steps": 100, "batch": 2}
    assert training.train(images, profile=TINY, tensorboard=True, **settings)
    lines = [line.split(",") for line in (tmp_path / progress.LOG).read_text().splitlines()]
    last = [line[3:] for line in lines if line[:2] == ["ise", "20"]]
    logged = {name: float(value) for name, value in last}
    terms = {"clean", "normalised", "gate", "teacher"}
    assert terms | {"images_per_second", "waiting"} == set(logged)
    assert logged["images_per_second"] > 0 and 0 <= logged["waiting"] < 1
    board = EventAccumulator(str(tmp_path)).Reload()
    for name, value in logged.items():
        (event,) = board.Scalars(f"ise/{name}")
        assert event.step == 20 and event.value == pytest.approx(value, abs=1e-5)


def test_what_is_recognised_worse_than_before_has_a_louder_voice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_stages, "TEACHER_LIMIT", 1e-6)  # so low that both meet it
    torch.manual_seed(0)
    clean = torch.rand(2, 3, 64, 64)
    degraded = torch.stack([clean[0], torch.zeros(3, 64, 64)])  # the second one cannot get worse
    restored = (0.9 * clean).requires_grad_()
    pairs = data.Pairs(clean, degraded, torch.zeros(2, 5), torch.zeros(2), clean, clean)
    network_stages.teacher_loss(teachers()[0], restored, pairs).mean().backward()
    assert restored.grad is not None
    worse, better = restored.grad.flatten(1).norm(dim=1).tolist()
    assert better > 0 and worse == pytest.approx(3 * better, rel=1e-4)


def test_streaks_are_taken_away_where_less_of_the_error_is_left_then() -> None:
    torch.manual_seed(0)
    learner = Learner(Restorer(TINY), teachers())
    clean = 0.6 * torch.rand(2, 3, 14, 14).repeat_interleave(8, 2).repeat_interleave(8, 3)
    lines = torch.zeros_like(clean)
    lines[..., 3::8] = 0.7
    rained = clean * (1 - lines) + lines
    slopes = []
    for degraded, wanted in ((rained, clean), (rained, rained)):
        pairs = data.Pairs(wanted, degraded, torch.zeros(2, 5), torch.zeros(2), wanted, wanted)
        terms = filter_stages.streak_loss(learner, pairs, [], torch.Generator())
        terms["streaks"].backward()
        bias = learner.restorer.streak_filter.asks[1].bias
        slopes.append(float(bias.grad))
        bias.grad = None
    assert slopes[0] < -1e-4 and slopes[1] > 1e-4


def test_noise_is_taken_away_where_less_of_the_error_is_left_then() -> None:
    torch.manual_seed(0)
    learner = Learner(Restorer(TINY), teachers())
    clean = torch.full((2, 3, 64, 64), 0.4)
    noisy = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    slopes = []
    for wanted in (clean, noisy):
        pairs = data.Pairs(wanted, noisy, torch.zeros(2, 5), torch.zeros(2), wanted, wanted)
        terms = filter_stages.noise_loss(learner, pairs, [], torch.Generator())
        terms["noise"].backward()
        bias = learner.restorer.pixel_filter.noise_filter.asks[1].bias
        slopes.append(float(bias.grad))
        bias.grad = None
    assert slopes[0] < -1e-4 and slopes[1] > 1e-4


def test_an_image_is_worth_it_where_a_teacher_sees_more_in_it_restored() -> None:
    """Noise is taken away from all; some had it before."""
    torch.manual_seed(0)
    restorer = Restorer(TINY)
    nn.init.constant_(restorer.pixel_filter.noise_filter.asks[1].bias, 2.0)
    clean = torch.full((2, 3, 64, 64), 0.4)
    noisy = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)

    def grain(images: Tensor) -> list[Tensor]:
        return [F.pad(40 * images.std((1, 2, 3))[:, None], (0, 1))]

    slopes = []
    for wanted in (clean, noisy):
        pairs = data.Pairs(wanted, noisy, torch.zeros(2, 5), torch.zeros(2), wanted, wanted)
        given = network_stages.valued(restorer, pairs, grain)  # type: ignore[arg-type]
        network_stages.valued_loss(restorer, given).backward()
        bias = restorer.worth[1].bias
        slopes.append(float(bias.grad))
        bias.grad = None
    assert slopes[0] < -1e-2 and slopes[1] > 1e-2


def test_what_is_enhanced_learns_as_far_as_it_is_needed() -> None:
    """Against the teacher's loss on what the restorer gives; where nothing is needed, nothing is
    learnt."""
    torch.manual_seed(0)
    restorer = Restorer(replace(TINY, enhanced_from=0.3))
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    clean, degraded = torch.rand(2, 2, 3, 64, 64).round(decimals=2)
    pairs = data.Pairs(clean, degraded, torch.zeros(2, 5), torch.zeros(2), clean, clean)
    teacher = teachers()[0]
    given = network_stages.lit_of(restorer, pairs)
    parts = stages.release(restorer, tuple(p.strip(".") for p in stages.ENHANCED))
    slopes = {}
    for needed in (0.0, 0.6, 1.0):
        some = given._replace(needed=torch.full((2,), needed))
        found = network_stages.lit_loss(restorer, some, [teacher], torch.Generator())
        with torch.no_grad():
            judged = restorer.judge(degraded)._replace(needed=some.needed)
            restored = restorer.restored(judged).clamp(0, 1)
            wanted = teacher((clean * 255).round() / 255)
            expected = losses.consistency_loss(teacher(restored), wanted).mean()
        torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-5)
        slopes[needed] = torch.autograd.grad(found, parts, allow_unused=True)
    sizes = {
        needed: sum(float(s.norm()) for s in found if s is not None)
        for needed, found in slopes.items()
    }
    assert sizes[0.0] == 0 and sizes[0.6] > 0 and sizes[1.0] > 0


def test_noise_is_told_by_what_an_image_was_before_it_fell() -> None:
    """In the dark, where most of what is wrong is none; and what is dark alone has none."""
    torch.manual_seed(0)
    clean = torch.linspace(0.2, 0.9, 64).expand(2, 3, 64, 64)
    dark = 0.2 * clean
    noise = torch.tensor([0.02, 0]).view(2, 1, 1, 1) * torch.randn(2, 3, 64, 64)
    degraded = (dark + noise).clamp(0)
    pairs = data.Pairs(clean, degraded, torch.eye(5)[[0, 0]], torch.zeros(2), dark, dark)
    noisy, even = filter_stages.noises_of(Restorer(TINY), pairs).change
    assert noisy < -1 and abs(even) < 0.01


def test_what_lies_over_a_scene_is_learnt() -> None:
    """By pixels, and by what a teacher sees; what has nothing over it stays."""
    torch.manual_seed(0)
    learner = Learner(Restorer(replace(TINY, weather=8)), teachers()[:1])
    learning = stages.release(learner, stages.UNCOVERING)
    optimiser = torch.optim.Adam(learning, 2e-3)
    clean = torch.rand(4, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    dots = 0.5 * (torch.rand(4, 1, 64, 64) < 0.05)
    degraded = (clean + dots).clamp(0, 1)
    degraded[3], beneath = clean[3], clean.clone()
    pairs = data.Pairs(clean, degraded, torch.zeros(4, 5), torch.zeros(4), degraded, beneath)
    found = []
    for step in range(60):
        loss = network_stages.over_loss if step < 40 else network_stages.weather_loss
        terms = loss(learner, pairs, teachers()[:1], torch.Generator())
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        optimiser.zero_grad()
        found.append({name: float(term.detach()) for name, term in terms.items()})
    assert found[39]["pixels"] < 0.8 * found[0]["pixels"]
    assert found[59]["teacher"] < found[40]["teacher"]
    change, _ = learner.restorer.weather_filter(degraded)
    assert change[3].abs().mean() < 0.5 * (degraded - beneath)[:3].abs().mean()


def test_a_scene_is_uncovered_where_less_of_the_error_is_left_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error is what lies over it, and nothing else."""
    torch.manual_seed(0)
    learner = Learner(Restorer(replace(TINY, weather=8)), teachers()[:1])
    weather = learner.restorer.weather_filter
    clean = torch.rand(2, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    dotted = (clean + 0.5 * (torch.rand(2, 1, 64, 64) < 0.05)).clamp(0, 1)
    monkeypatch.setattr(weather, "change", lambda *seen: clean - dotted)
    slopes = []
    for beneath in (clean, dotted):
        pairs = data.Pairs(clean, dotted, torch.zeros(2, 5), torch.zeros(2), dotted, beneath)
        terms = network_stages.covered_loss(learner, pairs, [], torch.Generator())
        terms["covered"].backward()
        bias = weather.asks[1].bias
        slopes.append(float(bias.grad))
        bias.grad = None
    assert slopes[0] < -1e-2 and slopes[1] > 1e-2


def test_the_denoiser_learns_from_noise_alone() -> None:
    """From pixels as they were before it fell, a part of which stays, and from what a teacher sees
    of them in the end."""
    torch.manual_seed(0)
    learner = Learner(Restorer(replace(TINY, denoiser=8)), teachers())
    denoiser = learner.restorer.pixel_filter.denoiser
    nn.init.constant_(learner.restorer.pixel_filter.noise_filter.asks[1].bias, 2.0)
    stages.release(learner, (".denoiser.",))
    clean = 0.3 + 0.4 * torch.rand(2, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noisy = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    families = torch.eye(5)[[NOISE_FAMILY, LIGHT_FAMILY]]
    pairs = data.Pairs(clean, noisy, families, torch.zeros(2), clean, clean)
    found = network_stages.denoiser_loss(learner, pairs, teachers(), torch.Generator())
    with torch.no_grad():
        without, _ = learner.restorer.pixel_filter.denoised(noisy)  # at first it changes nothing
        wanted = clean + network_stages.LEFT * (noisy - clean)
        off = (without - wanted).abs().mean((1, 2, 3)) / (clean.std((1, 2, 3)) + 0.05)
    torch.testing.assert_close(found["pixels"].detach(), off[0] / 2)
    for term in found.values():
        slope = torch.autograd.grad(term, denoiser.leave.weight, retain_graph=True)[0]
        assert slope.abs().sum() > 0
    quiet = data.Pairs(clean, clean, families[[1, 1]], torch.zeros(2), clean, clean)
    nn.init.constant_(learner.restorer.pixel_filter.noise_filter.asks[1].bias, -2.0)
    found = network_stages.denoiser_loss(learner, quiet, teachers(), torch.Generator())
    assert not any(term.requires_grad for term in found.values())


def test_a_step_without_anything_to_learn_from_changes_nothing(
    images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = [torch.full_like(image, 128) for image in images]
    monkeypatch.setattr(data, "draw_kinds", lambda most, generator, oftener: [])
    restorer = Restorer(replace(TINY, denoiser=8))
    stage = next(n for n, s in enumerate(stages.STAGES) if s.name == "denoiser")
    state = training.Run(flat, restorer, teachers(), 40, 8, 1e-3, seed=1, first=stage)
    before = copy.deepcopy(state.learner.state_dict())
    state.advance()
    after = state.learner.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "kinds",
    ((), (rain, jpeg), (gaussian_noise, jpeg), (low_light,), (low_light, gaussian_noise, jpeg)),
)
def test_pairs_know_what_they_were_before_noise(
    kinds: tuple[Degradation, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [(data.family_of(kind), kind) for kind in kinds]
    monkeypatch.setattr(data, "draw_kinds", lambda most, generator, oftener: drawn)
    clean = torch.rand(3, 3, 1, 1).expand(3, 3, 24, 24)
    degraded, _, _, noiseless, _ = data.degrade(clean, 2, data.Chance.of(0))
    if low_light in kinds:  # dark, but even: by this seed no place stays lit
        chance = data.Chance.of(0)
        severity = torch.rand(len(kinds), 3, generator=chance.choices)[0] * 5 / len(kinds) ** 0.5
        assert torch.equal(noiseless, dimmed(clean, severity, chance.pixels))
        assert (noiseless < clean).all()
        assert (noiseless.std((2, 3)) < 1e-6).all() and (degraded.std((2, 3)) > 1e-3).any()
    else:
        assert torch.equal(noiseless, clean if gaussian_noise in kinds else degraded)


@pytest.mark.parametrize("kinds", ((), (haze, jpeg), (snowfall, jpeg), (gaussian_noise,)))
def test_pairs_know_what_was_beneath(
    kinds: tuple[Degradation, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [(data.family_of(kind), kind) for kind in kinds]
    monkeypatch.setattr(data, "draw_kinds", lambda most, generator, oftener: drawn)
    clean = torch.rand(3, 3, 32, 32)
    degraded, *_, beneath = data.degrade(clean, 1, data.Chance.of(0))
    if jpeg not in kinds:
        assert torch.equal(beneath, degraded)
    elif haze in kinds:  # which stays
        chance = data.Chance.of(0)
        severity = torch.rand(2, 3, generator=chance.choices)[0] * 5 / 2**0.5
        torch.testing.assert_close(beneath, haze(clean, severity, chance.pixels))
    else:
        assert torch.equal(beneath, clean) and not torch.equal(degraded, clean)


def test_the_ablations_freeze_what_they_say(
    images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "ablate.py"))
    before = stages.STAGES
    learning = {}
    monkeypatch.setattr("vrdir_plug.cli.main", lambda argv: len(argv))
    for name in tool["VARIANTS"]:
        monkeypatch.setattr(stages, "STAGES", before)
        assert tool["main"](name, "--out", "x") == 3
        assert stages.STAGES[:-1] == before[:-7]
        learner = run(images).learner
        stages.release(learner, stages.STAGES[-1].learns)
        parts = {n.split(".")[1] for n, p in learner.named_parameters() if p.requires_grad}
        learning[name] = parts
    assert learning["prior-frozen"] == {"ise"}
    assert learning["pixel-dnc-frozen"] == {"ise", "encoder", "decoder"}
    assert learning["all"] == {"ise", "encoder", "decoder", "pixel_dnc"}
    with pytest.raises(SystemExit, match="the variants are: prior-frozen"):
        tool["main"]("none")


def test_from_weights_only_the_last_stages_learn(images: list[Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    Restorer(TINY).half().save_pretrained(tmp_path / "given")  # as a run saves its own
    settings: Any = {"teachers": teachers(), "folder": tmp_path / "run", "steps": 60, "batch": 4}
    assert training.train(images, start=tmp_path / "given", **settings)
    given, fitted = (
        weights_of(Restorer.from_pretrained(folder))
        for folder in (tmp_path / "given", tmp_path / "run" / "weights")
    )
    moved = {name for name in given if not torch.equal(given[name], fitted[name])}
    learnt = {"encoder", "ise", "decoder", "gains", "worth"}
    assert {name.split(".")[0] for name in moved} == learnt
    # nothing that says which images are enhanced
    assert not any(name.startswith("ise.fgm.whole") for name in moved)
    lines = (tmp_path / "run" / progress.LOG).read_text().splitlines()
    assert {line.split(",")[0] for line in lines} == {"enhanced", "worth"}
    with pytest.raises(ValueError, match="use the same, or another folder"):
        training.train(images, profile=TINY, **settings)


def test_which_stages_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [stage.name for stage in stages.STAGES]
    published = RestorerConfig("p", 8, ((),), branches=3, grid=0, skip=False, published=True)
    assert names[stages.first_repeated(TINY) :] == ["enhanced", "worth"]
    assert names[stages.first_repeated(published)] == "ise"
    assert names[stages.first_repeated(replace(TINY, denoiser=8))] == "denoiser"
    assert names[stages.first_repeated(replace(TINY, weather=8))] == "weather"
    # as the tools have them: one stage alone, and one more than there are before it
    for some in (stages.STAGES[3:4], stages.STAGES[:-6]):
        monkeypatch.setattr(stages, "STAGES", some)
        assert stages.first_repeated(TINY) == len(some) - 1


def test_a_stage_with_larger_crops_has_fewer_of_them(images: list[Tensor]) -> None:
    state = run(images)
    for state.stage, stage in enumerate(stages.STAGES):
        assert state.images_a_step == 8 // stage.sides**2
    assert {stage.sides for stage in stages.STAGES} == {1, 2}


@pytest.mark.parametrize("crop", (0, 111))
def test_a_crop_that_does_not_fit_is_refused(
    images: list[Tensor], tmp_path: Path, crop: int
) -> None:
    with pytest.raises(ValueError, match="multiple of 4 pixels"):
        training.train(images, teachers(), tmp_path / "none", "fast", crop=crop)
    assert not (tmp_path / "none").exists()


def test_another_setting_does_not_take_over_a_checkpoint(
    images: list[Tensor], tmp_path: Path
) -> None:
    settings: Any = {"teachers": teachers(), "folder": tmp_path, "batch": 4, "profile": TINY}
    training.train(images, steps=4, **settings)
    for other in ({"steps": 8}, {"seed": 1}, {"images": images * 2}, {"teachers": teachers()[:1]}):
        with pytest.raises(ValueError, match="use the same, or another folder"):
            training.train(**{"images": images, "steps": 4, **settings, **other})


@torch.no_grad()
def loss_of(state: training.Run, stage: stages.Stage, pairs: data.Pairs) -> float:
    """The stage's loss on always the same pairs and by the same teacher."""
    terms = stage.loss(state.learner, pairs, state.teachers[:1], torch.Generator())
    return float(sum(terms.values()))


def test_every_stage_lowers_its_loss(images: list[Tensor]) -> None:
    state = run(images, steps=420, batch=32, width=8)
    # of these teachers the last stages learn too little to be seen, and WeatherFilter in so few
    # steps: see test_what_lies_over_a_scene_is_learnt
    for stage in stages.STAGES[:-4]:
        if stage.name == "over":
            state.step = state.stage_steps
            state.finished()
            continue
        side = CROP * stage.sides
        pairs = data.draw_pairs(images, 32, side, stage.most, data.Chance.of(3), stage.oftener)
        before = loss_of(state, stage, pairs)
        while state.step < state.stage_steps:
            state.advance()
        assert loss_of(state, stage, pairs) < before, stage.name
        state.finished()


def test_a_teacher_is_frozen_and_sees_four_resolutions() -> None:
    teacher = Teacher(Classifier().train(), UNIT)
    seen = teacher(torch.rand(2, 3, 128, 128))
    assert [f.shape[-1] for f in seen[:-1]] == [32, 16, 8, 4] and seen[-1].shape == (2, 5)
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_teacher_answers_and_asks_what_its_model_does() -> None:
    """Batch norms are folded and strided depthwise convolutions wrapped: no change."""
    torch.manual_seed(2)
    model, images = mobilenet_v2(weights=None), torch.rand(2, 3, 96, 96)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model(images)  # statistics under which something comes through
    model.eval()

    def answer_and_gradient(network: nn.Module) -> list[Tensor]:
        asked = images.clone().requires_grad_()
        found = network(asked)
        answer = found[-1].float() if isinstance(found, list) else found
        answer[:, :3].sum().backward()
        assert asked.grad is not None
        return [answer.detach(), asked.grad]

    expected = answer_and_gradient(model)
    found = answer_and_gradient(Teacher(copy.deepcopy(model), UNIT))
    for mine, its in zip(found, expected, strict=True):
        assert (mine - its).norm() < 0.03 * its.norm()


def test_a_network_without_feature_maps_is_no_teacher() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 128 * 128, 5))
    with pytest.raises(ValueError, match="convolutional classifier"):
        Teacher(flat, UNIT)


def test_a_step_without_a_finite_gradient_is_left_out(
    images: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = run(images)
    before = weights_of(state.learner)
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.inf))
    with pytest.warns(UserWarning, match="step 0 had no finite gradient"):
        state.advance()
    assert all(torch.equal(t, before[n]) for n, t in state.learner.state_dict().items())
    assert state.step == 1


# --- data ------------------------------------------------------------------------------------


def test_pairs_are_seeded_in_range_and_labelled(images: list[Tensor]) -> None:
    first, again = (data.draw_pairs(images, 96, 32, 3, data.Chance.of(7)) for _ in range(2))
    assert torch.equal(first.degraded, again.degraded)
    assert first.degraded.shape == (96, 3, 32, 32)
    assert first.degraded.min() >= 0 and first.degraded.max() <= 1
    torch.testing.assert_close(first.families.sum(1), torch.ones(96))
    # every family, and three of them at once
    assert set(first.families.argmax(1).tolist()) == set(range(CLEAN_FAMILY + 1))
    assert {1, 2, 3} <= set((first.families > 0).sum(1).tolist())
    clean = first.families[:, CLEAN_FAMILY] == 1
    rounding = (first.degraded[clean] - first.clean[clean]).abs().max()
    assert rounding <= 0.5 / 255 + 1e-6
    assert (first.degraded[~clean] - first.clean[~clean]).abs().mean() > 0.02


@pytest.mark.parametrize(
    ("kinds", "share"),
    (((), 0.0), ((motion_blur,), 1.0), ((low_light, impulse_noise), 0.5), ((rain, jpeg), 0.0)),
)
def test_pairs_know_what_a_filter_can_mend(
    kinds: tuple[Degradation, ...], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = {kind: n for n, family in enumerate(FAMILIES) for kind in family}
    drawn = [(families[kind], kind) for kind in kinds]
    monkeypatch.setattr(data, "draw_kinds", lambda most, generator, oftener: drawn)
    _, _, filterable, _, _ = data.degrade(torch.rand(3, 3, 24, 24), 2, data.Chance.of(0))
    assert filterable.tolist() == [share] * 3


@pytest.fixture
def grow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `tools/grow.py` defines."""
    tools = Path(__file__).parents[1] / "tools"
    monkeypatch.syspath_prepend(str(tools))
    return runpy.run_path(str(tools / "grow.py"))


def test_old_weights_grow_into_the_network_as_it_is(tmp_path: Path, grow: dict[str, Any]) -> None:
    """Cut down to what they were, weights whose new parts rest do what they did, in their sizes."""
    restorer = moved(replace(config_of("fast"), channels=8, units=((8,), (8,))))
    restorer.pixel_filter.noise_filter = NoiseFilter(PixelFilter.known)
    restorer.save_pretrained(tmp_path)
    old = {n: t for n, t in restorer.state_dict().items() if "noise_filter." not in n}
    for name in grow["ASKED"]:
        old[name][:, -2:] = 0
        old[name] = old[name][:, :-2].clone()
    save_file(old, tmp_path / "model.safetensors")
    images = torch.rand(1, 3, 32, 40)
    torch.testing.assert_close(grow["grown"](tmp_path)(images), restorer(images))


def test_a_denoiser_of_one_resolution_grows_by_one_that_rests(
    tmp_path: Path, grow: dict[str, Any]
) -> None:
    """Its four pairs had other names."""
    restorer = moved(replace(TINY, denoiser=8))
    denoiser = restorer.pixel_filter.denoiser
    nn.init.zeros_(denoiser.up.weight)
    restorer.save_pretrained(tmp_path)
    place = "pixel_filter.denoiser."
    new = "further", "down", "up", "first", "last"
    old = {
        n: t
        for n, t in restorer.state_dict().items()
        if not n.startswith(tuple(place + p for p in new))
    }
    for number, pair in enumerate((*denoiser.first, *denoiser.last)):
        old[f"{place}body.{number}.0.weight"] = pair.first.weight.detach().clone()
        old[f"{place}body.{number}.2.weight"] = pair.second.weight.detach().clone()
    save_file(old, tmp_path / "model.safetensors")
    noisy = (0.4 + 0.1 * torch.randn(1, 3, 32, 40)).clamp(0, 1)
    torch.testing.assert_close(grow["grown"](tmp_path)(noisy), restorer(noisy))


def test_kinds_can_be_asked_for_oftener() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [data.draw_kinds(1, generator, (rain, jpeg)) for _ in range(400)]
    kinds = [kind for kinds in drawn for _, kind in kinds]
    assert all(kind in FAMILIES[family] for kinds in drawn for family, kind in kinds)
    assert 170 < kinds.count(rain) + kinds.count(jpeg) < 270
    assert len(set(kinds)) > 12 and 15 < drawn.count([]) < 60
    both = [data.draw_kinds(1, generator, ((rain, jpeg),)) for _ in range(400)]
    together = both.count([(data.family_of(rain), rain), (data.family_of(jpeg), jpeg)])
    assert 160 < together < 240


def test_a_mild_degradation_is_hardly_one() -> None:
    full = data.FULL
    severities = torch.tensor([[full, full / 4, 0.0, 5.0], [0.0, full / 2, 0.0, 5.0]])
    shares = data.shares_of([2, 0], severities)
    wanted = [[0, 0, 1, 0, 0], [1 / 3, 0, 1 / 6, 0, 1 / 2], [0, 0, 0, 0, 1], [0.5, 0, 0.5, 0, 0]]
    torch.testing.assert_close(shares, torch.tensor(wanted))
    assert torch.equal(data.shares_of([], torch.empty(0, 2))[:, CLEAN_FAMILY], torch.ones(2))


def test_a_folder_with_bad_files_loses_only_those(tmp_path: Path) -> None:
    Image.fromarray(astronaut()).save(tmp_path / "good.png")
    (tmp_path / "text.jpg").write_text("not an image")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="left out"):
        images = data.read_folder(tmp_path)
    assert [tuple(image.shape) for image in images] == [(3, 256, 256)]
    (tmp_path / "good.png").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no readable image"):
        data.read_folder(tmp_path)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert data.read_image(tmp_path / "turned.jpg").shape == (3, 40, 20)


def test_more_than_8_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(OSError, match="more than 8 bits"):
        data.read_image(tmp_path / "deep.png")


def test_crops_share_their_scale_and_small_images_are_enlarged() -> None:
    seed = torch.Generator().manual_seed(1)
    ramp = torch.arange(200, dtype=torch.uint8).expand(3, 200, 200)
    crops = data.random_crops([ramp, ramp], 32, seed)
    steps = crops.diff(dim=3).mean((1, 2, 3)) * 255  # one level a pixel of the photograph
    assert crops.shape == (2, 3, 32, 32) and 1 <= steps[0].abs() <= 2
    torch.testing.assert_close(steps[0], steps[1])
    small = torch.zeros(3, 10, 300, dtype=torch.uint8)
    assert data.random_crops([ramp, small], 32, seed).shape == (2, 3, 32, 32)
