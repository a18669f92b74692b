"""Ours beside the published code, where that still runs: `pip install imagecorruptions`.

Not part of the test dependencies: it is unseeded, slow, and in part broken on current numpy and
scikit-image. What it cannot do any more is skipped.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from vrdir_plug.corruptions import CORRUPTIONS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    published = pytest.importorskip(
        "imagecorruptions", reason="opt-in: pip install imagecorruptions"
    )
pytestmark = pytest.mark.filterwarnings("ignore")

# frost is drawn instead of photographed; the package has other elastic parameters than ImageNet-C
DEVIATING = {"frost", "elastic_transform"}
RANDOM = ("noise", "motion", "snow", "spatter", "fog", "glass")
LEVELS = np.ascontiguousarray(astronaut()[:224, 100:324])
SEEDS = range(3)


def theirs(name: str, severity: int, seed: int) -> Any:
    np.random.seed(seed)
    try:
        return published.corrupt(LEVELS, corruption_name=name, severity=severity).astype(float)
    except (AttributeError, TypeError) as error:
        pytest.skip(f"the package does not run any more: {error}")


def ours(name: str, severity: int, seed: int) -> Any:
    image = torch.from_numpy(LEVELS).permute(2, 0, 1)[None] / 255.0
    found = CORRUPTIONS[name](image, severity, [torch.Generator().manual_seed(seed)])
    return (found[0] * 255).round().permute(1, 2, 0).double().numpy()


def statistics(images: list[Any]) -> Any:
    """Mean, deviation and distance from the clean image, in levels, over the seeds."""
    distances = [np.sqrt(np.square(image - LEVELS).mean()) for image in images]
    return np.array([np.mean(images), np.std(images), np.mean(distances)])


@pytest.mark.parametrize("severity", (1, 2, 3, 4, 5))
@pytest.mark.parametrize("name", sorted(set(published.get_corruption_names("all")) - DEVIATING))
def test_as_the_published_code(name: str, severity: int) -> None:
    pairs = [(theirs(name, severity, seed), ours(name, severity, seed)) for seed in SEEDS]
    if not any(word in name for word in RANDOM):
        # saturate goes through 8 bits of hue there
        assert np.abs(pairs[0][0] - pairs[0][1]).mean() < 0.2
    expected, found = (statistics(list(images)) for images in zip(*pairs, strict=True))
    np.testing.assert_allclose(found, expected, atol=2)
