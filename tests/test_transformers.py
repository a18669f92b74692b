"""Hugging Face: models by their processor, pipelines by themselves; tiny, of initial weights."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from cases import hugging_face_model, hugging_face_pipeline, image_processor
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vrdir_plug.adapters import find_input
from vrdir_plug.pixels import PixelSpec, UnknownPixels
from vrdir_plug.wrap import RestoreThen

HALF = PixelSpec((0.5,) * 3, (0.5,) * 3)
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SIGHT: dict[str, Any] = {**SMALL, "image_size": 64, "patch_size": 16}


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images


def negative(images: Tensor) -> Tensor:
    return 1 - images


def picture(seed: int = 0) -> Image.Image:
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(tiles.repeat(8, 0).repeat(8, 1))


def inverted(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image))


def yolos() -> nn.Module:
    config = transformers.YolosConfig(
        **{**SIGHT, "image_size": [64, 64]}, num_detection_tokens=5, num_labels=3
    )
    return transformers.YolosForObjectDetection(config).eval()


def dino() -> nn.Module:
    return transformers.Dinov2Model(transformers.Dinov2Config(**SIGHT)).eval()


def clip() -> nn.Module:
    config = transformers.CLIPConfig(
        text_config={**SMALL, "vocab_size": 50}, vision_config=SIGHT, projection_dim=16
    )
    return transformers.CLIPModel(config).eval()


@pytest.mark.parametrize("build", [hugging_face_model, yolos, dino])
def test_images_come_first_or_by_name(build: Any) -> None:
    torch.manual_seed(0)  # not weights that depend on the tests before
    model, recorder, processor = build(), Recorder(), image_processor()
    pair = RestoreThen(model, recorder, pixels=processor)
    inputs = processor([picture(0), picture(1)], return_tensors="pt")
    for result in (pair(**inputs), pair(inputs["pixel_values"])):
        expected = model(**inputs)
        torch.testing.assert_close(result[0], expected[0])
        assert type(result) is type(expected)
    rgb = np.stack([np.asarray(picture(i)) for i in range(2)])
    for images in recorder.seen:
        torch.testing.assert_close(
            images, torch.from_numpy(rgb).movedim(-1, 1) / 255, atol=1e-6, rtol=0
        )
    assert len(recorder.seen) == 2


def test_where_text_comes_first_images_come_by_name() -> None:
    model, processor = clip(), image_processor()
    pair = RestoreThen(model, negative, pixels=processor)
    text = {"input_ids": torch.tensor([[1, 2, 49]]), "attention_mask": torch.ones(1, 3).long()}
    result = pair(**text, **processor(picture(), return_tensors="pt"))
    expected = model(**text, **processor(inverted(picture()), return_tensors="pt"))
    torch.testing.assert_close(result.image_embeds, expected.image_embeds, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="int64"):
        pair(text["input_ids"])
    with pytest.raises(AttributeError, match=r"pair\.model\.get_image_features"):
        _ = pair.get_image_features


def test_a_model_does_not_know_its_processor() -> None:
    with pytest.raises(UnknownPixels, match="Hugging Face image processor"):
        find_input(hugging_face_model())


def test_a_pipeline_knows_its_processor() -> None:
    pipeline = hugging_face_pipeline()
    found = find_input(pipeline)
    assert (found.pixels, found.source, found.argument) == (HALF, "its image_processor", "inputs")
    assert found.network == "model"


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_road_through_a_pipeline_is_restored(batch_size: int) -> None:
    pipeline, images = hugging_face_pipeline(), [picture(0), picture(1)]
    expected = pipeline([inverted(image) for image in images], batch_size=batch_size)
    before = pipeline(images)
    pair = RestoreThen(pipeline, negative)
    for results in (
        pair(images, batch_size=batch_size),
        pair.predict(images),
        pair.transform(images),
        list(pair(image for image in images)),
        [pair(image) for image in images],
    ):
        for result, wanted in zip(results, expected, strict=True):
            assert [label["label"] for label in result] == [label["label"] for label in wanted]
            assert [label["score"] for label in result] == pytest.approx(
                [label["score"] for label in wanted], abs=1e-4
            )
    assert pipeline(images) == before != expected
    assert pair.task == "image-classification"
    with pytest.raises(AttributeError, match=r"pair\.model\.save_pretrained"):
        _ = pair.save_pretrained


def numbers(results: Any) -> Tensor:
    leaves = [leaf for leaf in tree_leaves(results) if not isinstance(leaf, str)]
    assert leaves
    return torch.tensor(leaves)


def test_pipelines_of_other_tasks() -> None:
    for task, model in (("object-detection", yolos()), ("image-feature-extraction", dino())):
        processor = (
            image_processor()
            if task != "object-detection"
            else transformers.YolosImageProcessor(size={"height": 64, "width": 64})
        )
        recorder = Recorder()
        pipeline = transformers.pipeline(task, model=model, image_processor=processor)
        pair = RestoreThen(pipeline, recorder)
        more: dict[str, Any] = {"threshold": 0.0} if task == "object-detection" else {}
        results, expected = pair(picture(), **more), pipeline(picture(), **more)
        torch.testing.assert_close(numbers(results), numbers(expected), rtol=1e-4, atol=1e-5)
        image = torch.from_numpy(np.array(picture())).movedim(-1, 0)[None] / 255
        torch.testing.assert_close(recorder.seen, [image], rtol=0, atol=1e-6)


class Writer(transformers.ViTForImageClassification):  # type: ignore[misc]
    """What writes text of images takes them in generate."""

    def generate(self, pixel_values: Tensor) -> Any:
        return self(pixel_values)


class Captions(transformers.ImageClassificationPipeline):  # type: ignore[misc]
    def _forward(self, model_inputs: Any) -> Any:
        return self.model.generate(**model_inputs)


def test_what_generates_is_refused_since_it_would_skip_the_restorer() -> None:
    model = Writer(hugging_face_model().config).eval()
    refused = pytest.raises(AttributeError, match=r"generate.*without the restorer")
    with refused:
        _ = RestoreThen(model, negative, pixels=image_processor()).generate
    pipeline = Captions(model=model, image_processor=image_processor())
    assert pipeline(picture())
    with refused:
        RestoreThen(pipeline, negative)(picture())


def test_models_of_grey_images_are_refused() -> None:
    grey = transformers.Dinov2Model(transformers.Dinov2Config(**SIGHT, num_channels=1))
    with pytest.raises(ValueError, match="takes images with 1 channels, the restorer with 3"):
        RestoreThen(grey, negative, pixels=image_processor())


def test_a_pipeline_without_images_is_refused() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_tokenizer())
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**SMALL, vocab_size=5)
    )
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    with pytest.raises(TypeError, match="takes no images"):
        RestoreThen(pipeline, negative)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
