"""torchvision's detectors: restored before they normalise, resize and pad; tiny, random weights."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import livened
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.ops import MultiScaleRoIAlign

from vrdir_plug.wrap import RestoreThen


class Backbone(nn.Module):
    out_channels = 32  # FCOS and RetinaNet normalise groups of 32

    def __init__(self) -> None:
        wide = self.out_channels
        super().__init__()
        last = nn.Conv2d(wide, wide, 3, 4, 1)
        self.layers = nn.Sequential(nn.Conv2d(3, wide, 3, 4, 1), nn.ReLU(), last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return OrderedDict({"0": self.layers(images)})


def pool(size: int) -> nn.Module:
    return MultiScaleRoIAlign(["0"], size, 2)


def two_stages(of: Any, **more: Any) -> Any:
    """Two stages; torchvision's own heads have a thousand channels."""
    box = {
        "box_roi_pool": pool(3),
        "box_head": detection.faster_rcnn.TwoMLPHead(9 * Backbone.out_channels, 16),
        "box_predictor": detection.faster_rcnn.FastRCNNPredictor(16, 2),
    }
    limits = {"box_score_thresh": 0.0, "box_detections_per_img": 5}
    return of(Backbone(), rpn_anchor_generator=ANCHORS, **SIZES, **box, **limits, **more)


def mask_rcnn() -> Any:
    parts = detection.mask_rcnn
    return two_stages(
        detection.MaskRCNN,
        mask_roi_pool=pool(4),
        mask_head=parts.MaskRCNNHeads(Backbone.out_channels, (8,), 1),
        mask_predictor=parts.MaskRCNNPredictor(8, 8, 2),
    )


def keypoint_rcnn() -> Any:
    parts = detection.keypoint_rcnn
    return two_stages(
        detection.KeypointRCNN,
        keypoint_roi_pool=pool(4),
        keypoint_head=parts.KeypointRCNNHeads(Backbone.out_channels, (8,)),
        keypoint_predictor=parts.KeypointRCNNPredictor(8, 17),
    )


def one_stage(of: Any, anchors: Any) -> Any:
    return of(Backbone(), 2, anchor_generator=anchors, **SIZES, **LIMITS)


def ssd() -> Any:
    backbone: Any = Backbone()
    backbone.out_channels = [Backbone.out_channels]  # one a level
    return detection.ssd.SSD(backbone, DefaultBoxGenerator([[2]]), (64, 64), 2, **LIMITS)


ANCHORS = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
SIZES = {"min_size": 64, "max_size": 96}
LIMITS = {"score_thresh": 0.0, "detections_per_img": 5}
DETECTORS: dict[str, Callable[[], Any]] = {
    "Faster R-CNN": lambda: two_stages(detection.FasterRCNN),
    "Mask R-CNN": mask_rcnn,
    "Keypoint R-CNN": keypoint_rcnn,
    "RetinaNet": lambda: one_stage(detection.RetinaNet, ANCHORS),
    "FCOS": lambda: one_stage(detection.FCOS, AnchorGenerator(((8,),), ((1.0,),))),
    "SSD": ssd,
}
every_detector = pytest.mark.parametrize("name", DETECTORS)


def detector(name: str) -> Any:
    torch.manual_seed(0)
    network = DETECTORS[name]()
    livened(network)
    return network.eval()


def photographs() -> list[Tensor]:
    """Of different sizes, so that the detector pads each to the larger one's."""
    seed = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=seed) for size in ((70, 90), (96, 64))]


class Negative(nn.Module):
    """White becomes black, and what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return 1 - self.gain * images


def entered(network: Any) -> list[Tensor]:
    """What comes out of the detector's own transform, and goes into its backbone, from now on."""
    batches: list[Tensor] = []
    network.backbone.register_forward_pre_hook(lambda _, args: batches.append(args[0]))
    return batches


@every_detector
@torch.no_grad()
def test_a_detector_finds_what_it_finds_on_images_restored_by_hand(name: str) -> None:
    network, restorer, images = detector(name), Negative(), photographs()
    found = RestoreThen(network, restorer)(images)
    assert [tuple(seen.shape) for seen in restorer.seen] == [(1, 3, 70, 90), (1, 3, 96, 64)]
    for seen, image in zip(restorer.seen, images, strict=True):
        assert torch.equal(seen[0], image)
    expected, before = network([1 - image for image in images]), network(images)
    for result, wanted, unrestored in zip(found, expected, before, strict=True):
        assert result.keys() == wanted.keys() and len(result["boxes"]) == 5
        for key, values in wanted.items():
            assert torch.equal(result[key], values)
        assert not torch.equal(result["scores"], unrestored["scores"])


@every_detector
@torch.no_grad()
def test_the_padding_that_a_detector_adds_is_not_restored(name: str) -> None:
    network, images = detector(name), photographs()
    batches = entered(network)
    RestoreThen(network, Negative())(images)
    (batch,) = batches
    wanted, _ = network.transform([1 - image for image in images])
    assert torch.equal(batch, wanted.tensors)
    borders = [
        torch.cat([entry[:, height:].flatten(), entry[:, :height, width:].flatten()])
        for entry, (height, width) in zip(batch, wanted.image_sizes, strict=True)
    ]
    assert not torch.cat(borders).any()
    # SSD stretches all images to one size
    assert all(len(border) for border in borders) == (name != "SSD")


@every_detector
def test_a_detector_in_training_gives_its_losses_and_gradients(name: str) -> None:
    network, restorer = detector(name), Negative()
    targets = [
        {
            "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
            "labels": torch.tensor([1]),
            "masks": torch.ones(1, *image.shape[-2:], dtype=torch.uint8),
            "keypoints": torch.full((1, 17, 3), 20.0),
        }
        for image in photographs()
    ]
    pair = RestoreThen(network, restorer).train()
    with pytest.warns(UserWarning, match="training mode"):
        losses = pair(photographs(), targets)
    sum(losses.values()).backward()
    assert restorer.gain.grad is not None and restorer.gain.grad.abs() > 0


@torch.no_grad()
def test_a_batch_does_as_well_as_a_list() -> None:
    network, batch = detector("FCOS"), torch.rand(2, 3, 64, 64)
    found, expected = RestoreThen(network, Negative())(batch), network(list(1 - batch))
    for result, wanted in zip(found, expected, strict=True):
        assert torch.equal(result["boxes"], wanted["boxes"])
