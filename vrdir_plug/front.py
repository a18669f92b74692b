"""What is done to the pixels before E sees them: PixelFilter, Light and PixelDNC, all of them ours.

Shapes are (N, channels, height, width).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import (
    BANDS,
    CELL,
    LEAK,
    SPECTRUM,
    bands_of,
    difference_filters,
    from_moments,
    full_precision,
    idle,
    inner,
    linear,
    log_amplitude,
    plus_product,
    resized,
    slope_filters,
    spectrum_of,
    zeroed,
)
from .compression import Blocking, blocking_of, steps_in
from .denoiser import Denoiser
from .fourier import realised
from .ise import DNC
from .noise import AROUND, NoiseFilter
from .response import (
    REACH,
    STRONGEST,
    FrequencyResponse,
    filtered_by,
    power_spectrum,
    wavelets,
    windows_of,
)

KNOWN_SCALE = 0.3  # of colours and logarithms among what is known of an image


def smoothed(planes: Tensor) -> Tensor:
    """Sums with the weights 1, 2, 1, down and across: 16 times the mean; smaller by a pixel on each
    side."""
    for side in (2, 3):
        count = planes.shape[side] - 2
        before, middle, after = (planes.narrow(side, n, count) for n in range(3))
        planes = torch.add(before, after).add(middle, alpha=2)
    return planes


def edges_in(grey: Tensor, stride: int) -> Tensor:
    """Cells of a plane (N, 1, H, W) -> how far the structure tensor of each has one direction, and
    all of it (N, 2, h, w): the difference of its eigenvalues, and their sum. Their ratio is the
    coherence of edges (Bigun and Granlund, ICCV 1987), which is low where they are ragged."""
    across, down = F.conv2d(grey, slope_filters(grey.device), stride=stride).chunk(2, dim=1)
    first, second = (slope.square().sum(1) for slope in (across, down))
    # not torch.hypot: where nothing changes its gradient is no number
    along = ((first - second).square() + 4 * (across * down).sum(1).square() + 1e-16).sqrt()
    return torch.stack([along, first + second], 1)


def with_blocking(noise: Tensor, share: Tensor, blocking: Blocking) -> tuple[Tensor, Tensor]:
    """Variances of noise (N, 3, LEVELS) of which that share (N,) is taken away -> the same with the
    noise of JPEG: the stronger counts."""
    variances = torch.stack(torch.broadcast_tensors(noise, blocking.variance[:, None, None]))
    shares = torch.stack([share, blocking.share])
    taken = variances * (shares > 0).to(noise.dtype)[:, :, None, None]
    return taken.amax(0), shares.amax(0)


class PixelFilter(nn.Module):
    """Ours: what E's cells of 4x4 pixels are too coarse for is mended before all else.

    A switching filter takes impulses away (Sun and Neuvo, Pattern Recognition Letters 15, 1994):
    values at an end of the range, far from the mean of the neighbours that are at none, in terms of
    their deviation (Hampel's identifier). A NoiseFilter follows, and a Denoiser if there is one.
    Then one linear filter: a gain for each of the image's wavelet bands (a trous; Starck, Murtagh
    and Bijaoui 1998), times a FrequencyResponse. How much of it all is done the statistics of the
    whole image say; at first no gain but 1, no noise taken away, and no impulses where there are
    few.
    """

    steps = (1, 2, 4)  # pixels between the taps of each smoothing of the wavelets
    sampled = 2 * CELL  # statistics are of one cell in so many pixels of a side
    end = 0.498  # from the middle of the range: less than a level of 255 from where it ends
    far, deviations = 0.1, 4.0
    still = 1e-3  # a difference of less is none
    most = 2.0  # logarithm of a gain
    known = SPECTRUM + BANDS + 7  # numbers of an image

    def __init__(self, denoiser: int = 0) -> None:
        super().__init__()
        # logarithm of the share of impulses from which half of the change is made, and how steeply
        self.switch = nn.Parameter(torch.tensor([-4.0, 4.0]))
        into, out = nn.Conv2d(self.known, 32, 1), nn.Conv2d(32, len(self.steps), 1)
        self.asks: Any = nn.ModuleList([into, zeroed(out)])
        self.noise_filter = NoiseFilter(self.known)
        self.denoiser: Any = Denoiser(denoiser) if denoiser else None
        self.response = FrequencyResponse(self.known)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W), H and W divisible by 4 -> the same in float32, not clamped; and what is
        known of the images (N, known)."""
        mended, known = self.denoised(images)
        with full_precision(images):
            return self.filtered(mended, known), known

    def filtered(self, images: Tensor, known: Tensor) -> Tensor:
        """The last of it: the response to images without impulses and noise."""
        response = self.asked(known, power_spectrum(windows_of(images)))
        return filtered_by(F.pad(images, (REACH,) * 4, mode="replicate"), response)

    def denoised(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images without impulses and noise, and what is known of them (N, known)."""
        with full_precision(images):
            mended, known = self.without_impulses(images)
            share, blocking = self.noise_filter.share(known), blocking_of(steps_in(images.float()))
            if idle(share.maximum(blocking.share)):
                return mended, known
            noise = self.noise_filter.levels(windows_of(mended))
            noise, share = with_blocking(noise, share, blocking)
        return self.without_noise(mended, noise, share), known

    def without_noise(self, images: Tensor, noise: Tensor, share: Tensor) -> Tensor:
        """Images (N, 3, H, W) without that share (N,) of the noise of these variances
        (N, 3, LEVELS)."""
        with full_precision(images):
            smooth = self.noise_filter.mended(images, noise, share)
        if self.denoiser is None or idle(share):
            return smooth
        whole = (share / self.noise_filter.most)[:, None, None, None]
        return realised(plus_product(smooth, self.denoiser(images, smooth), whole))

    @staticmethod
    def brightness(known: Tensor) -> Tensor:
        """The mean of images (N,), by what is known of them (N, known)."""
        return known[:, :3].mean(1) / KNOWN_SCALE

    def clear(self, known: Tensor) -> Tensor:
        """How free of noise images were (N,), by what is known of them (N, known)."""
        return 1 - self.noise_filter.share(known) / self.noise_filter.most

    @property
    def around(self) -> int:
        """Pixels around one that tell what it is without noise."""
        return AROUND + (0 if self.denoiser is None else self.denoiser.reach)

    def without_impulses(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images without impulses, and what is known of them (N, known)."""
        change = self.impulses(images)
        means, share = self.statistics(images, change)
        return self.mended(images, change, share), self.known_of(means)

    def impulses(self, images: Tensor) -> Tensor:
        """What to add to images (N, 3, H, W) to take impulses away; 0 where there is none."""
        wide = F.pad(images.float(), (1,) * 4, mode="replicate")
        middling = ((wide - 0.5).abs() < self.end).float()
        kept = middling * wide
        sums = smoothed(torch.cat([middling, kept, kept * wide], 1)).chunk(3, dim=1)
        share = sums[0].clamp(min=1e-6)
        mean, square = sums[1] / share, sums[2] / share
        change = mean - inner(wide, 1)
        variance = (square - mean.square()).clamp(min=(self.far / self.deviations) ** 2)
        impulse = change.square() > self.deviations**2 * variance
        # weights: 4 for the pixel itself, 12 for the eight around, of which a third must be valid
        impulse = impulse & (inner(middling, 1) == 0) & (share >= 4)
        return change * impulse

    def statistics(self, images: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Means that tell what to do: of bands and differences, of their squares and sizes, and how
        many are 0, and `edges_in`, in every second cell (N, 220); the share of impulses (N, 1)."""
        grey = images.float().mean(1, keepdim=True)
        steps = F.conv2d(grey, difference_filters(images.device), stride=self.sampled)
        seen = torch.cat([bands_of(images, self.sampled), steps], 1)
        size = seen.abs()
        means = [p.mean((2, 3)) for p in (seen, seen.square(), size, (size < self.still).float())]
        halved = F.avg_pool2d(F.pad(grey, (0, CELL) * 2, mode="replicate"), 2)
        edges = [edges_in(*pair) for pair in ((grey, self.sampled), (halved, CELL))]
        means += [e.mean((2, 3)) for e in edges]
        return torch.cat(means, 1), (change != 0).float().mean((1, 2, 3))[:, None]

    def mended(self, images: Tensor, change: Tensor, impulses: Tensor) -> Tensor:
        """Images, what `impulses` gives, and their share (N, 1) -> images in float32."""
        threshold, slope = self.switch.float()
        share = (slope * ((impulses + 1e-6).log() - threshold)).sigmoid()
        return plus_product(images.float(), change, share[:, :, None, None])

    def asked(self, known: Tensor, spectrum: Tensor) -> Tensor:
        """What `known_of` gives and the power spectrum (N, SIDE, SIDE) -> response
        (N, SIDE, SIDE)."""
        into, out = self.asks
        gains = 3 * linear(out, F.leaky_relu(linear(into, known), LEAK))
        gains = (self.most * (gains / self.most).tanh()).expm1()
        bands = wavelets(self.steps, known.device)
        response = (1 + torch.einsum("nb,byx->nyx", gains, bands)) * self.response(spectrum, known)
        return response.clamp(max=STRONGEST)

    def known_of(self, means: Tensor) -> Tensor:
        """What tells blur, noise, large pixels and ragged edges apart (N, known)."""
        means, edges = means.split([means.shape[1] - 4, 4], 1)
        bands, differences = means.unflatten(1, (4, -1)).split(
            [BANDS, means.shape[1] // 4 - BANDS], 2
        )
        mean, deviation = from_moments(*bands[:, :2].unbind(1))
        _, square, size, still = differences.unflatten(2, (2, -1)).mean(3).unbind(1)
        # of noise the highest; the rarer and stronger what there is, the lower
        pairs = (bands[:, 2], deviation), (size, square.clamp(min=1e-12).sqrt())
        sparsity = [((size + 1e-3) / (root + 1e-3)).log() for size, root in pairs]
        known = torch.cat([spectrum_of(mean, deviation), log_amplitude(square)], 1)
        known = torch.cat([known, *(3 * sparse for sparse in sparsity)], 1)
        along, whole = edges.unflatten(1, (2, 2)).unbind(2)
        coherence = (along + 1e-6) / (whole + 1e-6)
        return torch.cat(
            [KNOWN_SCALE * known, 3 * still.mean(1, keepdim=True), 10 * coherence - 8], 1
        )


# What is known of the light of an image: moments of its colours on a grid
FINE = 32  # parts along each side


def colour_moments(bands: Tensor, energy: Tensor) -> Tensor:
    """Bands and their squares (N, 48, h, w) -> means of the colours and of their squares in each
    cell (N, 6, h, w), float32."""
    # an orthonormal transform keeps the sum of squares (Parseval)
    squares = energy.unflatten(1, (3, -1)).mean(2)
    return torch.cat([bands[:, :: CELL**2] / CELL, squares], 1)


def mapped(bands: Tensor, maps: Tensor) -> Tensor:
    """Bands (N, 48, h, w) of colours to which maps of themselves are added: scales and offsets of
    each (N, 6, any, any)."""
    maps = F.interpolate(maps, bands.shape[-2:], mode="bilinear")
    scale, offset = maps[:, :, None].chunk(2, dim=1)
    by_colour = bands.unflatten(1, (3, -1))
    by_colour = plus_product(by_colour, by_colour, scale)
    # an offset is in the mean alone
    return F.pad(offset * CELL, (0, 0, 0, 0, 0, CELL**2 - 1)).add_(by_colour).flatten(1, 2)


def darkest(means: Tensor) -> Tensor:
    """The dark channel: the least of all colours, here and in the parts around (N, 1, h, w)."""
    return -F.max_pool2d(-means.amin(1, keepdim=True), 3, stride=1, padding=1)


def blurred(grid: Tensor, side: int) -> Tensor:
    """Means of so many parts down and across, taken twice: all but a Gaussian."""
    for _ in range(2):
        grid = F.avg_pool2d(grid, side, 1, side // 2, count_include_pad=False)
    return grid


def quantiles(grid: Tensor, *percents: int) -> list[Tensor]:
    """Of all values on a grid (N, C, FINE, FINE), all channels together: (N, 1, 1, 1) each."""
    ordered = grid.flatten(1).sort(1).values
    count = ordered.shape[1]
    return [ordered[:, count * percent // 100, None, None, None] for percent in percents]


class VeilSwitch(nn.Module):
    """Ours: light that was scattered on the way (haze, fog) is taken away by Koschmieder's law.

    How much there is says the dark channel prior (He, Sun and Tang, CVPR 2009), on a coarse grid:
    something is dark around every place of a clear photograph, so what is pale there is the veil.
    Pale things alone are none: the darkest places of the image must be pale too. And a veil takes
    detail with it: an image that has all that a clear one has (falling snow, frost on the pane)
    keeps its contrast. It starts as the identity: nothing is paler than 4.
    """

    share = 0.8  # of the veil that is taken away
    airlight = 0.3  # at least; less light is darkness
    rich = 0.22  # deviation within a part, in the richest tenth of a clear photograph
    least = 0.15  # transmission

    def __init__(self) -> None:
        super().__init__()
        # how pale the darkest tenth is where half of the change is made, and how steeply it comes
        self.switch = nn.Parameter(torch.tensor([4.0, 40.0]))

    def forward(self, colours: Tensor) -> tuple[Tensor, Tensor]:
        """Moments (N, 6, FINE, FINE) -> what to scale the colours by (N, 1, FINE, FINE), and what
        to add then (N, 3, FINE, FINE)."""
        means, squares = colours.chunk(2, dim=1)
        dark = darkest(means)
        tenth, palest = quantiles(dark, 10, 99)
        air = self.air(means, (dark >= palest).float())
        veil = blurred(darkest(means / air), 3)
        threshold, steepness = self.switch.float()
        veil = veil * (steepness * (tenth - threshold)).sigmoid()
        deviation = (squares - means.square()).mean(1, keepdim=True).clamp(min=1e-8).sqrt()
        (richest,) = quantiles(deviation, 90)
        detail = (richest / self.rich).clamp(self.least, 1.0)
        scale = 1 / torch.maximum(1 - self.share * veil, detail)
        return scale, air * (1 - scale)

    def air(self, means: Tensor, palest: Tensor) -> Tensor:
        """The airlight: the mean colour of the parts where the dark channel is the palest, which
        are 1 (N, 1, FINE, FINE), and others 0: (N, 3, 1, 1)."""
        air = (means * palest).sum((2, 3), keepdim=True) / palest.sum((2, 3), keepdim=True)
        return air.clamp(min=self.airlight)


class RangeSwitch(nn.Module):
    """Ours: an image that fills little of the range of pixels is stretched to what others fill.

    Dark photographs, hazy ones and those of low contrast do; most clean ones fill 0.7 or more. One
    map for all colours of an image, as Koschmieder's law of haze and a short exposure ask for. It
    starts as the identity: nothing is narrower than -4.
    """

    fills = 0.83  # of the range, a clean photograph; stretched over all of it recognisers see less
    most = 10.0  # times: what fills a twelfth of the range or less stays narrower

    def __init__(self) -> None:
        super().__init__()
        # the range from which half of the change is made, and how steeply it comes
        self.switch = nn.Parameter(torch.tensor([-4.0, 12.0]))

    def forward(self, means: Tensor) -> Tensor:
        """Means of the colours (N, 3, FINE, FINE) -> scale and offset of pixels (N, 2, 1, 1)."""
        low, high = quantiles(means, 1, 99)  # lamps and specks are outside
        width = high - low
        narrow, steepness = self.switch.float()
        share = (steepness * (narrow - width)).sigmoid()
        scale = (self.fills / width.clamp(min=1e-6)).clamp(1.0, self.most)
        # it lies in what is left of the range as it lay before: dark at the bottom, pale at the top
        left = (1 - scale * width) * low / (1 - width).clamp(min=1e-3)
        return torch.cat([1 + share * (scale - 1), share * (left - scale * low)], 1)


class ShadowSwitch(nn.Module):
    """Ours: a dark image that fills the range all the same is brought to more light where it is
    dark.

    Real scenes in the dark have lamps, windows or a sky, so no map of the whole image stretches
    them. The local means are compressed to the power that would bring the mean of the image to what
    is wanted, and all details keep their share of them (Durand and Dorsey, SIGGRAPH 2002). It
    starts as the identity: no mean is below -4.
    """

    around = 7  # parts down and across, twice: what is local
    wanted = 0.35  # mean
    least = 1 / 3  # exponent
    black = 0.01  # a mean below it is taken for it

    def __init__(self) -> None:
        super().__init__()
        # the mean of the image at which half of the change is made, and how steeply it comes
        self.switch = nn.Parameter(torch.tensor([-4.0, 40.0]))

    def forward(self, means: Tensor) -> Tensor:
        """Means of the colours (N, 3, FINE, FINE) -> what to scale pixels by (N, 1, FINE, FINE)."""
        grey = means.mean(1, keepdim=True)
        mean = grey.mean((2, 3), keepdim=True)
        exponent = math.log(self.wanted) / mean.clamp(self.black, 0.9).log()
        exponent = 1 + self.share(mean) * (exponent.clamp(self.least, 1.0) - 1)
        return blurred(grey, self.around).clamp(self.black, 1.0) ** (exponent - 1)

    def share(self, mean: Tensor) -> Tensor:
        """How dark images with these means are, of the same shape: 0 is not, 1 is."""
        dark, steepness = self.switch.float()
        return (steepness * (dark - mean)).sigmoid()


class ContrastSwitch(nn.Module):
    """Ours: an image that has little contrast anywhere is given more around its local means.

    Fog comes in banks, so it may fill the range, and nothing in it need be dark; but details are
    faint in all of it. Most clean photographs have rich ones somewhere. Where there was noise what
    is left of it would be given contrast, too: there none is. It starts as the identity: no
    deviation is below -4.
    """

    around = 7  # parts down and across, twice: what is local
    rich = 0.3  # deviation to which an image is brought, in its richest tenth
    most = 3.0  # times

    def __init__(self) -> None:
        super().__init__()
        # the deviation at which half of the change is made, and how steeply it comes
        self.switch = nn.Parameter(torch.tensor([-4.0, 120.0]))

    def forward(self, means: Tensor, variances: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        """Of the colours in each part (N, 3, FINE, FINE), and how free of noise images were (N,) ->
        what to scale pixels by (N, 1, 1, 1), and what to add then (N, 3, FINE, FINE)."""
        local = blurred(means, self.around)
        variances = blurred(variances + means.square(), self.around) - local.square()
        deviation = variances.mean(1, keepdim=True).clamp(min=1e-8).sqrt()
        (richest,) = quantiles(deviation, 90)
        poor, steepness = self.switch.float()
        share = clear[:, None, None, None] * (steepness * (poor - richest)).sigmoid()
        scale = 1 + share * ((self.rich / richest).clamp(1.0, self.most) - 1)
        return scale, (1 - scale) * local


def cell_moments(images: Tensor) -> Tensor:
    """`colour_moments` of pixels (N, 3, H, W): (N, 6, H / 4, W / 4)."""
    return F.avg_pool2d(torch.cat([images, images.square()], 1), CELL)


def relit(images: Tensor, maps: Tensor) -> Tensor:
    """Images (N, 3, H, W), and what `Light.maps` gives at each of their pixels (N, 4, H, W)."""
    return plus_product(images + maps[:, 1:], images, maps[:, :1])


class Light(nn.Module):
    """VeilSwitch, RangeSwitch, ShadowSwitch and ContrastSwitch: what is done to the light of an
    image before DNC and E.

    They see moments on the grid alone, so that the pixels are changed once; and each by a map of
    its own, for steps between cells would be edges to a recogniser.
    """

    def __init__(self) -> None:
        super().__init__()
        self.veil_switch, self.range_switch = VeilSwitch(), RangeSwitch()
        self.shadow_switch, self.contrast_switch = ShadowSwitch(), ContrastSwitch()

    def forward(self, images: Tensor, clear: Tensor) -> Tensor:
        """What PixelFilter gives (N, 3, H, W), and how free of noise it was (N,) -> the same in
        another light."""
        with full_precision(images):
            maps = self.maps(resized(cell_moments(images), (FINE, FINE)), clear)
            return relit(images, F.interpolate(maps, images.shape[-2:], mode="bilinear"))

    def maps(self, colours: Tensor, clear: Tensor) -> Tensor:
        """Moments (N, 6, FINE, FINE), and how free of noise images were (N,) -> by how much more
        than 1 to scale the pixels, and what to add to their colours then (N, 4, FINE, FINE)."""
        means, squares = colours.chunk(2, dim=1)
        scale, offset = self.veil_switch(colours)
        stretch, shift = self.range_switch(means * scale + offset).split(1, 1)
        scale, offset = stretch * scale, stretch * offset + shift
        lift = self.shadow_switch(means * scale + offset)
        scale, offset = lift * scale, lift * offset
        variances = (squares - means.square()).clamp(min=0) * scale.square()
        more, local = self.contrast_switch(means * scale + offset, variances, clear)
        return torch.cat([more * scale - 1, more * offset + local], 1)


class PixelDNC(nn.Module):
    """DNC at depth zero, ours: the pixels are normalised and compensated before E sees them.

    What Light leaves of darkness, haze and casts are affine maps of the pixels, of the whole image
    or of a region: both windows have their statistics, and their maps add up. Only the first
    family, light, has a branch: the affine map that brings a noisy image nearest to the clean one
    is a greyer one, which no recogniser wants.
    """

    regions = 8  # along each side

    def __init__(self) -> None:
        super().__init__()
        self.dnc = DNC(6, 1, 24, context=SPECTRUM)  # three colours in each of two windows

    def forward(self, bands: Tensor, energy: Tensor, seen: Tensor, shares: Tensor) -> Tensor:
        """Bands and their squares (N, 48, h, w), spectrum (N, SPECTRUM), branch shares
        (N, branches) -> bands."""
        with full_precision(bands):
            colours = colour_moments(bands, energy)
            around = resized(colours, (self.regions, self.regions))
            whole = colours.mean((2, 3), keepdim=True)
            return mapped(bands, self.maps(whole, around, seen, shares))

    def maps(self, whole: Tensor, around: Tensor, seen: Tensor, shares: Tensor) -> Tensor:
        """What to add: scales and offsets of each colour in each region (N, 6, regions, regions).

        From the moments in the whole image (N, 6, 1, 1) and those in each region.
        """
        # mean, deviation: (N * regions^2, 6)
        statistics = (s.flatten(2).mT.flatten(0, 1) for s in self.statistics(whole, around))
        context = seen.repeat_interleave(self.regions**2, 0)
        scale, offset = self.dnc(*statistics, context)  # (N * regions^2, 1, 6)
        maps = torch.cat([scale - 1, offset], 1).unflatten(2, (2, 3)).sum(2)
        maps = maps.flatten(1).unflatten(0, (-1, self.regions**2)).mT
        return (shares[:, :1, None] * maps).unflatten(2, (self.regions, self.regions))

    def statistics(self, whole: Tensor, around: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the colours, in the whole image and around each region."""
        around = F.avg_pool2d(around, 3, stride=1, padding=1, count_include_pad=False)
        both = torch.stack([whole.expand_as(around), around], 1)
        mean, square = both.unflatten(2, (2, 3)).unbind(2)
        deviation = (square - mean.square()).clamp(min=1e-8).sqrt()
        return mean.flatten(1, 2), deviation.flatten(1, 2)
