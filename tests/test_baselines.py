import pytest
import torch
from skimage import data, exposure
from torch import Tensor

from vrdir_plug.baselines import BASELINES
from vrdir_plug.measures import psnr


def photograph() -> Tensor:
    """(1, 3, 96, 96): the astronaut's face."""
    return (
        torch.from_numpy(data.astronaut()[20:212:2, 130:322:2].copy()).permute(2, 0, 1)[None] / 255
    )


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_shape_range_dtype_and_image_by_image(name: str) -> None:
    images = torch.cat([photograph(), photograph().flip(3) ** 2])
    before = images.clone()
    restored = BASELINES[name](images)
    assert restored.shape == images.shape and restored.dtype == images.dtype
    assert restored.min() >= 0 and restored.max() <= 1 and torch.equal(images, before)
    torch.testing.assert_close(restored[:1], BASELINES[name](images[:1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["nlm", "tv"])
def test_denoisers_denoise(name: str) -> None:
    clean = photograph()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (clean + 0.12 * noise).clamp(0, 1)
    assert psnr(BASELINES[name](noisy)[0], clean[0]) > psnr(noisy[0], clean[0]) + 2


def test_dark_channel_removes_constant_haze() -> None:
    clean = photograph()
    hazy = 0.5 * clean + 0.5 * 0.9
    assert psnr(BASELINES["dark-channel"](hazy)[0], clean[0]) > psnr(hazy[0], clean[0]) + 4


def test_clahe_is_scikit_images() -> None:
    image = photograph()
    expected = exposure.equalize_adapthist(image[0].permute(1, 2, 0).numpy())
    torch.testing.assert_close(
        BASELINES["clahe"](image)[0].permute(1, 2, 0), torch.from_numpy(expected).float()
    )


def test_unsharp_steepens_edges() -> None:
    edge = torch.full((1, 3, 20, 20), 0.3)
    edge[..., 10:] = 0.7
    assert BASELINES["unsharp"](edge)[..., 10].mean() > 0.75
