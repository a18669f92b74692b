"""Objects that call their network themselves, like ultralytics' YOLO: a restored double of each.

A double shares the network with the user's object and has a state of its own, so that the user's
object goes on as it was. None of the libraries is imported: the classes come from the object.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Restore = Callable[[Tensor], Tensor]
Box = tuple[int, int, int, int]  # top, bottom, left, right


def with_network(model: Any, name: str, network: Callable[..., Any]) -> Any:
    """The same object around another network."""
    double = copy.copy(model)
    setattr(double, name, network)
    return double


def follow(restorer: object, device: torch.device) -> None:
    """Move a restorer to where the images are: such an object chooses its device by itself."""
    weights = next(restorer.parameters(), None) if isinstance(restorer, nn.Module) else None
    if isinstance(restorer, nn.Module) and weights is not None and weights.device != device:
        with torch.inference_mode(False):  # or its parameters could never have gradients again
            restorer.to(device)


# --- ultralytics -------------------------------------------------------------------------------
#
# Images are restored where the task's predictor and validator have just made a batch of them. A
# hook on the network would see the same batch, but not where in it the photograph ends and the
# grey border begins; it would see the zeros that warm a GPU up, and nothing of exported models.

TRAIN = (
    "a detector learns from images as they are: train the detector first, then wrap it. "
    "If you mean to train it without the restorer, call pair.model.{name}(...)"
)
EXPORT = (
    "ultralytics would export the detector without the restorer. Either export it alone and wrap "
    "what comes out, which restores within the letterbox:\n"
    "  RestoreThen(YOLO(pair.model.export(format='onnx')))\n"
    "or export the network with the restorer in it, which restores the letterbox too and gives "
    "what yolo.model gives (a copy: the exporter leaves its traces in the network):\n"
    "  torch.onnx.export(RestoreThen(copy.deepcopy(yolo.model).eval(), pixels=UNIT), "
    "(torch.rand(1, 3, 640, 640),), 'pair.onnx', dynamo=True)"
)


def restored_yolo(yolo: Any, restore: Restore) -> Any:
    """A double of a YOLO whose every road to the network is restored.

    Args:
        yolo: of ultralytics, of any task.
        restore: images (N, 3, H, W) as the network takes them -> the same, restored.

    Returns:
        An instance of a subclass of the object's class.
    """
    double = copy.copy(yolo)
    double.__class__ = type(type(yolo).__name__, (RestoredModel, type(yolo)), {})
    # what the double changes in use must not be the user's
    double.__dict__.update(
        _modules=dict(yolo._modules),
        callbacks={event: list(calls) for event, calls in yolo.callbacks.items()},
        overrides=dict(yolo.overrides),
        predictor=None,
        restoring=restoring_classes(restore),
    )
    return double


def restoring_classes(restore: Restore) -> Callable[[type, type], type]:
    """Subclasses that restore; the same each time, since a predictor of another class is dropped
    along with its trackers."""

    @cache
    def restoring(base: type, mixin: type) -> type:
        if issubclass(base, mixin):
            return base
        if not hasattr(base, "preprocess"):
            raise TypeError(f"{base.__name__} has no preprocess, where images could be restored")
        return type(base.__name__, (mixin, base), {"restore": staticmethod(restore)})

    return restoring


# The classes below go in front of one of ultralytics', which the type checker does not know.


class RestoredModel:
    restoring: Callable[[type, type], type]

    def _smart_load(self, key: str) -> Any:
        found = super()._smart_load(key)  # type: ignore[misc]
        mixins = {"predictor": RestoredPredictor, "validator": RestoredValidator}
        return self.restoring(found, mixins[key]) if key in mixins else found

    def predict(
        self, source: Any = None, stream: bool = False, predictor: Any = None, **settings: Any
    ) -> Any:
        predictor = predictor and self.restoring(predictor, RestoredPredictor)
        return super().predict(source, stream, predictor=predictor, **settings)  # type: ignore[misc]

    def val(self, validator: Any = None, **settings: Any) -> Any:
        validator = validator and self.restoring(validator, RestoredValidator)
        return super().val(validator, **settings)  # type: ignore[misc]

    def train(self, *args: Any, **settings: Any) -> None:
        raise TypeError(TRAIN.format(name="train"))

    def tune(self, *args: Any, **settings: Any) -> None:
        raise TypeError(TRAIN.format(name="tune"))

    def export(self, *args: Any, **settings: Any) -> None:
        raise TypeError(EXPORT)

    def benchmark(self, *args: Any, **settings: Any) -> None:
        raise TypeError(EXPORT)


class RestoredPredictor:
    restore: Restore
    _geometry: object = None
    _boxes: tuple[Box, ...] = ()

    def preprocess(self, images: Any) -> Tensor:
        """Images as they were loaded -> restored, (N, 3, H, W) as the network takes them."""
        batch: Tensor = super().preprocess(images)  # type: ignore[misc]
        return restored_within(self._photographs(images, batch), batch, self.restore)

    def _photographs(self, images: Any, batch: Tensor) -> tuple[Box, ...]:
        """Where in the batch each image lies: where white images of the same sizes are white."""
        if isinstance(images, Tensor):
            return whole(batch)
        geometry = (*(image.shape for image in images), batch.shape)
        if geometry != self._geometry:
            white = super().preprocess([np.full_like(image, 255) for image in images])  # type: ignore[misc]
            # the border is mid-grey and whatever is white is brighter, in any encoding
            bright = (white.amax((2, 3), keepdim=True) - white).amax(1) < 0.1
            self._geometry, self._boxes = geometry, tuple(map(extent, bright))
        return self._boxes


class RestoredValidator:
    restore: Restore

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of the data loader -> the same with restored images."""
        batch = super().preprocess(batch)  # type: ignore[misc]
        images = batch["img"]
        letterboxes = batch.get("ratio_pad")
        boxes = (
            tuple(map(inside, letterboxes, batch["ori_shape"])) if letterboxes else whole(images)
        )
        return {**batch, "img": restored_within(boxes, images, self.restore)}


def whole(batch: Tensor) -> tuple[Box, ...]:
    height, width = batch.shape[-2:]
    return ((0, height, 0, width),) * len(batch)


def extent(bright: Tensor) -> Box:
    """The box of what is true in (H, W)."""
    rows, columns = bright.any(1).nonzero(), bright.any(0).nonzero()
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def inside(ratio_pad: Any, shape: tuple[int, int]) -> Box:
    """Where an image of height and width `shape` lies in its letterbox."""
    (gain_h, gain_w), (left, top) = ratio_pad
    return (top, top + round(shape[0] * gain_h), left, left + round(shape[1] * gain_w))


def restored_within(boxes: tuple[Box, ...], batch: Tensor, restore: Restore) -> Tensor:
    """Restore the box of each image of a batch; at once where the boxes are the same."""
    restored = batch.clone()
    if len(set(boxes)) == 1:
        part = cut(batch, boxes[0])
        cut(restored, boxes[0]).copy_(restore(part))
        return restored
    for image, target, box in zip(batch, restored, boxes, strict=True):
        cut(target, box).copy_(restore(cut(image, box)[None])[0])
    return restored


def cut(images: Tensor, box: Box) -> Tensor:
    top, bottom, left, right = box
    return images[..., top:bottom, left:right]
