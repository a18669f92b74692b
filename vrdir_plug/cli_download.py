"""``vrdir download``: weights from the Hub into its cache, checked."""

import argparse
from typing import Any

from . import weights
from .hub import REPOSITORY
from .restorer import Restorer

EXAMPLES = """\
examples:
  vrdir download org/name                   the newest commit of its branch main
  vrdir download org/name --revision v1.0   a tag; a branch or a commit as well

Restorers load from the cache afterwards, without network: Restorer.from_pretrained("org/name").
The cache is the Hub client's own (HF_HOME, HF_HUB_CACHE); HF_ENDPOINT names another Hub.

exit codes: 0 done, 2 not there, no network, or not what it should be"""


def add_download(commands: Any) -> None:
    command = commands.add_parser(
        "download",
        help="bring weights from the Hugging Face Hub into the cache",
        description="Download a set of weights from the Hugging Face Hub, and check it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_download)
    command.add_argument("repository", metavar="ORG/NAME")
    command.add_argument("--revision", help="branch, tag or commit (default: main)")


def run_download(arguments: argparse.Namespace) -> None:
    name = arguments.repository
    if name in weights.embedded():
        print(f"{name} is embedded: there is nothing to download")
        return
    if not REPOSITORY.fullmatch(name):
        raise ValueError(f"{name!r} is not org/name")
    folder = weights.fetch(name, arguments.revision, refresh=True)
    restorer = Restorer.from_pretrained(folder)
    print(f"{restorer.extra_repr()}, in {folder}")
    print(f'pinned: Restorer.from_pretrained("{name}", revision="{folder.name}")')
