from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vrdir_plug.evaluation import AnswerError, Condition, Sample, evaluate
from vrdir_plug.reidentification import Reidentification, matched


def samples(*names: str) -> list[Sample]:
    return [Sample(name, Path(name), 0) for name in names]


QUERIES = samples("0001_c1_v0.jpg", "0002_c1_v0.jpg")
GALLERY = samples(
    "0001_c1_v1.jpg", "0001_c2_v0.jpg", "0002_c2_v0.jpg", "0001_c3_v0.jpg", "3_c2.jpg"
)


def task(features: list[list[float]]) -> Reidentification:
    gallery = torch.tensor(features)
    return Reidentification(QUERIES, GALLERY, lambda images: images, indexed=list(gallery))


def test_rank_1_and_average_precision_by_hand() -> None:
    # Likeness to (1, 0): the query's own camera comes first and is left out.
    found = task([[1, 0], [0.7, 0], [0.9, 0], [0.8, 0], [0, 0]]).cell(
        QUERIES, [torch.tensor([1.0, 0]), torch.tensor([1.0, 0])]
    )
    # Person 1: 2, 1, 1, 3 -> hits at 2 and 3. Person 2: 1, 2, ... -> a hit at 2, as 1_c1 counts.
    assert found["rank-1"] == [0, 0]
    assert found["mAP"] == pytest.approx([(1 / 2 + 2 / 3) / 2, 1 / 2], abs=1e-6)


def test_a_query_without_an_answer_counts_nothing() -> None:
    found = task([[1.0, 0]] * 5).cell(QUERIES, [None, torch.tensor([1.0, 0])])
    assert found["rank-1"][0] == found["mAP"][0] == 0


def test_agrees_with_torchreid() -> None:
    rank = pytest.importorskip(
        "torchreid.reid.metrics.rank", reason="torchreid is the oracle", exc_type=ImportError
    )
    rng = np.random.default_rng(0)
    people, cameras = rng.integers(0, 6, 60), rng.integers(1, 4, 60)
    names = [f"{p:04d}_c{c}_v{i}.jpg" for i, (p, c) in enumerate(zip(people, cameras, strict=True))]
    features = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(60, 4))), dim=1)
    queries, gallery = samples(*names[:20]), samples(*names[20:])
    whole = Reidentification(queries, gallery, lambda images: images, indexed=list(features[20:]))
    found = whole.cell(queries, list(features[:20]))
    distances = 1 - (features[:20] @ features[20:].T).numpy()
    curve, precision = rank.evaluate_rank(
        *(distances, people[:20], people[20:], cameras[:20], cameras[20:]),
        max_rank=5,
        use_cython=False,
    )
    assert np.mean(found["rank-1"]) == pytest.approx(curve[0])
    assert np.mean(found["mAP"]) == pytest.approx(precision, abs=1e-5)


def test_queries_without_a_counterpart_are_left_out() -> None:
    assert matched(
        samples("1_c1.jpg", "2_c1.jpg", "4_c1.jpg"), samples("1_c1.jpg", "2_c2.jpg")
    ) == (samples("2_c1.jpg"))
    with pytest.raises(ValueError, match="no query has its person in another camera"):
        matched(samples("1_c1.jpg"), samples("1_c1.jpg"))
    with pytest.raises(ValueError, match=r"face.jpg is not named PERSON_cCAMERA"):
        matched(samples("face.jpg"), GALLERY)


def test_only_queries_are_corrupted_and_restored(tmp_path: Path) -> None:
    for name, colour in (("1_c1.png", "red"), ("1_c2.png", "red"), ("2_c2.png", "blue")):
        Image.new("RGB", (6, 12), colour).save(tmp_path / name)
    here = [Sample(name, tmp_path / name, 0) for name in ("1_c1.png", "1_c2.png", "2_c2.png")]
    seen: list[int] = []

    def swap(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flip(1)

    def mean_colour(images: Tensor) -> Tensor:
        return images.mean((2, 3))

    report = evaluate(
        Reidentification(here[:1], here[1:], mean_colour, (8, 4)),
        {"none": lambda images: images, "swap": swap},
        [Condition("brightness", 1)],
    )
    assert seen == [1, 1]
    found = {name: scores["rank-1"].value for (_, name), scores in report.scores.items()}
    assert found == {"none": 1, "swap": 0}


def test_anything_but_features_is_refused() -> None:
    with pytest.raises(AnswerError, match=r"returned \(2, 3, 4, 4\) for 2 images, not features"):
        task([[1, 0]] * 5).recognise(torch.rand(2, 3, 4, 4))
