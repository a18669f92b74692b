"""Files of a repository on the Hugging Face Hub: the cache first, then the network; and publishing.

The Hub's own client does the transfers. It waits and tries again for most of a minute when nobody
answers, and compares sizes only: so ask once first, and check what came by the hash the Hub names.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMEOUT = 5.0  # seconds for the Hub's first answer
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISION = re.compile(r"\w[\w-]*([./][\w-]+)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
# what git and its large files call a content: nothing else may become the name of a file
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def fetch(repository: str, revision: str, limits: Mapping[str, int], refresh: bool = False) -> Path:
    """The folder in the Hub's cache with the files of one commit.

    Args:
        repository: "org/name".
        revision: a commit, or a branch or tag: once in the cache it stays at the commit that was
            downloaded.
        limits: the files' names, and the most bytes that each may have.
        refresh: ask the network what the branch or tag is now, even if the cache has it.

    Raises:
        FileNotFoundError: no such repository, revision or file, or not for this user.
        ConnectionError: no network, no answer, an answer that is not the Hub's, a broken transfer.
        ValueError: the revision is no name, a file is too large or is not what the Hub says it is.
    """
    if not REVISION.fullmatch(revision):
        raise ValueError(f"{revision!r} is not the name of a revision: a commit, branch or tag")
    found = None if refresh else cached(repository, revision, limits)
    folder = found or download(repository, revision, limits)
    for name in limits:
        check_content(folder / name)
    return folder


def cached(repository: str, revision: str, names: Mapping[str, int]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(repository, name, revision=revision) for name in names]
    whole = all(isinstance(path, str) for path in paths)
    return Path(str(paths[0])).parent if whole else None


def download(repository: str, revision: str, limits: Mapping[str, int]) -> Path:
    from huggingface_hub import hf_hub_download

    folder = None
    for name, limit in limits.items():
        # all files of the commit that the first one is of, should the branch move on
        wanted = folder.name if folder else revision
        try:
            ask(repository, wanted, name, limit)
            path = hf_hub_download(repository, name, revision=wanted, etag_timeout=TIMEOUT)
        except ValueError:
            raise
        # the client lets through what its HTTP library raises, and has changed that library twice
        except Exception as error:
            raise explained(error, repository, wanted, name) from error
        folder = Path(path).parent
    assert folder is not None, "nothing was to be downloaded"
    return folder


def ask(repository: str, revision: str, name: str, limit: int) -> None:
    """One question, no second try: is the file there, is it the Hub that answers, how large is it?

    The client makes file names of the commit and the hash in the answer.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=TIMEOUT)
    commit, digest = found.commit_hash or "", found.etag or ""
    if not (COMMIT.fullmatch(commit) and DIGEST.fullmatch(digest)) or found.size is None:
        raise ConnectionError(
            "the answer is not the Hub's: it names no commit, hash and size. "
            "Does a login page or a proxy answer in its place?"
        )
    if found.size > limit:
        raise ValueError(
            f"{repository} has a {name} of {found.size} bytes, expected {limit} at most"
        )


def check_content(path: Path) -> None:
    """The cache keeps a file under the hash of its content; a damaged one is deleted.

    Where the file system has no links the name is not kept, and there is nothing to compare.
    """
    if not path.is_symlink():
        return
    blob = path.parent / os.readlink(path)
    expected = blob.name
    data = path.read_bytes()
    if len(expected) == 40:
        actual = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        path.unlink()
        blob.unlink()
        raise ValueError(
            f"{path.name} came with the hash {actual}, expected {expected}: it was damaged on the "
            "way or in the cache, and is deleted there. Try again"
        )


def explained(error: Exception, repository: str, revision: str, name: str) -> OSError:
    """The client's error as a sentence with a way out."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return FileNotFoundError(
            f"{repository} is open to those only who accept its terms: do so on its page on the "
            "Hub, then `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{repository} has no revision {revision!r}")
    local = isinstance(error, errors.LocalEntryNotFoundError)  # its word for no connection
    if isinstance(error, errors.EntryNotFoundError) and not local:
        return FileNotFoundError(
            f"{repository} has no {name}: it is no set of vrdir-plug's weights"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return FileNotFoundError(
            f"no repository {repository!r} on the Hub that you may read; "
            "if it is private, `hf auth login` first"
        )
    if status == 429:
        return ConnectionError(
            f"the Hub has had too many questions from here (429): wait some minutes before "
            f"{repository} is asked for again, or `hf auth login`"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ConnectionError(f"{repository} is not in the cache, and HF_HUB_OFFLINE is set")
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return ConnectionError(
        f"{repository} could not be downloaded: {reason[0]}. The embedded sets need no network; "
        "a folder with the repository's files serves as well"
    )


def publish(folder: Path, repository: str, private: bool) -> str:
    """Upload a folder's files as one commit, the repository made if need be; returns the commit."""
    from huggingface_hub import HfApi

    api: Any = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    message = "Upload weights with vrdir-plug"
    return str(
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message).oid
    )
