from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets, transforms

from vrdir_plug.classification import (
    Classification,
    load_image,
    read_class_folders,
    read_table,
    read_unlabelled,
)
from vrdir_plug.evaluation import AnswerError, Sample

HEADER = "path,split,label\n"


def test_labels_are_read_for_the_wanted_splits(tmp_path: Path, samples: list[Sample]) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"\ufeff{HEADER}0.png,dev,0\n1.png,test,1\n2.png,train,\n4.png,dev,7\n")
    first, last = read_table(tmp_path, table, ["dev"])
    assert first == Sample("0.png", tmp_path / "0.png", 0)
    assert last == Sample("4.png", tmp_path / "4.png", 7)
    assert [sample.label for sample in read_table(tmp_path, table, ["dev", "test"])] == [0, 1, 7]


@pytest.mark.parametrize(
    ("text", "splits", "message"),
    [
        ("file,label\n0.png,0\n", [], "no column 'path'"),
        ("path,class\n0.png,0\n", [], "no column 'label'"),
        ("path,label\n0.png,0\n", ["dev"], "no column 'split'"),
        (HEADER + "0.png,dev,0\n", ["test"], r"no split 'test', only \['dev'\]"),
        (HEADER + "0.png,dev,0\n1.png,dev,\n", [], "line 3: the label of '1.png' is ''"),
        (HEADER + "0.png,dev,cat\n", [], "line 2: the label of '0.png' is 'cat'"),
        (HEADER + "0.png,dev,-1\n", [], "line 2: the label of '0.png' is '-1'"),
        (HEADER + "0.png\n", [], "line 2: the label of '0.png' is ''"),
        (HEADER + "absent.png,dev,0\n", [], "line 2: there is no file 'absent.png'"),
        (HEADER, [], "lists no images"),
        ("", [], "no column 'path'"),
    ],
)
def test_wrong_labels_are_refused(
    tmp_path: Path, samples: list[Sample], text: str, splits: list[str], message: str
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path, table, splits)


@pytest.mark.parametrize("size", [(50, 31), (31, 50), (33, 33), (10, 7), (299, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_images_are_resized_and_cropped_as_torchvision_does(
    tmp_path: Path, size: tuple[int, int], mode: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = tmp_path / "image.png"
    Image.fromarray(pixels).convert(mode).save(file)
    oracle = transforms.Compose(
        [
            transforms.Resize(24, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
        ]
    )
    expected = oracle(Image.open(file).convert("RGB"))
    torch.testing.assert_close(load_image(file, 24), expected, rtol=0, atol=0)


def test_class_folders_are_numbered_as_torchvisions_image_folder_does(
    tmp_path: Path, samples: list[Sample]
) -> None:
    root = tmp_path / "root"
    for index, name in enumerate(["zebra", "Ant", "bee"]):
        (root / name / "deeper").mkdir(parents=True)
        samples[index].file.rename(root / name / "deeper" / f"{index}.png")
    expected = [(Path(file), label) for file, label in datasets.ImageFolder(str(root)).samples]
    assert [(sample.file, sample.label) for sample in read_class_folders(root)] == expected
    assert [sample.name for sample in read_unlabelled(root)] == [
        "Ant/deeper/1.png",
        "bee/deeper/2.png",
        "zebra/deeper/0.png",
    ]


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folders with images"):
        read_class_folders(tmp_path)
    with pytest.raises(ValueError, match="no image in"):
        read_unlabelled(tmp_path)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: images, r"returned \(2, 3, 8, 8\) for 2 images"),
        (lambda images: images.mean(dim=(0, 2, 3)), r"returned \(3,\) for 2 images"),
        (lambda images: {"logits": images}, "returned dict for 2 images"),
        (lambda images: images.mean(dim=(2, 3))[:, :1], "label 2 is beyond the recogniser's 1"),
    ],
    ids=["images", "no batch", "dictionary", "too few classes"],
)
def test_recognisers_that_return_anything_else_are_refused(
    samples: list[Sample], answer: object, message: str
) -> None:
    task = Classification(samples, answer)  # type: ignore[arg-type]
    with pytest.raises(AnswerError, match=message):
        task.recognise(torch.rand(2, 3, 8, 8))


def test_agreement_is_with_the_reference_and_no_answer_agrees_with_nothing(
    samples: list[Sample],
) -> None:
    def never(images: Tensor) -> Tensor:
        raise AssertionError

    task = Classification(samples, never, labelled=False)
    scores = task.scores(
        samples, {"classes": [4, 1, None, 2, None]}, {"classes": [4, 2, 3, 2, None]}
    )
    np.testing.assert_array_equal(scores["agreement"].values, [1, 0, 0, 1, 0])
