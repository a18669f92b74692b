"""Find a person again with torchreid: python examples/reidentify.py osnet.pth QUERY PHOTO..."""

import sys
from typing import Any

from torch.nn.functional import cosine_similarity
from torchreid.reid.utils import FeatureExtractor

from vrdir_plug import RestoreThen


def main(extractor: Any, query: str, gallery: list[str]) -> list[tuple[float, str]]:
    """The photographs, the most similar person first."""
    model = RestoreThen(extractor)
    wanted, found = model(query), model(gallery)
    similarities = cosine_similarity(wanted, found).tolist()
    return sorted(zip(similarities, gallery, strict=True), reverse=True)


if __name__ == "__main__":
    weights, person, *photos = sys.argv[1:]
    network = FeatureExtractor("osnet_x0_25", weights, device="cpu")
    for similarity, photo in main(network, person, photos):
        print(f"{similarity:.3f} {photo}")
