"""What `fetch` accepts, refuses and stores, without network access outside this machine."""

import hashlib
import http.server
import os
import threading
import zipfile

import pytest

import main
from ttp_jax import fetch

NETWORK = b"\x00\x00\x00\x00TFL3" + bytes(range(256)) * 40
OTHER = NETWORK + b"another version"
LICENCE = "The terms of the Apache License"


def wheel(path, landmarks=NETWORK, detector=NETWORK + b"d"):
    """A zip file laid out as mediapipe's wheels are, or as a `.task` file."""
    inside = {
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite": landmarks,
        "mediapipe/modules/pose_detection/pose_detection.tflite": detector,
        "mediapipe-0.10.21.dist-info/LICENSE": LICENCE.encode(),
        "../../outside.py": b"never written",
    }
    if path.suffix == ".task":
        inside = {"pose_landmarks_detector.tflite": landmarks, "pose_detector.tflite": detector}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in inside.items():
            file.writestr(name, data)
    return path


@pytest.fixture
def pinned(monkeypatch):
    """As if the networks of `wheel` were the published ones."""
    contents = (NETWORK, NETWORK + b"d")
    parts = tuple(
        part._replace(sha256=hashlib.sha256(data).hexdigest())
        for part, data in zip(fetch.BLAZEPOSE, contents, strict=True)
    )
    monkeypatch.setattr(fetch, "BLAZEPOSE", parts)


@pytest.fixture(autouse=True)
def no_pip(monkeypatch):
    """No test downloads anything: pip gets an index that isn't there."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


KEPT = {"pose_landmark_full.tflite", "pose_detection.tflite", "LICENSE.txt"}


def test_a_wheel_that_pip_left_is_unpacked_checked_and_deleted(tmp_path, pinned):
    place = tmp_path / "blazepose"
    wheel(place / "partial" / "mediapipe-0.10.21-any.whl")
    assert len(fetch.blazepose(place)) == 2
    assert files(tmp_path) == {f"blazepose/{name}" for name in KEPT}
    assert (place / "pose_landmark_full.tflite").read_bytes() == NETWORK
    text = (place / "LICENSE.txt").read_text()
    assert LICENCE in text and "apache.org/licenses/LICENSE-2.0" in text
    # A second time nothing is asked of pip, which would fail.
    assert all("already" in line for line in fetch.blazepose(place))


def test_another_content_than_the_pinned_one_is_refused(tmp_path, pinned):
    place = tmp_path / "blazepose"
    wheel(place / "partial" / "mediapipe-0.10.21-any.whl", landmarks=OTHER)
    with pytest.raises(
        ValueError, match=r"pose_landmark_full\.tflite in .* differs from that of mediapipe"
    ):
        fetch.blazepose(place)
    assert not files(tmp_path)


def test_without_the_internet_the_error_says_what_else_to_do(tmp_path):
    with pytest.raises(OSError, match=r"pip can't get mediapipe==0\.10\.21 .*--from FILE") as error:
        fetch.blazepose(tmp_path)
    assert "pip download --no-deps --only-binary" in str(error.value)
    assert not files(tmp_path)


def test_a_damaged_network_is_replaced_and_not_lost(tmp_path, pinned):
    place = tmp_path / "blazepose"
    wheel(place / "partial" / "a.whl")
    fetch.blazepose(place)
    (place / "pose_landmark_full.tflite").write_bytes(OTHER)
    wheel(place / "partial" / "a.whl")
    fetch.blazepose(place)
    assert (place / "pose_landmark_full.tflite").read_bytes() == NETWORK
    assert (place / "pose_landmark_full.old1.tflite").read_bytes() == OTHER


@pytest.mark.parametrize("name", ["mine.whl", "pose_landmarker_full.task", "mine.tflite"])
def test_a_file_of_the_user_s_is_taken(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".tflite":
        path.write_bytes(NETWORK)
    else:
        wheel(path)
    place = tmp_path / "weights"
    done = fetch.blazepose(place, path)
    assert (place / "pose_landmark_full.tflite").read_bytes() == NETWORK
    assert any("differs from that of" in line for line in done)
    both = path.suffix != ".tflite"
    assert (place / "pose_detection.tflite").exists() == both
    assert any("holds no pose_detection" in line for line in done) != both
    assert not (tmp_path / "outside.py").exists()


def test_files_that_hold_no_network_are_named(tmp_path):
    for name, content in (
        ("a.whl", b"no zip"),
        ("b.task", b"PK\x03\x04 cut off"),
        ("c.tflite", b""),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is damaged or not a wheel"):
            fetch.blazepose(tmp_path / "weights", path)
    with zipfile.ZipFile(tmp_path / "d.whl", "w") as file:
        file.writestr("mediapipe/modules/hand.tflite", NETWORK)
    with pytest.raises(ValueError, match=r"d\.whl holds no pose_landmark_full\.tflite"):
        fetch.blazepose(tmp_path / "weights", tmp_path / "d.whl")
    with pytest.raises(FileNotFoundError, match="e.whl"):
        fetch.blazepose(tmp_path / "weights", tmp_path / "e.whl")
    whole = wheel(tmp_path / "f.whl").read_bytes()
    place = whole.index(b"pose_landmark_full.tflite") + 60
    (tmp_path / "f.whl").write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])
    with pytest.raises(ValueError, match=r"f\.whl is damaged or not a wheel, \.task or \.tflite"):
        fetch.blazepose(tmp_path / "weights", tmp_path / "f.whl")
    assert not (tmp_path / "weights").exists()


def test_a_zip_bomb_is_not_blown_up(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MOST_BYTES", 2**20)
    path = wheel(tmp_path / "bomb.whl", landmarks=bytes(2**24))
    with pytest.raises(ValueError, match="is larger than 1 MiB"):
        fetch.parts_of(path)


# --- torchvision ---------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 3000
NAME = f"resnet18-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine that breaks off after some bytes, and continues where asked to."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        content, most = CONTENT, 10**9

        def do_GET(self):
            header = self.headers.get("Range", "bytes=0-")
            first = int(header.removeprefix("bytes=").rstrip("-"))
            asked.append((self.path, first))
            if self.path != f"/{NAME}":
                return self.send_error(404)
            if first >= len(self.content):
                return self.send_error(416)
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(self.content) - first))
            self.end_headers()
            self.wfile.write(self.content[first : first + self.most])
            return None

        def log_message(self, *_):
            pass

    monkeypatch.setitem(fetch.PUBLISHED, "resnet18", NAME)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", Handler, asked
        running.shutdown()
        thread.join()


def test_a_download_goes_on_where_it_broke_off(tmp_path, server):
    address, handler, asked = server
    handler.most, told = 300_000, []
    with pytest.raises(OSError, match=r"ended after 300000 of 768000 bytes.*--from FILE"):
        fetch.torchvision("resnet18", tmp_path, address=address)
    assert (tmp_path / f"{NAME}.part").stat().st_size == 300_000
    handler.most = 10**9
    path = fetch.torchvision(
        "resnet18", tmp_path, address=address, progress=lambda *n: told.append(n)
    )
    assert path.read_bytes() == CONTENT and path.name == NAME and told[-1] == (768_000, 768_000)
    assert [first for _, first in asked] == [0, 300_000]
    assert files(tmp_path) == {NAME}
    fetch.torchvision("resnet18", tmp_path, address=address)  # it is there
    assert len(asked) == 2
    # All bytes were there, only the check was not made.
    path.rename(tmp_path / f"{NAME}.part")
    assert fetch.torchvision("resnet18", tmp_path, address=address).read_bytes() == CONTENT


def test_another_content_than_the_name_says_is_deleted(tmp_path, server):
    address, handler, _ = server
    handler.content = b"an error page"
    with pytest.raises(ValueError, match=r"has the SHA-256 .*, expected "):
        fetch.torchvision("resnet18", tmp_path, address=address)
    assert not files(tmp_path)
    path = tmp_path / "mine.pth"
    path.write_bytes(b"not it")
    with pytest.raises(ValueError, match=r"mine\.pth has the SHA-256"):
        fetch.torchvision("resnet18", tmp_path / "weights", path)
    path.write_bytes(CONTENT)
    assert fetch.torchvision("resnet18", tmp_path / "weights", path).read_bytes() == CONTENT
    (tmp_path / "weights" / NAME).write_bytes(b"damaged since")
    with pytest.raises(ValueError, match="Delete it and fetch it again"):
        fetch.torchvision("resnet18", tmp_path / "weights", address=address)


def test_an_address_that_answers_nothing_is_one_line(tmp_path, server):
    address, *_ = server
    for wrong in (f"{address}elsewhere/", "http://127.0.0.1:9/"):
        with pytest.raises(OSError, match=r"can't be reached .*fetch resnet18 --from FILE"):
            fetch.torchvision("resnet18", tmp_path, address=wrong)


# --- The command ---------------------------------------------------------------------------------


def test_the_command_says_in_a_line_what_is_wrong(tmp_path, capsys):
    words = ["main.py", "fetch", "blazepose", "--to", str(tmp_path), "--from", "gone.whl"]
    assert main.main(words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "gone.whl does not exist" in lines[0]
    assert main.main(["main.py", "fetch"]) == 0
    assert "--from FILE" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main(["main.py", "fetch", "openpose"])
    assert "blazepose" in capsys.readouterr().err


def test_the_folder_is_the_user_s_or_the_one_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(fetch.FOLDER, raising=False)
    assert fetch.folder() == tmp_path / ".cache" / "ttp_jax" / "weights"
    monkeypatch.setenv(fetch.FOLDER, "~/mine")
    assert fetch.folder() == tmp_path / "mine"
