"""Losses of the stages: tensors in, a scalar out."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FINE = 0.2  # cycles in a pixel: detail that is finer
COHERENT, BETWEEN = 0.4, (0.14, 0.3)  # what detail of so many cycles must be, of 1, or it is lost
LEAST = 0.1  # of a frequency that is kept
WIENER = 0.25  # share of Wiener's filter in what a response is to be
ROUNDING = 1e-7  # about the power of rounding to 8 bits
ALLOWED, FAINT = 3e-3, 0.03  # in the inverse of a move: noise, of power; the least amplitude
SHARP = 0.1  # pixels; how well the radius of a disc is to be told
UNSURE = 0.05  # divergence of answers that are as good as the same
CARE = 2.0  # what weight a change has that mends nothing
DARE = 0.05  # the least share of its error that an image must lose for a change to be worth it


def pixel_loss(restored: Tensor, clean: Tensor, weights: Tensor | None = None) -> Tensor:
    """L1 over pixels; each image's by its weight (N,)."""
    if weights is None:
        return F.l1_loss(restored, clean)
    return ((restored - clean).abs().mean((1, 2, 3)) * weights).mean()


def filter_loss(filtered: Tensor, degraded: Tensor, clean: Tensor, filterable: Tensor) -> Tensor:
    """What a filter leaves of the squared error, where all that was done can be filtered; how far
    it moves an image, in deviations of its finest detail, where nothing can. Where both came
    together it is free. `filterable` (N,) is the share of the kinds of degradations that can be.
    """
    left, before = (squared(images - clean) for images in (filtered, degraded))
    detail = degraded - F.avg_pool2d(degraded, 3, 1, 1)
    moved = (squared(filtered - degraded) / (squared(detail) + 1e-5) + 1e-4).sqrt()
    return filtering(left / (before + 1e-5), moved, filterable)


def change_of(before: Tensor, after: Tensor, clean: Tensor) -> Tensor:
    """The logarithm of the share of its squared error that an image (3, H, W) keeps where `after`
    is taken for `before`, (N,). What is evenly wrong in squares of 8 pixels is not counted."""
    wrong = [images - clean for images in (before, after)]
    first, second = (squared(error) - squared(F.avg_pool2d(error, 8)) for error in wrong)
    # errors of less than 30 dB are seen by nobody
    return (second + 1e-3).log() - (first + 1e-3).log()


def choice_loss(chance: Tensor, change: Tensor) -> Tensor:
    """What is to be expected of a change (N,) that is made by chances (N,)."""
    change = torch.where(change > 0, CARE * change, change) + DARE
    return (chance * change).mean()


def worth_loss(chance: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Cross entropy of chances (N,) with whether a recogniser's `divergence` is less after than
    before (N,), each image's by the logarithm of how many times: then a chance is over a half where
    on the whole more is gained than lost."""
    change = (after + UNSURE).log() - (before + UNSURE).log()
    better = (change < 0).to(chance.dtype)
    return F.binary_cross_entropy(chance, better, change.abs())


def uncovered_loss(scene: Tensor, degraded: Tensor, beneath: Tensor) -> Tensor:
    """What is left of the error of images (N, 3, H, W), H and W divisible by 8, when what lay over
    the scene is taken away; details count more than the means of 8x8 pixels, which nothing but a
    guess brings back."""

    def errors(images: Tensor) -> tuple[Tensor, Tensor]:
        error = images - beneath
        means = F.avg_pool2d(error, 8)
        details = error - F.interpolate(means, scale_factor=8, mode="nearest")
        return details.abs().mean((1, 2, 3)), means.abs().mean((1, 2, 3))

    (details, means), (details_before, means_before) = errors(scene), errors(degraded)
    return (details / (details_before + 0.02) + 0.3 * means / (means_before + 0.05)).mean()


def filtering(left: Tensor, moved: Tensor, filterable: Tensor) -> Tensor:
    """Of each image (N,): the share of the error that is left, how far it was moved, and what share
    of the degradations can be filtered."""
    # an image to which hardly anything was done must not outweigh all others
    wrong = torch.where(filterable == 1, 5 * left, moved).clamp(max=10)
    return (wrong * ((filterable == 0) | (filterable == 1))).mean()


def response_loss(response: Tensor, wanted: Tensor, power: Tensor, filterable: Tensor) -> Tensor:
    """`filter_loss` of a frequency response (N, h, w), by the power of what it is for (N, h, w):
    how far its logarithm is from the `response_target`, each distance from frequency zero as
    important as any other."""
    frequency = frequencies(response)
    weights = (frequency > 0) / frequency.clamp(min=1 / len(frequency))  # the mean always stays
    left, before = (
        (difference.square() * weights).mean((1, 2)) / weights.mean()
        for difference in (response.clamp(min=LEAST).log() - wanted, wanted)
    )
    moved = ((response - 1).square() * power).mean((1, 2))
    moved = moved / (((frequency > FINE) * power).mean((1, 2)) + 1e-6)
    return filtering(left / (before + 0.05), CARE * (moved + 1e-4).sqrt(), filterable)


def frequencies(planes: Tensor) -> Tensor:
    """Of each place of square planes (..., n, n) as FFT2 has them, cycles a pixel (n, n)."""
    along = torch.fft.fftfreq(planes.shape[-1], device=planes.device)
    return (along[:, None].square() + along.square()).sqrt()


def response_target(degraded: Tensor, clean: Tensor, strongest: float) -> tuple[Tensor, Tensor]:
    """Windows (N, count, h, w) of both images -> the logarithm of the `wanted_response`, but for
    what is over the strongest that there may be; and the power of the degraded one: (N, h, w)."""
    wanted, given = (torch.fft.fft2(windows, norm="ortho") for windows in (clean, degraded))
    cross = (wanted * given.conj()).mean(1)
    clean_power, power = (torch.view_as_real(f).square().sum(4).mean(1) for f in (wanted, given))
    best = wanted_response(cross, clean_power, power, frequencies(power))
    return best.clamp(LEAST, strongest).log(), power


def rays_target(degraded: Tensor, clean: Tensor) -> Tensor:
    """The logarithm of what frequencies along the rays of degraded images are to be multiplied by
    (N, bins), by the logarithms of the power along rays and across them, (N, 2, parts, bins), of
    both images: how much more of the former is gone than of the latter.

    What a degradation takes of all directions others give back.
    """
    gone = clean[:, :, 0] - degraded[:, :, 0]
    target: Tensor = (gone[:, 0] - gone[:, 1]) / 2
    return target


def move_target(sharp: Tensor, angle: Tensor, kernels: Tensor, noise: Tensor) -> Tensor:
    """The logarithms of what kernels (N, K, K) leave of the amplitudes along their angles (N,), and
    of Wiener's filter for them, (N, 2 bins): by the logarithms of the power of the clean luminance
    in each direction (N, angles, bins), and by the deviation of the noise in each colour (N,)."""
    angles, bins = sharp.shape[1:]
    steps = torch.arange(kernels.shape[-1], device=sharp.device) - kernels.shape[-1] // 2
    x, y = (turn[:, None, None] for turn in (angle.cos(), angle.sin()))
    way = (steps * x + steps[:, None] * y).flatten(1)[:, None]
    turns = torch.arange(1, bins + 1, device=sharp.device)[:, None] * (math.pi / bins) * way
    parts = ((kernels.flatten(1)[:, None] * wave).sum(2) for wave in (turns.cos(), turns.sin()))
    left = torch.stack(list(parts)).square().sum(0)  # of the power
    nearest = (angle * (angles / math.pi)).round().long().remainder(angles)
    power = sharp[torch.arange(len(sharp), device=sharp.device), nearest].exp()
    # a Hann window keeps 3/8 of a power, along each side; the luminance is a mean of three colours
    allowed = ALLOWED + (3 / 8) ** 2 * noise.square()[:, None] / 3 / power
    gains = left.sqrt() / (left + allowed)
    return torch.cat([left.sqrt().clamp(min=FAINT).log(), gains.clamp(min=FAINT).log()], 1)


def disc_loss(scores: Tensor, radius: Tensor, radii: Tensor, wholes: Tensor) -> Tensor:
    """Cross entropy of a disc's radius in pixels (N,), a whole number if it is made of whole pixels
    and 0 if there is none, with scores of each of the radii of smooth ones, of those of wholes, and
    of none (N, discs + 1); what lies between two radii counts for both."""
    near = torch.exp(-((radius[:, None] - radii) / SHARP).square() / 2)
    near = near / near.sum(1, keepdim=True).clamp(min=1e-6) * (radius != radius.round())[:, None]
    exact = torch.cat([wholes, wholes.new_zeros(1)]) == radius[:, None]
    target = torch.cat([near, exact.to(near.dtype)], 1)
    return -(target * scores.log_softmax(1)).sum(1).mean()


def move_loss(
    scores: Tensor, along: Tensor, angle: Tensor, wanted: Tensor, moved: Tensor
) -> Tensor:
    """Cross entropy of the direction (N, angles + 1), the last score that of no move; and, where
    there is one, the squared error of what is found along it: (N, angles, 2 bins) against
    (N, 2 bins). A short move counts less, down to none at all."""
    angles, bins = along.shape[1], along.shape[2] // 2
    place = angle * (angles / math.pi)
    off = torch.arange(angles, device=scores.device) - place[:, None]
    off = (off + angles / 2).remainder(angles) - angles / 2
    near = torch.exp(-off.square() / 2)
    weight = (4 * -wanted[:, : bins // 2].mean(1)).clamp(0, 1) * moved
    near = near / near.sum(1, keepdim=True) * weight[:, None]
    target = torch.cat([near, 1 - weight[:, None]], 1)
    chosen = -(target * scores.log_softmax(1)).sum(1).mean()
    nearest = place.round().long().remainder(angles)
    found = along[torch.arange(len(along), device=along.device), nearest]
    error = 2 * (found - wanted).square().mean(1) * weight
    return chosen + error.sum() / weight.sum().clamp(min=1)


def wanted_response(cross: Tensor, clean: Tensor, power: Tensor, frequency: Tensor) -> Tensor:
    """What each frequency is best multiplied by, by the cross spectrum X (N, h, w) of the clean
    image and the degraded one, and by the power of both, S and P.

    Wiener's filter, X / P, comes nearest in pixels. Recognisers see more in an image that has the
    amplitudes of a clean one, sqrt(S / P) (power spectrum equalisation); so it is a geometric mean
    of both (Andrews and Hunt, Digital Image Restoration, 1977), mostly the latter. Where detail is
    not coherent any more, as behind rough glass, it is Wiener's.
    """
    between = ((frequency > BETWEEN[0]) & (frequency <= BETWEEN[1])).float()
    wiener, equal = cross / (power + ROUNDING), (clean / (power + ROUNDING)).sqrt()
    coherence = cross.abs() / ((clean * power).sqrt() + ROUNDING)
    coherence = (coherence * between).sum((1, 2)) / between.sum()
    mean = wiener.abs() ** WIENER * equal ** (1 - WIENER)
    return torch.where((coherence > COHERENT)[:, None, None], mean, wiener.real)


def squared(images: Tensor) -> Tensor:
    """Mean square of each image (N,)."""
    return images.square().mean((1, 2, 3))


def semantic_loss(restored: Tensor, clean: Tensor) -> Tensor:
    """L_sem = 1 - cos(GMP(f^), GMP(E(c))), features (N, C, h, w), global max pooling."""
    given, wanted = (features.amax((2, 3)).float() for features in (restored, clean))
    return 1 - F.cosine_similarity(given, wanted).mean()


def similarity(images: Tensor, clean: Tensor) -> Tensor:
    """Cosine of the mean-removed pixels with those of the clean images: (N,)."""
    given, wanted = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (images, clean))
    return F.cosine_similarity(given, wanted)


def ranking_loss(from_clean: Tensor, from_degraded: Tensor, clean: Tensor) -> Tensor:
    """Rebuilt from clean features must resemble the clean image more than rebuilt from degraded.

    relu(m - (s(y_c, c) - s(y_d, c))), m = 0.05: our repair of the published form, which compares
    the two with different targets, is 1 at perfect reconstruction and rewards bad rebuilding.
    """
    gap = similarity(from_clean, clean) - similarity(from_degraded, clean)
    return F.relu(0.05 - gap).mean()


def gate_loss(gate: Tensor, branch: Tensor) -> Tensor:
    """Cross entropy of a gate (N, branches, h, w) with the wanted shares (N, branches)."""
    return -(branch * gate.clamp(min=1e-6).log().mean((2, 3))).sum(1).mean()


def feature_distance(features: Tensor, target: Tensor) -> Tensor:
    """1 - cos over channels, mean over positions, features (N, C, h, w): (N,)."""
    return 1 - F.cosine_similarity(features.float(), target.float(), dim=1).mean((1, 2))


def limited(images: Tensor, most: Tensor) -> None:
    """From now on each image's share of the gradient is at most `most` (N,) times that of L1.

    What a recogniser wants of a pixel is hundreds of times what L1 wants, and for a blurred image
    ten times what it is for a noisy one: unlimited, the blurred ones alone decide what is learnt.
    """
    if images.requires_grad:
        # of the mean over all pixels of a batch: a norm of 1 / (N sqrt(pixels)) an image
        bound = most / (len(images) * images[0].numel() ** 0.5)
        images.register_hook(lambda gradient: shortened(gradient, bound))


def shortened(gradient: Tensor, bound: Tensor) -> Tensor:
    """Each image's gradient (N, 3, H, W), no longer than its bound (N,) in Euclidean norm."""
    norm = gradient.float().flatten(1).norm(dim=1)
    return gradient * (bound / norm.maximum(bound)).view(-1, 1, 1, 1).to(gradient.dtype)


def consistency_loss(restored: Sequence[Tensor], clean: Sequence[Tensor]) -> Tensor:
    """What a frozen recogniser makes of restored against clean images, without labels: (N,).

    Of its features, as `Teacher` returns them, the coarsest by `feature_distance`, and its logits
    (N, K) by the Kullback-Leibler divergence KL(clean || restored). The finer ones want all noise
    gone, and detail with it.
    """
    return feature_distance(restored[-2], clean[-2]) + divergence(restored[-1], clean[-1])


def divergence(restored: Tensor, clean: Tensor) -> Tensor:
    """KL(clean || restored) of logits (N, K): (N,)."""
    given, wanted = (logits.float().log_softmax(1) for logits in (restored, clean))
    return F.kl_div(given, wanted, log_target=True, reduction="none").sum(1)
