"""A model in ONNX Runtime: python examples/onnx_session.py classifier.onnx PHOTO..."""

import sys

import onnxruntime
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import MobileNet_V3_Small_Weights

from vrdir_plug import IMAGENET, RestoreThen


def main(file: str, images: Tensor) -> Tensor:
    """What the model makes of images (N, 3, H, W), as it wants them encoded."""
    session = onnxruntime.InferenceSession(file)
    name = session.get_inputs()[0].name

    def network(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.cpu().numpy()})[0])

    model = RestoreThen(network, pixels=IMAGENET)
    with torch.inference_mode():
        result: Tensor = model(images)
    return result


if __name__ == "__main__":
    prepare = MobileNet_V3_Small_Weights.DEFAULT.transforms()
    photos = [prepare(Image.open(photo).convert("RGB")) for photo in sys.argv[2:]]
    print(*main(sys.argv[1], torch.stack(photos)).argmax(1).tolist(), sep="\n")
