"""Downloads: several at once, of bounded size, and of known content only."""

import gzip
import hashlib
import http.server
import multiprocessing
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from rectilinear import datasets
from rectilinear.datasets import mnist
from rectilinear.datasets.mnist import checksum, read_bytes
from rectilinear.errors import DataError, RectilinearError

CONTENT = {
    file: bytes(range(200)) * 40 + file.encode() for pair in mnist.FILES.values() for file in pair
}
PACKED = {f"{file}.gz": gzip.compress(data, mtime=0) for file, data in CONTENT.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``files``; each first byte waits until ``together`` requests are there, so that
    downloads overlap.
    """

    def __init__(self, files, together, sent, *args):
        self.files, self.together, self.sent = files, together, sent
        super().__init__(*args)

    def do_GET(self):
        data = self.files[self.path.rsplit("/", 1)[-1]]
        start = (
            int(self.headers["Range"].split("=")[1].rstrip("-")) if "Range" in self.headers else 0
        )
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.end_headers()
        if self.together is not None:
            with suppress(threading.BrokenBarrierError):
                self.together.wait(2)
        try:
            for i in range(start, len(data), 1 << 16):
                self.wfile.write(data[i : i + (1 << 16)])
                self.sent.append(min(1 << 16, len(data) - i))
        except OSError:  # the reader has had enough
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    md5 = {file: checksum(data) for file, data in CONTENT.items()}
    sha = {file: hashlib.sha256(data).hexdigest() for file, data in CONTENT.items()}
    monkeypatch.setitem(mnist.FAMILIES, "mnist", mnist.Family(tuple("01"), md5, (), sha))
    for file, data in CONTENT.items():
        monkeypatch.setitem(mnist.SIZES, file, len(data))
    servers = []

    def start(files, together=None):
        sent = []
        handler = partial(Handler, files, together, sent)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", sent

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(folder, address, answers):
    try:
        answers.put(str(datasets.download("mnist", folder, [address])))
    except RectilinearError as error:
        answers.put(repr(error))


def assert_complete(folder: Path):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == PACKED


def test_three_processes_at_once_all_succeed(tmp_path, serve):
    address, _ = serve(PACKED, threading.Barrier(3))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=fetch, args=(tmp_path, address, answers)) for _ in range(3)]
    for child in children:
        child.start()
    assert [answers.get(timeout=60) for _ in children] == [str(tmp_path / "mnist")] * 3
    for child in children:
        child.join()
    assert_complete(tmp_path / "mnist")


def test_three_threads_at_once_all_succeed(tmp_path, serve):
    address, _ = serve(PACKED, threading.Barrier(3))
    failures = []

    def work():
        try:
            datasets.download("mnist", tmp_path, [address])
        except RectilinearError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_complete(tmp_path / "mnist")


def test_a_file_without_end_is_left(tmp_path, serve):
    size = 50_000_000
    address, sent = serve(dict.fromkeys(PACKED, bytes(size)))
    with pytest.raises(DataError, match="more than"):
        datasets.download("mnist", tmp_path, [address])
    assert sum(sent) < size / 2
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_grows_without_end_is_left(tmp_path, serve):
    address, _ = serve(dict.fromkeys(PACKED, gzip.compress(bytes(5_000_000))))
    with pytest.raises(DataError, match="another content"):
        datasets.download("mnist", tmp_path, [address])
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_bytes(path, 1000)
    assert len(read_bytes(path, 5_000_000)) == 5_000_000


def test_content_of_the_same_md5_and_another_sha256_is_refused(tmp_path, serve, monkeypatch):
    address, _ = serve(PACKED)
    sha = dict.fromkeys(CONTENT, "0" * 64)
    family = mnist.FAMILIES["mnist"]
    monkeypatch.setitem(mnist.FAMILIES, "mnist", mnist.Family(family.classes, family.md5, (), sha))
    with pytest.raises(DataError, match="another content"):
        datasets.download("mnist", tmp_path, [address])


def test_nothing_is_written_where_all_is_there(tmp_path, serve, monkeypatch):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, data in PACKED.items():
        (folder / name).write_bytes(data)
    monkeypatch.setattr(Path, "mkdir", None)
    assert datasets.download("mnist", tmp_path, []) == folder


@pytest.mark.parametrize("name", mnist.FAMILIES)
def test_every_file_has_a_size_and_two_checksums(name):
    family = mnist.FAMILIES[name]
    files = {file for pair in mnist.FILES.values() for file in pair}
    assert set(family.md5) == set(family.sha256) == set(mnist.SIZES) == files
    assert all(len(digest) == 64 for digest in family.sha256.values())


def test_the_known_sha256_of_mnist_is_that_of_the_files(mnist_dir):
    for file, digest in mnist.FAMILIES["mnist"].sha256.items():
        data = read_bytes(mnist.find("mnist", file, mnist_dir), mnist.SIZES[file])
        assert hashlib.sha256(data).hexdigest() == digest
        assert len(data) == mnist.SIZES[file]
