"""Downloads: once, resumed, several at once, of bounded size, and of known content only."""

import gzip
import hashlib
import http.server
import multiprocessing
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from rectilinear import datasets
from rectilinear.datasets import mnist
from rectilinear.datasets.mnist import checksum, read_bytes
from rectilinear.errors import ConfigError, DataError, DiskError, RectilinearError

CONTENT = {
    file: bytes(range(200)) * 50 + file.encode() for pair in mnist.FILES.values() for file in pair
}
PACKED = {f"{file}.gz": gzip.compress(data, mtime=0) for file, data in CONTENT.items()}
PIECE = 1 << 16  # bytes


def sha(data):
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    files: dict
    cut: int | None = None  # bytes sent before the connection closes
    ranges: bool = True
    sized: bool = True  # whether it says how many bytes there are
    together: threading.Barrier | None = None  # requests that wait for each other before the bytes
    asked: list = field(default_factory=list)
    sent: int = 0  # bytes


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, site, *args):
        self.site = site
        super().__init__(*args)

    def do_GET(self):
        site = self.site
        name, wanted = self.path.rsplit("/", 1)[-1], self.headers.get("Range")
        site.asked.append((name, wanted))
        data = site.files.get(name)
        if data is None:
            return self.send_error(404)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and site.ranges else 0
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if site.sized:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if site.together is not None:
            with suppress(threading.BrokenBarrierError):
                site.together.wait(2)
        rest = data[start:][: site.cut]
        with suppress(OSError):  # the reader has had enough
            for i in range(0, len(rest), PIECE):
                self.wfile.write(rest[i : i + PIECE])
                site.sent += len(rest[i : i + PIECE])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function that serves a Site on this machine and gives its address; MNIST's content is small
    for the time.
    """
    md5, sha256 = ({file: of(data) for file, data in CONTENT.items()} for of in (checksum, sha))
    family = mnist.Family(tuple("0123456789"), md5, (), sha256)
    monkeypatch.setitem(mnist.FAMILIES, "mnist", family)
    for file, data in CONTENT.items():
        monkeypatch.setitem(mnist.SIZES, file, len(data))
    servers = []

    def start(site):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site))
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/data"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_complete(folder):
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == PACKED


def test_downloads_once(tmp_path, serve):
    site = Site(PACKED)
    folder = datasets.download("mnist", tmp_path, [serve(site)])
    assert folder == tmp_path / "mnist"
    assert_complete(folder)
    datasets.download("mnist", tmp_path, [])
    assert len(site.asked) == 4


def test_resumes_where_the_connection_closed(tmp_path, serve):
    broken, whole = Site(PACKED, cut=100), Site(PACKED)
    with pytest.raises(DataError, match="closed after 100 of"):
        datasets.download("mnist", tmp_path, [serve(broken)])
    assert [p.name for p in (tmp_path / "mnist").iterdir()] == ["train-images-idx3-ubyte.gz.part"]
    assert_complete(datasets.download("mnist", tmp_path, [serve(whole)]))
    assert whole.asked[0] == ("train-images-idx3-ubyte.gz", "bytes=100-")
    assert whole.asked[1][1] is None


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_another_file_is_dropped(tmp_path, serve, ranges):
    site = Site(PACKED, ranges=ranges)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz.part").write_bytes(b"of another server")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte.gz.part").write_bytes(bytes(10**6))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz.part").write_bytes(
        PACKED["t10k-labels-idx1-ubyte.gz"]
    )
    assert_complete(datasets.download("mnist", tmp_path, [serve(site)]))


def test_a_wrong_or_absent_file_sends_to_the_next_mirror(tmp_path, serve):
    wrong, absent, right = Site(dict.fromkeys(PACKED, gzip.compress(b"no"))), Site({}), Site(PACKED)
    mirrors = [serve(wrong), serve(absent), serve(right)]
    assert_complete(datasets.download("mnist", tmp_path, mirrors))
    assert len(wrong.asked) == len(absent.asked) == len(right.asked) == 4


def test_damaged_files_are_fetched_again(tmp_path, serve):
    site = Site(PACKED)
    address = serve(site)
    folder = datasets.download("mnist", tmp_path, [address])
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"not the file")
    assert_complete(datasets.download("mnist", tmp_path, [address]))
    assert len(site.asked) == 5


def test_no_network_is_said_clearly(tmp_path, serve):
    with pytest.raises(DataError, match="expected a network") as error:
        datasets.download("mnist", tmp_path, ["http://127.0.0.1:1/", serve(Site({}))])
    assert "Connection refused" in str(error.value)
    assert "404" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_destination_and_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        datasets.download("mnist", tmp_path / "file", [])
    with pytest.raises(ConfigError, match="expected one of mnist, fashion_mnist"):
        datasets.download("cifar10", tmp_path)


def fetch(folder, address, answers):
    try:
        answers.put(str(datasets.download("mnist", folder, [address])))
    except RectilinearError as error:
        answers.put(repr(error))


def test_three_processes_at_once_all_succeed(tmp_path, serve):
    address = serve(Site(PACKED, sized=False, together=threading.Barrier(3)))
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
    address = serve(Site(PACKED, sized=False, together=threading.Barrier(3)))
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
    site = Site(dict.fromkeys(PACKED, bytes(size)), sized=False)
    with pytest.raises(DataError, match="more than"):
        datasets.download("mnist", tmp_path, [serve(site)])
    assert site.sent < size / 2
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_grows_without_end_is_left(tmp_path, serve):
    address = serve(Site(dict.fromkeys(PACKED, gzip.compress(bytes(5_000_000))), sized=False))
    with pytest.raises(DataError, match="another content"):
        datasets.download("mnist", tmp_path, [address])
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_bytes(path, 1000)
    assert len(read_bytes(path, 5_000_000)) == 5_000_000


def test_content_of_the_same_md5_and_another_sha256_is_refused(tmp_path, serve, monkeypatch):
    address = serve(Site(PACKED, sized=False))
    other = dict.fromkeys(CONTENT, "0" * 64)
    family = mnist.FAMILIES["mnist"]
    family = mnist.Family(family.classes, family.md5, (), other)
    monkeypatch.setitem(mnist.FAMILIES, "mnist", family)
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
        assert sha(data) == digest
        assert len(data) == mnist.SIZES[file]
