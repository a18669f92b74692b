"""Trains the last stage with something changed: the rows of docs/ablations.md.

`python tools/ablate.py VARIANT OPTIONS`, with the options of `vrdir train`; --start among them.
"""

import sys
from dataclasses import replace

from vrdir_plug import cli, training

LAST = training.STAGES[-1]
VARIANTS = {
    "prior-frozen": replace(LAST, learns=(".ise.",), pace=0.6),
    "pixel-dnc-frozen": replace(LAST, learns=(".encoder.", ".decoder.", ".ise.")),
    "all": LAST,
    "no-mixtures": replace(LAST, most=1),
    "pixels": replace(LAST, loss=training.branch_loss),
}


def main(variant: str, *options: str) -> int:
    if variant not in VARIANTS:
        sys.exit(f"there is no variant {variant!r}; the variants are: {', '.join(VARIANTS)}")
    training.STAGES = (*training.STAGES[:-1], VARIANTS[variant])
    return cli.main(["train", *options])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[1:] else __doc__)
