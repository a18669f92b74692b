"""Restoring large images in tiles: the same result, and memory that hardly grows with the image.

What the network knows of the whole image (large pixels, what ZoomFilter, MotionFilter,
DefocusFilter and PixelFilter are asked for, how much of streaks is taken away, the maps of Light
and of PixelDNC, spectrum, prior, gate, DNC's statistics) is taken once, over all tiles, and given
to each; a tile sees as far beyond its border as its convolutions reach, and along its rays all of
the image. So a walk passes over the tiles several times, and the convolutions of each pass run
once.
Positions are cells: see `bands`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import motion, streaks
from .bands import (
    CELL,
    bands_of,
    from_moments,
    full_precision,
    image_of,
    log_amplitude,
    moments,
    resized,
    spectrum_of,
)
from .compression import blocking_of, steps_across
from .denoiser import Denoiser
from .front import FINE, cell_moments, colour_moments, mapped, relit, with_blocking
from .ise import Block
from .mosaic import Blocks, blocks_of, interpolated, mosaics, steps_of
from .response import REACH, filtered_by, filtered_with, places, power_spectrum, squares
from .response import SIDE as PROBE
from .restorer import Restorer, changes_of, check_images, degradation_of
from .weather import WeatherFilter
from .zoom import Lengths, along_rays, profiles_in

SIDE = 1024
ABOVE = 4_000_000
# pixels around one from which streaks and impulses are told, and the rest of a cell
BEFORE = -(-(streaks.REACH + 1) // CELL) * CELL


class Tiled(nn.Module):
    """A restorer that takes large images in tiles, within 1/255 of what it gives for the whole.

    Beside the images that come and go, it holds the features (12 bytes a pixel, twice, for "fast")
    and what the network needs for one tile; of an image that is zoomed, moved, out of focus or
    made of large pixels, a copy (12 bytes a pixel). Large images have no gradients.

    Args:
        restorer: of any profile but "paper".
        side: of a tile, in pixels; rounded up to a multiple of the restorer's stride.
        above: images of more pixels are restored in tiles, others at once.
    """

    def __init__(self, restorer: Restorer, *, side: int = SIDE, above: int = ABOVE):
        super().__init__()
        if side < 1 or above < 0:
            raise ValueError(f"expected side >= 1 and above >= 0, came {side} and {above}")
        self.restorer, self.side, self.above = restorer, side, above

    def forward(self, images: Tensor) -> Tensor:
        """As the restorer's.

        Raises:
            TypeError, ValueError: as the restorer does.
            NotImplementedError: a large image for the profile "paper".
        """
        check_images(images)
        if images.shape[-2] * images.shape[-1] <= self.above:
            return self.restorer(images)
        if self.restorer.config.published:
            raise NotImplementedError(
                f"an image of {images.shape[-2]} x {images.shape[-1]} is restored in tiles, which "
                "the published network cannot be: its gate is a Fourier transform of all features "
                "at full size. Use another profile, or a smaller image"
            )
        with torch.no_grad():
            restored = torch.empty_like(images)
            for image, place in zip(images, restored, strict=True):
                Walk(self.restorer, image[None], self.side).restore(place[None])
        return restored


@dataclass(frozen=True)
class Window:
    """A rectangle of cells."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, field: Tensor) -> Tensor:
        """Its part of (N, C, h, w)."""
        return field[..., self.top : self.bottom, self.left : self.right]

    def pixels_of(self, images: Tensor) -> Tensor:
        """Its pixels of (N, 3, H, W), as far as there are any."""
        rows = slice(CELL * self.top, CELL * self.bottom)
        return images[..., rows, CELL * self.left : CELL * self.right]

    @property
    def samples(self) -> int:
        """Every second cell along each side."""
        return -((self.top - self.bottom) // 2) * -((self.left - self.right) // 2)

    def widened(self, reach: int, size: tuple[int, int]) -> "Window":
        """With `reach` more on each side, as far as there is anything."""
        top, left = max(self.top - reach, 0), max(self.left - reach, 0)
        return Window(
            top, left, min(self.bottom + reach, size[0]), min(self.right + reach, size[1])
        )

    def aligned(self, cells: int, size: tuple[int, int]) -> "Window":
        """Out to multiples of so many cells, as far as there is anything."""
        top, left = self.top // cells * cells, self.left // cells * cells
        bottom, right = (-(-end // cells) * cells for end in (self.bottom, self.right))
        return Window(top, left, min(bottom, size[0]), min(right, size[1]))

    def within(self, wide: "Window") -> "Window":
        """Where it lies in a wider one."""
        return Window(
            self.top - wide.top,
            self.left - wide.left,
            self.bottom - wide.top,
            self.right - wide.left,
        )


def together(probes: Sequence[Tensor]) -> Tensor:
    """As `response.windows_of` gives them, of parts (1, 3, h, w) that may end with the image:
    (1, count, 3, PROBE, PROBE)."""
    filled = [F.pad(p, (0, PROBE - p.shape[3], 0, PROBE - p.shape[2]), "replicate") for p in probes]
    return torch.stack(filled, 1)


def reach_of(block: Block) -> int:
    """How many cells around a position its local features depend on, at the most.

    The sum of what the unit's convolutions reach, each at its level's scale, and of the offset
    within a position of the deepest level; a multiple of that level's scale, on which tiles must
    begin.
    """
    if block.unit is None:
        return 0
    levels = len(block.unit.down)
    deepest = int(2**levels)
    reach = 2 + sum(2**level + 2 * 2 ** (level + 1) for level in range(levels)) + deepest - 1
    return int(-(-reach // deepest) * deepest)


def averaging(start: int, stop: int, size: int, grid: int, like: Tensor) -> Tensor:
    """What positions start ... stop of a side give to each average on a grid: (grid, positions)."""
    units = torch.eye(stop - start, device=like.device)
    units = F.pad(units, (start, size - stop))[None, None]
    return resized(units, (stop - start, grid))[0, 0].T


def spreading(start: int, stop: int, size: int, grid: int, like: Tensor) -> Tensor:
    """What the pixels of positions start ... stop of a side get of what is on a grid, as
    `F.interpolate` has it: (pixels, grid)."""
    units = torch.eye(grid, device=like.device)[None, None]
    rows = F.interpolate(units, (CELL * size, grid), mode="bilinear")[0, 0]
    return rows[CELL * start : CELL * stop]


class Walk:
    """One image (1, 3, H, W) on its way through a restorer, tile by tile."""

    def __init__(self, restorer: Restorer, image: Tensor, side: int):
        self.restorer, self.image, self.came, self.scene = restorer, image, image, image
        self.side = side
        # PixelFilter's statistics are of every second cell
        multiple = math.lcm(restorer.stride, restorer.pixel_filter.sampled, WeatherFilter.stride)
        step = -(-side // multiple) * multiple // CELL
        height, width = (
            -(-n // restorer.stride) * restorer.stride // CELL for n in image.shape[2:]
        )
        self.size = (height, width)
        self.windows = [
            Window(top, left, min(top + step, height), min(left + step, width))
            for top in range(0, height, step)
            for left in range(0, width, step)
        ]

    @property
    def whole(self) -> Lengths:
        """In pixels, as far as it is worked on."""
        height, width = (torch.tensor(CELL * n, device=self.image.device) for n in self.size)
        return height, width

    def restore(self, place: Tensor) -> None:
        """Write what `Restorer.forward` gives into a tensor like the image."""
        with full_precision(self.image):
            covered = self.see_cover()
            self.image = self.scene = self.uncovered(covered)
            self.image = self.without_mosaic()
            self.zoom = self.restorer.zoom_filter.gains(profiles_in(self.image, self.whole))
            self.image = self.without_zoom()
            self.image = self.without_blur(self.restorer.motion_filter)
            self.image = self.without_blur(self.restorer.defocus_filter)
            self.streaks = self.restorer.streak_filter.share(self.see_streaks())
            means, self.impulses = self.see_impulses()
            self.blocking = blocking_of(self.see_steps())
            known = self.restorer.pixel_filter.known_of(means)
            self.response = self.restorer.pixel_filter.asked(known, self.see_power(known))
        self.lighting = self.see_light(known)
        amplitude, seen = self.see_pixels()
        shares, bypass = self.prior.softmax(1), self.restorer.config.bypass
        told = self.restorer.worth.told(known, seen, self.prior, self.changes, self.zoom)
        worth = self.restorer.worthy(told, known)
        if bypass and bool(degradation_of(shares, self.changes, worth) < bypass):
            left = self.scene if bool(covered >= bypass) else self.came
            place.copy_(left[..., : place.shape[2], : place.shape[3]])
            return
        for window, pixels in self.restored(amplitude, seen, shares):
            target = place[..., CELL * window.top :, CELL * window.left :]
            target = target[..., : pixels.shape[2], : pixels.shape[3]]
            target.copy_(pixels[..., : target.shape[2], : target.shape[3]].clamp(0, 1))

    def restored(
        self, amplitude: Tensor, seen: Tensor, shares: Tensor
    ) -> Iterator[tuple[Window, Tensor]]:
        """The pixels (1, 3, 4 h, 4 w) of each window, as `Restorer.restored` has them."""
        needed = self.restorer.needed(shares)
        if not bool(needed):
            for window in self.windows:
                yield window, self.given(window)
            return
        features, gate = self.see_features(amplitude)
        enhanced = features
        for block in self.restorer.ise.blocks:
            enhanced = self.enhance(block, enhanced, gate, seen)  # type: ignore[arg-type]
        for window, bands in self.decoded(features, enhanced):
            pixels = image_of(self.restorer.gains(bands, shares, seen))
            yield window, torch.lerp(self.given(window), pixels.float(), needed)

    def see_cover(self) -> Tensor:
        """How much of what lies over the scene is taken away (1,)."""
        weather = self.restorer.weather_filter
        if weather is None:
            return torch.zeros(1, device=self.image.device)
        told, cells = torch.zeros(()), weather.stride // CELL
        for window in self.windows:
            wide, within = self.covering(window)
            coarse = weather.told(weather.seen(self.sharp(wide))[-1])
            ends = (-(-within.bottom // cells), -(-within.right // cells))
            inside = Window(within.top // cells, within.left // cells, *ends)
            told = told + inside.of(coarse).sum((2, 3))
        height, width = (-(-n // cells) for n in self.size)
        share: Tensor = weather.share(told / (height * width))
        if not bool(share):
            return share
        streaks = self.restorer.streak_filter.share(self.see_streaks())
        return torch.where(mosaics(*self.blocks()), 0.0, share * (1 - streaks))

    def uncovered(self, share: Tensor) -> Tensor:
        """The image; if something is taken away that lies over the scene, a copy without that
        share of it, in whole cells."""
        weather = self.restorer.weather_filter
        if not bool(share):
            return self.image
        made = self.image.new_empty(1, 3, *(CELL * n for n in self.size), dtype=torch.float32)
        for window in self.windows:
            wide, within = self.covering(window)
            pixels = self.sharp(wide)
            change = within.pixels_of(weather.change(*weather.seen(pixels)))
            scene = within.pixels_of(pixels) + share * change
            window.pixels_of(made).copy_(scene.clamp(0, 1))
        return made

    def covering(self, window: Window) -> tuple[Window, Window]:
        """All that WeatherFilter reaches from a window, and where in it that lies."""
        wide = window.widened(WeatherFilter.reach // CELL, self.size)
        return wide, window.within(wide)

    def blocks(self) -> tuple[Blocks, Blocks]:
        """Those of the image that are equal, across and down."""
        height, width = (CELL * n for n in self.size)
        return self.blocks_in(self.image, width), self.blocks_in(self.image.mT, height)

    def without_mosaic(self) -> Tensor:
        """The image; if it is made of large pixels, a copy without them, in whole cells."""
        across, down = self.blocks()
        found = mosaics(across, down)
        if not bool(found):
            return self.image
        wide = torch.cat([interpolated(s, across, found) for s in self.strips(self.image)], 2)
        return torch.cat([interpolated(s, down, found) for s in self.strips(wide.mT)], 2).mT

    def without_zoom(self) -> Tensor:
        """The image; if it is zoomed, a copy that is not, in whole cells."""
        if not bool(self.zoom.any()):
            return self.image
        grey = self.exact(self.image).mean(1, keepdim=True)
        height, width = (torch.arange(CELL * n, device=grey.device) for n in self.size)
        made = []
        for rows in height.split(self.side):
            pixels = self.image
            for side, at in ((2, rows), (3, width)):
                pixels = pixels.index_select(side, at.clamp(max=pixels.shape[side] - 1))
            pixels = self.exact(pixels)
            change = along_rays(grey, (rows, width), self.whole, self.zoom)
            made.append(pixels + change - pixels.mean(1, keepdim=True))
        return torch.cat(made, 2)

    def without_blur(self, inverse: motion.InverseFilter) -> Tensor:
        """The image; if it is blurred as this filter takes back, a copy that is not, in whole
        cells."""
        windows = motion.windows_in(self.squares_at(motion.moving_places))
        seen = inverse.seen_in(windows.spectrum, self.whole)
        if not bool(seen.share.any()):
            return self.image
        kernels = inverse.kernels(windows.planes, seen)
        height, width = self.size
        reach = -(-inverse.reach // CELL)
        made = self.image.new_empty(1, 3, CELL * height, CELL * width, dtype=torch.float32)
        for window in self.windows:
            wide = window.widened(reach, self.size)
            # repeated where the image ends alone: what is beyond that is not seen
            pixels = F.pad(self.sharp(wide), (inverse.reach,) * 4, mode="replicate")
            within = window.within(wide)
            filtered = filtered_with(pixels, kernels)
            window.pixels_of(made).copy_(within.pixels_of(filtered))
        return made

    def squares_at(self, placed: Callable[[int, torch.device], Tensor]) -> Tensor:
        """The squares of the image that lie where `placed` says, by the length of a side."""
        sides = zip(self.size, self.image.shape[2:], strict=True)
        rows, columns = (
            placed(CELL * cells, self.image.device).clamp(max=side - 1) for cells, side in sides
        )
        return self.exact(squares(self.image, rows, columns))

    def exact(self, pixels: Tensor) -> Tensor:
        """Some of the image's in float32; those that came were rounded to the weights' precision,
        others are of a copy."""
        return self.rounded(pixels) if self.image is self.came else pixels.float()

    def rounded(self, pixels: Tensor) -> Tensor:
        """As the restorer sees those that came, in float32."""
        return pixels.to(self.restorer.dtype).float()

    def blocks_in(self, planes: Tensor, length: int) -> Blocks:
        """Of the columns of planes, of which so many are worked on: the last one is repeated."""
        steps = torch.stack([steps_of(strip) for strip in self.strips(planes)]).amax(0)
        return blocks_of(F.pad(steps, (0, length - planes.shape[3])))

    def strips(self, planes: Tensor) -> Iterator[Tensor]:
        """All of planes, some rows at a time, in float32."""
        return (self.exact(strip) for strip in planes.split(self.side, 2))

    def see_streaks(self) -> Tensor:
        """The means of StreakFilter's signs."""
        signs = torch.zeros(())
        for window in self.windows:
            wide = window.widened(-(-streaks.REACH // CELL), self.size)
            part = self.restorer.streak_filter.signs(self.sharp(wide))
            signs = signs + self.share(window) * window.within(wide).of(part).mean((2, 3))
        return signs

    def see_impulses(self) -> tuple[Tensor, Tensor]:
        """PixelFilter's statistics, and the share of impulses."""
        pixel_filter = self.restorer.pixel_filter
        means = impulses = torch.zeros(())
        for window in self.windows:
            within, pixels = self.pixels_around(window)
            change = within.pixels_of(pixel_filter.impulses(pixels))
            part, share = pixel_filter.statistics(within.pixels_of(pixels), change)
            means = means + window.samples / Window(0, 0, *self.size).samples * part
            impulses = impulses + self.share(window) * share
        return means, impulses

    def see_steps(self) -> Tensor:
        """What `steps_in` gives: tiles begin at whole blocks, and see a cell beyond their end."""
        steps = torch.zeros(())
        for window in self.windows:
            wide = window.widened(1 + -(-streaks.REACH // CELL), self.size)
            top, left, bottom, right = (CELL * n for n in astuple(window.within(wide)))
            grey = self.without_streaks(self.sharp(wide)).mean(1, keepdim=True)
            across, down = grey[..., top:bottom, left : right + 1], grey[..., left:right].mT
            down = down[..., top : bottom + 1]
            steps = steps + torch.stack([steps_across(across), steps_across(down)], 1)
        return steps

    def see_power(self, known: Tensor) -> Tensor:
        """The power spectrum of what PixelFilter leaves of impulses and noise; what it takes for
        noise is kept."""
        noise = self.restorer.pixel_filter.noise_filter
        # a small tile each: all that is mended from here on is told by what is near
        around = [self.pixels_around(window) for window in self.probes()]
        seen = [(within, self.without_impulses(pixels)) for within, pixels in around]
        levels = noise.levels(together([within.pixels_of(part) for within, part in seen]))
        self.noise = with_blocking(levels, noise.share(known), self.blocking)
        mended = [within.pixels_of(self.without_noise(part)) for within, part in seen]
        return power_spectrum(together(mended))

    def probes(self) -> list[Window]:
        """Where `response.windows_of` looks, as far as there is anything."""
        firsts = (places(CELL * cells, self.image.device)[:, 0] // CELL for cells in self.size)
        found = []
        for top, left in product(*(first.tolist() for first in firsts)):
            ends = (at + PROBE // CELL for at in (top, left))
            bottom, right = (min(end, cells) for end, cells in zip(ends, self.size, strict=True))
            found.append(Window(top, left, bottom, right))
        return found

    def see_light(self, known: Tensor) -> Tensor:
        """The maps that change the light of the image, on the grid."""
        colours = torch.zeros(())
        for window in self.windows:
            part = cell_moments(self.filtered(window))
            colours = colours + self.on_grid(part, window, FINE)
        with full_precision(colours):
            clear = self.restorer.pixel_filter.clear(known)
            maps: Tensor = self.restorer.light.maps(colours, clear)
            return maps

    def see_pixels(self) -> tuple[Tensor, Tensor]:
        """Local amplitudes and spectrum of the image; PixelDNC's maps, the prior and what was
        changed so far are kept."""
        fgm, pixel_dnc = self.restorer.ise.fgm, self.restorer.pixel_dnc
        energy = statistics = whole = around = self.changes = torch.zeros(())
        for window in self.windows:
            filtered = self.filtered(window)
            lit = self.lit(filtered, window)
            bands = bands_of(lit)
            changes = changes_of(self.padded(window), filtered, lit)
            self.changes = self.changes + self.share(window) * changes
            squares = bands.square()
            colours = colour_moments(bands, squares)
            energy = energy + self.on_grid(squares, window, fgm.grid)
            means = torch.stack([bands.mean((2, 3)), squares.mean((2, 3))])
            statistics = statistics + self.share(window) * means
            whole = whole + self.share(window) * colours.mean((2, 3), keepdim=True)
            around = around + self.on_grid(colours, window, pixel_dnc.regions)
        seen = spectrum_of(*from_moments(*statistics))
        amplitude = log_amplitude(energy)
        with full_precision(amplitude):
            self.prior = fgm.prior(seen)
            maps = pixel_dnc.maps(whole, around, seen, self.prior.softmax(1))
        self.maps = self.everywhere(maps)
        return amplitude, seen

    def see_features(self, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """E's features and FGM's gate."""
        encoder, fgm = self.restorer.encoder, self.restorer.ise.fgm
        features, small = self.empty(self.restorer.config.channels), torch.zeros(())
        for window in self.windows:
            part = window.of(features)
            part.copy_(self.around(window, 1, lambda wide: encoder(self.bands(wide))))
            small = small + self.on_grid(part.float(), window, fgm.grid)
        # on its own grid, resampling to the grid changes nothing
        gate = fgm(small, amplitude, self.prior)
        return features, self.everywhere(gate)

    def enhance(self, block: Block, features: Tensor, gate: Tensor, seen: Tensor) -> Tensor:
        """What `Block.forward` gives: the features as the unit leaves them, then mixed in place."""
        made, statistics = self.empty(features.shape[1]), torch.zeros(())
        shares, reach = gate.mean((2, 3)), reach_of(block)
        for window in self.windows:
            part = window.of(made)
            unit = self.around(
                window, reach, lambda wide: block.local(wide.of(features), shares, seen)
            )
            part.copy_(unit)
            statistics = statistics + self.share(window) * torch.stack(moments(part))
        values = block.values(*from_moments(*statistics), seen)
        for window in self.windows:
            part = window.of(made)
            part.copy_(block.mixed(window.of(features), part, window.of(gate), values))
        return made

    def decoded(self, features: Tensor, enhanced: Tensor) -> Iterator[tuple[Window, Tensor]]:
        """The restored bands (1, 48, h, w) of each window."""
        decoder, skip = self.restorer.decoder, self.restorer.config.skip

        def decode(wide: Window) -> Tensor:
            change = wide.of(enhanced) - wide.of(features) if skip else wide.of(enhanced)
            return decoder(change)

        for window in self.windows:
            bands = self.around(window, 1, decode)
            yield window, self.bands(window) + bands if skip else bands

    def around(self, window: Window, reach: int, local: Callable[[Window], Tensor]) -> Tensor:
        """A window of what a local function gives for a window and all that it reaches."""
        wide = window.widened(reach, self.size)
        return window.within(wide).of(local(wide))

    def given(self, window: Window) -> Tensor:
        """Pixels (1, 3, 4 h, 4 w) of the image as PixelFilter leaves it, in another light."""
        return self.lit(self.filtered(window), window)

    def lit(self, pixels: Tensor, window: Window) -> Tensor:
        """The pixels of a window in another light."""
        with full_precision(pixels):
            down = spreading(window.top, window.bottom, self.size[0], FINE, pixels)
            across = spreading(window.left, window.right, self.size[1], FINE, pixels)
            return relit(pixels, down @ self.lighting @ across.T)

    def filtered(self, window: Window) -> Tensor:
        """Pixels (1, 3, 4 h, 4 w) as PixelFilter leaves them."""
        with full_precision(self.image):
            within, pixels = self.pixels_around(window)
            mended = self.without_noise(self.without_impulses(pixels))
            wide = F.pad(mended, (REACH,) * 4, mode="replicate")
            return within.pixels_of(filtered_by(wide, self.response))

    def pixels_around(self, window: Window) -> tuple[Window, Tensor]:
        """All that PixelFilter reaches from a window, without streaks, and where in it the window
        lies."""
        around = BEFORE + self.restorer.pixel_filter.around + REACH
        # the Denoiser's positions are to be those that they are in the whole image
        cells = Denoiser.stride // CELL
        wide = window.widened(-(-around // CELL), self.size).aligned(cells, self.size)
        return window.within(wide), self.without_streaks(self.sharp(wide))

    def sharp(self, wide: Window) -> Tensor:
        """The pixels of a window without large pixels and zoom blur, in float32."""
        if self.image is self.scene:
            return self.padded(wide)
        return wide.pixels_of(self.image)

    def without_streaks(self, images: Tensor) -> Tensor:
        restored: Tensor = self.restorer.streak_filter.mended(images, self.streaks)
        return restored

    def without_impulses(self, images: Tensor) -> Tensor:
        pixel_filter = self.restorer.pixel_filter
        restored: Tensor = pixel_filter.mended(images, pixel_filter.impulses(images), self.impulses)
        return restored

    def without_noise(self, images: Tensor) -> Tensor:
        restored: Tensor = self.restorer.pixel_filter.without_noise(images, *self.noise)
        return restored

    def padded(self, wide: Window) -> Tensor:
        """Its pixels of the scene, in float32; the edge is repeated as `Restorer.padded` does."""
        part = wide.pixels_of(self.scene)
        part = self.rounded(part) if self.scene is self.came else part
        below = CELL * (wide.bottom - wide.top) - part.shape[2]
        right = CELL * (wide.right - wide.left) - part.shape[3]
        return F.pad(part, (0, right, 0, below), mode="replicate")

    def bands(self, window: Window) -> Tensor:
        """Bands (1, 48, h, w) of the same as PixelDNC leaves them."""
        with full_precision(self.maps):
            bands = mapped(bands_of(self.given(window)), window.of(self.maps))
            return bands.to(self.restorer.dtype)

    def everywhere(self, coarse: Tensor) -> Tensor:
        """On a grid (1, C, any, any) -> at every position."""
        return F.interpolate(coarse, self.size, mode="bilinear")

    def share(self, window: Window) -> float:
        """Of the image that the window has."""
        area = (window.bottom - window.top) * (window.right - window.left)
        return area / (self.size[0] * self.size[1])

    def on_grid(self, part: Tensor, window: Window, grid: int) -> Tensor:
        """What a window's part adds to the averages of the whole on a grid, as `resized` has it."""
        with full_precision(part):
            down = averaging(window.top, window.bottom, self.size[0], grid, part)
            across = averaging(window.left, window.right, self.size[1], grid, part)
            return down @ part.float() @ across.T

    def empty(self, channels: int) -> Tensor:
        """For features of the whole image."""
        return torch.empty(
            (1, channels, *self.size),
            dtype=self.restorer.dtype,
            device=self.image.device,
            memory_format=torch.channels_last,
        )
