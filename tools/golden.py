"""Records the embedded sets: `python tools/golden.py`, whenever the weights were replaced.

Writes vrdir_plug/golden.json: the files' SHA-256, which `Restorer.from_pretrained` compares, and
numbers restored from a formula, which `vrdir doctor` and the tests compare.
"""

import json
from pathlib import Path

from vrdir_plug import selftest, weights

ROOT = Path(__file__).parents[1]


def main() -> None:
    recorded = {}
    for name, folder in sorted(weights.embedded().items()):
        numbers = selftest.numbers(selftest.unverified(folder))
        recorded[name] = {"sha256": weights.digests(folder), "numbers": numbers}
    file = ROOT / "vrdir_plug" / "golden.json"
    file.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
