"""torchreid: networks, the FeatureExtractor and the evaluation of an engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchreid
from cases import feature_extractor, imagenet, osnet
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from vrdir_plug.adapters import find_input
from vrdir_plug.pixels import IMAGENET, UNIT
from vrdir_plug.wrap import RestoreThen


def negative(images: Tensor) -> Tensor:
    return 1 - images


def person(seed: int = 0) -> Any:
    """RGB, of the extractor's own size, so that nothing is resized."""
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return tiles.repeat(32, 0).repeat(32, 1)


@pytest.mark.parametrize("name", ["osnet_ain_x0_25", "resnet50", "mobilenetv2_x1_0", "hacnn"])
def test_networks_are_known_by_the_convention_of_torchreid(name: str) -> None:
    with torch.device("meta"):
        network = torchreid.models.build_model(name, 4, pretrained=False)
    found = find_input(network)
    assert (found.argument, found.pixels) == ("x", IMAGENET)
    assert "assumed" in found.source and "torchreid" in found.source


@pytest.mark.parametrize("kind", ["array", "arrays", "path", "paths", "tensor"])
def test_the_extractor_is_restored_whatever_it_gets(tmp_path: Path, kind: str) -> None:
    sources = {}
    for name, image in (("as it is", person()), ("negative", 255 - person())):
        file = str(tmp_path / f"{name}.png")
        Image.fromarray(image).save(file)
        encoded = imagenet(torch.from_numpy(image).movedim(-1, 0) / 255)
        sources[name] = {
            "array": image,
            "arrays": [image, image],
            "path": file,
            "paths": [file],
            "tensor": encoded,
        }[kind]
    extractor = feature_extractor()
    before = extractor(sources["as it is"])
    features = RestoreThen(extractor, negative)(sources["as it is"])
    torch.testing.assert_close(features, extractor(sources["negative"]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features, before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(extractor(sources["as it is"]), before)


def test_an_extractor_that_does_not_normalise() -> None:
    extractor = feature_extractor()
    extractor.preprocess.transforms.pop()
    assert find_input(extractor).pixels == UNIT


def test_an_engine_evaluates_the_pair() -> None:
    seen: list[Tensor] = []

    def recorder(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    def loader(camera: int) -> list[dict[str, Any]]:
        images = torch.stack(
            [imagenet(torch.from_numpy(person(i)).movedim(-1, 0) / 255) for i in range(4)]
        )
        return [{"img": images, "pid": torch.arange(4), "camid": torch.full((4,), camera)}]

    class Data:  # what an engine asks of its data manager
        train_loader = test_loader = None

    pair = RestoreThen(osnet(), recorder)
    engine = torchreid.engine.Engine(Data(), use_gpu=False)
    engine.model = pair
    engine.register_model("model", pair, None, None)
    rank1, mean_ap = engine._evaluate(query_loader=loader(0), gallery_loader=loader(1), ranks=[1])
    assert (rank1, mean_ap) == (1.0, 1.0)
    assert [tuple(images.shape) for images in seen] == [(4, 3, 256, 128)] * 2
    assert all(images.min() + 1e-6 >= 0 and images.max() - 1e-6 <= 1 for images in seen)


def test_the_features_of_a_network_keep_their_gradients() -> None:
    restorer = nn.Conv2d(3, 3, 1)
    RestoreThen(osnet(), restorer)(imagenet(torch.rand(1, 3, 64, 32))).sum().backward()
    assert restorer.weight.grad is not None and restorer.weight.grad.abs().sum() > 0


WEIGHTS = Path(__file__).parents[2] / "shared/data/recognisers/osnet_x0_25_msmt17_reid.safetensors"


def test_real_weights() -> None:
    if not WEIGHTS.exists():
        pytest.skip(f"no {WEIGHTS}")
    network = torchreid.models.build_model("osnet_x0_25", 1, pretrained=False).eval()
    network.load_state_dict(load_file(WEIGHTS), strict=False)
    images = torch.stack(
        [imagenet(torch.from_numpy(person(i)).movedim(-1, 0) / 255) for i in range(2)]
    )
    expected = network(images)
    torch.testing.assert_close(
        RestoreThen(network, lambda images: images)(images), expected, rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(RestoreThen(network, negative)(images), expected, rtol=0.1)
