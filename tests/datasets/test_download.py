import gzip
import hashlib
import http.server
import threading
from dataclasses import dataclass, field
from functools import partial

import pytest

from rectilinear import datasets
from rectilinear.datasets import mnist
from rectilinear.datasets.mnist import checksum
from rectilinear.errors import ConfigError, DataError, DiskError

CONTENT = {
    file: bytes(range(200)) * 50 + file.encode() for pair in mnist.FILES.values() for file in pair
}
PACKED = {f"{file}.gz": gzip.compress(data, mtime=0) for file, data in CONTENT.items()}


def sha(data):
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    files: dict
    cut: int | None = None  # bytes sent before the connection closes
    ranges: bool = True
    asked: list = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, site, *args):
        self.site = site
        super().__init__(*args)

    def do_GET(self):
        name, wanted = self.path.rsplit("/", 1)[-1], self.headers.get("Range")
        self.site.asked.append((name, wanted))
        data = self.site.files.get(name)
        if data is None:
            return self.send_error(404)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.site.ranges else 0
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.site.cut])
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
