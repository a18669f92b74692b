"""What lower precisions change in the restored images, beside float32.

`python benchmarks/precision.py` restores the photographs of scikit-image, clean and under six
corruptions, and prints how far each precision's pixels lie from float32's, in levels of 255, and
their PSNR to them: torch in float16 and bfloat16 throughout and under autocast, and the exported
graph in int8 by ONNX Runtime (static quantisation, calibrated on the same kinds of images).
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import skimage.data
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Generator, Tensor

from vrdir_plug import Restorer
from vrdir_plug.corruptions import CORRUPTIONS
from vrdir_plug.exporting import export

SIZE = 224
KINDS = ("gaussian_noise", "defocus_blur", "fog", "low_light", "contrast", "jpeg_compression")
Restore = Callable[[Tensor], Tensor]


def photographs() -> Tensor:
    """Clean, then under each kind: (28, 3, SIZE, SIZE)."""
    data = skimage.data
    pictures = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    clean = torch.stack([torch.from_numpy(p[60:284, 60:284].copy()) for p in pictures])
    clean = clean.permute(0, 3, 1, 2) / 255.0
    generators = [Generator().manual_seed(seed) for seed in range(len(clean))]
    return torch.cat([clean, *(CORRUPTIONS[kind](clean, 3, generators) for kind in KINDS)])


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Images one by one, as ONNX Runtime asks for them."""

    def __init__(self, images: Tensor):
        self.feeds = iter([{"images": image[None].numpy()} for image in images])

    def get_next(self) -> Any:
        return next(self.feeds, None)


def int8(restorer: Restorer, images: Tensor, folder: Path) -> Restore:
    whole, prepared, small = (folder / f"{name}.onnx" for name in ("whole", "prepared", "int8"))
    export(restorer, whole)
    quant_pre_process(whole, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, small, Calibration(images.flip(3)), op_types_to_quantize=["Conv"])
    session = onnxruntime.InferenceSession(small)
    return lambda given: torch.from_numpy(session.run(None, {"images": given.numpy()})[0])


def in_dtype(dtype: torch.dtype) -> Restore:
    restorer = Restorer.from_pretrained("fast").to(dtype)
    return lambda images: restorer(images.to(dtype)).float()


def under_autocast(restorer: Restorer) -> Restore:
    def restore(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return restorer(images)

    return restore


def lines(images: Tensor, folder: Path) -> Iterator[str]:
    restorer = Restorer.from_pretrained("fast")
    expected = restorer(images)
    ways = {
        "float16": in_dtype(torch.float16),
        "bfloat16": in_dtype(torch.bfloat16),
        "bfloat16, autocast": under_autocast(restorer),
        "int8 convolutions, ONNX Runtime": int8(restorer, images, folder),
    }
    for name, restore in ways.items():
        found = torch.cat([restore(part) for part in images.split(4)])
        levels = 255 * (found - expected).abs()
        decibels = -10 * (levels / 255).square().mean().log10()
        yield f"| {name} | {levels.mean():.2f} | {levels.max():.0f} | {decibels:.1f} |"


@torch.inference_mode()
def main() -> None:
    print(
        "| precision | mean, levels of 255 | most, levels | PSNR, dB |",
        "|---|---:|---:|---:|",
        sep="\n",
    )
    with tempfile.TemporaryDirectory() as folder:
        for line in lines(photographs(), Path(folder)):
            print(line)


if __name__ == "__main__":
    main()
