"""The stages of training, in their order: each is a value.

Order of the paper: a prior first (E, then SAD), then the enhancement. Ours has what is done to the
pixels before all of them; and where the paper freezes the prior ours learns on, for frozen it did
not pay (docs/ablations.md).
"""

from dataclasses import dataclass

from torch import nn

from .config import RestorerConfig
from .data import Oftener
from .degradations import (
    defocus_blur,
    down_sample,
    drops,
    frost,
    gaussian_blur,
    gaussian_noise,
    glass_blur,
    haze,
    icy,
    jpeg,
    low_contrast,
    low_light,
    mist,
    motion_blur,
    mud,
    over_exposure,
    pixelate,
    rain,
    shot_noise,
    snow,
    snowfall,
    speckle_noise,
    zoom_blur,
)
from .filter_stages import (
    defocus_loss,
    front_loss,
    motion_loss,
    noise_loss,
    response_loss,
    streak_loss,
    zoom_loss,
)
from .learner import Loss
from .network_stages import (
    branch_loss,
    covered_loss,
    decoder_loss,
    denoiser_loss,
    encoder_loss,
    enhanced_loss,
    over_loss,
    weather_loss,
    whole_loss,
    worth_loss,
)


@dataclass(frozen=True)
class Stage:
    """What learns, from what, for how long.

    Args:
        name: for logs.
        learns: parts of the learner's parameter names; everything else is frozen.
        loss: the named terms that are summed.
        share: of the run's steps.
        most: degradations at once in an image.
        pace: its learning rate, in shares of the run's.
        sides: of its crops, in sides of the run's: as many fewer images keep the number of pixels.
        oftener: half of its images have one of these degradations alone, or those of a tuple.
    """

    name: str
    learns: tuple[str, ...]
    loss: Loss
    share: float
    most: int
    pace: float = 1.0
    sides: int = 1
    oftener: Oftener = ()


# behind PixelFilter, whose few numbers stay as the first stage has them
BEHIND = (".pixel_dnc.", ".encoder.", ".ise.", ".decoder.")
# and of that all that does not say which images are enhanced, nor changes their light
ENHANCED = (
    *(".encoder.", ".ise.blocks.", ".ise.fgm.local.", ".ise.fgm.gate.", ".ise.fgm.amplitudes."),
    *(".decoder.", ".gains."),
)
# what it must tell apart; movements are of two sorts, and what glass leaves looks like a blur
BLURS = (
    *(gaussian_blur, defocus_blur, motion_blur, motion_blur, glass_blur, glass_blur),
    *(zoom_blur, pixelate, pixelate, down_sample),
)
PIXELS = (".pixel_filter.switch", ".pixel_filter.asks.", ".pixel_dnc.")
NOISE, RESPONSE = (".pixel_filter.noise_filter.",), (".pixel_filter.response.",)
# and what must not be taken for them
STREAKS = (
    *(rain, rain, snow, snow, frost, drops, over_exposure),
    *(gaussian_noise, shot_noise, speckle_noise),
)
NOISES = (gaussian_noise, shot_noise, speckle_noise, low_light)
# of which what is pale anyhow is hardly told, and what it is often not worth to restore
DOUBTFUL = (
    *(haze, haze, mist, mist, over_exposure, low_contrast, low_light, low_light),
    *(motion_blur, zoom_blur, drops, drops, snow, frost, jpeg),
    *((haze, jpeg), (mist, jpeg), (low_light, jpeg)),
)
# what takes of the rays alone, and what takes as much of all directions, or of one
ZOOMS = (*(zoom_blur,) * 4, motion_blur, motion_blur, gaussian_blur, defocus_blur)
# what may look like a move, and is none
STILL = (
    *(zoom_blur, zoom_blur, defocus_blur, gaussian_blur, glass_blur, rain, snow, pixelate),
    *(down_sample, low_light, low_light),
)
# and what may look like a disc
FOCUSED = (*(motion_blur, zoom_blur, gaussian_blur, gaussian_blur, glass_blur, pixelate), jpeg)
# what FGM gives to the branch of blur and compression, where filters have done what they can
REMAINING = (
    *(gaussian_blur, gaussian_blur, gaussian_blur, glass_blur, glass_blur, glass_blur),
    *(defocus_blur, zoom_blur, motion_blur, pixelate, down_sample, down_sample),
    *(jpeg, jpeg, jpeg, (haze, jpeg), (mist, jpeg), (low_light, jpeg)),
    *((gaussian_blur, jpeg), (down_sample, jpeg)),
)
# what the Denoiser is for; the noise of a dark image counts as light, and has its teachers alone
DENOISED = (
    *(gaussian_noise, gaussian_noise, shot_noise, shot_noise, speckle_noise, speckle_noise),
    *(low_light, (low_light, gaussian_noise), (low_light, shot_noise), (shot_noise, jpeg)),
)
# what WeatherFilter is for; what else there is, it learns to leave
COVERED = (
    *(snow, *(snowfall,) * 4, frost, *(icy,) * 4, *(drops,) * 3, mud, rain),
    *(jpeg, jpeg, jpeg, (haze, jpeg), (low_contrast, jpeg), (snowfall, jpeg), (drops, jpeg)),
)
# which its judgement must tell from all else, and more of what nothing lies over
DOUBTED = (
    *((), (), ()),
    *(rain, rain, snow, snow, snowfall, snowfall, frost, icy, icy, drops, drops, mud),
    *(jpeg, jpeg, jpeg, (haze, jpeg)),
    *(low_contrast, haze, gaussian_noise, glass_blur),
)
ASKED = (".weather_filter.asks.",)
UNCOVERING = tuple(
    f".weather_filter.{part}."
    for part in (
        *("enter", "first", "down", "second", "further", "third"),
        *("back", "fourth", "up", "fifth", "leave"),
    )
)
STAGES: tuple[Stage, ...] = (
    Stage("zoom", (".zoom_filter.",), zoom_loss, 0.05, 2, 1.5, sides=2, oftener=ZOOMS),
    Stage("motion", (".motion_filter.",), motion_loss, 0.05, 2, 1.5, sides=2, oftener=STILL),
    Stage("defocus", (".defocus_filter.",), defocus_loss, 0.05, 2, 1.5, sides=2, oftener=FOCUSED),
    Stage("streaks", (".streak_filter.",), streak_loss, 0.05, 2, 3.0, sides=2, oftener=STREAKS),
    Stage("pixels", PIXELS, front_loss, 0.10, 2, 3.0, sides=2),
    Stage("noise", NOISE, noise_loss, 0.05, 2, 3.0, sides=2, oftener=NOISES),
    Stage("response", RESPONSE, response_loss, 0.10, 1, 1.5, sides=2, oftener=BLURS),
    Stage("encoder", (".encoder.", "heads.", "pixels."), encoder_loss, 0.03, 1),
    Stage("decoder", (".decoder.",), decoder_loss, 0.01, 1),
    Stage("branches", BEHIND, branch_loss, 0.35, 2),
    Stage("ise", BEHIND, whole_loss, 0.23, 2, 0.4, sides=2),
    Stage("over", UNCOVERING, over_loss, 0.15, 1, 0.2, oftener=COVERED),
    Stage("denoiser", (".denoiser.",), denoiser_loss, 0.15, 2, 0.5, sides=2, oftener=DENOISED),
    Stage("weather", UNCOVERING, weather_loss, 0.15, 1, 0.15, sides=2, oftener=COVERED),
    Stage("covered", ASKED, covered_loss, 0.05, 2, 1.5, sides=2, oftener=DOUBTED),
    Stage("enhanced", ENHANCED, enhanced_loss, 0.05, 2, 0.3, sides=2, oftener=REMAINING),
    Stage("worth", (".worth.",), worth_loss, 0.05, 2, 1.5, sides=2, oftener=DOUBTFUL),
)


def stages_of(config: RestorerConfig) -> list[int]:
    """Which of the stages a network has: as published nothing is before E and behind SAD."""
    fronts = {"zoom", "motion", "defocus", "streaks", "pixels", "noise", "response"}
    lacks = fronts | {"enhanced", "worth"} if config.published else set()
    if not config.denoiser:
        lacks |= {"denoiser"}
    if not config.weather:
        lacks |= {"over", "weather", "covered"}
    return [n for n, stage in enumerate(STAGES) if stage.name not in lacks]


def first_repeated(config: RestorerConfig) -> int:
    """The first of the stages that fit trained weights to other teachers and images."""
    stages = stages_of(config)
    repeated = ("denoiser", "weather", "covered", "enhanced", "worth")
    return next((n for n in stages if STAGES[n].name in repeated), stages[-1])


def release(learner: nn.Module, parts: tuple[str, ...]) -> list[nn.Parameter]:
    """Freeze everything but the parameters with one of the parts in their names; return those."""
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return [p for p in learner.parameters() if p.requires_grad]
