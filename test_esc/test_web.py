"""The page for enlarging in a browser: the pictures are those of the command, faults are sentences, limits hold."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import browser, complaints, requested
from conftest import TINY, randomise
from PIL import Image, PngImagePlugin

from esc_arch.archs import ESC
from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Picture, Resolution
from esc_arch.pictures.reading import read_picture
from esc_arch.pictures.writing import write_picture
from esc_arch.upscale import upscale_file
from esc_arch.upscale.__main__ import main as upscale
from esc_arch.web import __main__ as web
from esc_arch.web.previews import write_previews
from esc_arch.web.work import BOX, LONGEST, TIMES, Limits, Outcome, Wish, Workshop

NAMES = ["photo.jpg", "deep.png", "scan.tif", "drawing.webp", "grey.bmp"]


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.fixture
def pictures(folder: Path) -> Path:
    """Pictures of several kinds with what belongs to them, and a checkpoint of a tiny network x2."""
    torch.save({"params": randomise(ESC(**TINY, upscaling_factor=2)).state_dict()}, "x2.pth")
    place = folder / "in"
    place.mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "sideways"
    Image.fromarray(noise(24, 20, 3)).save(place / "photo.jpg", exif=exif, dpi=(300, 300))
    deep = Picture(
        noise(17, 20, 4, dtype=np.uint16), resolution=Resolution(72, 72), chunks=((b"tEXt", b"Title\0deep"),)
    )
    write_picture(str(place / "deep.png"), deep)
    write_picture(str(place / "scan.tif"), Picture(noise(15, 16, 1, dtype=np.uint16)))
    Image.fromarray(noise(20, 20, 4)).save(place / "drawing.webp", lossless=True)
    Image.fromarray(noise(12, 33)).save(place / "grey.bmp")
    return place


@pytest.fixture
def workshop(folder: Path) -> Workshop:
    (folder / "work").mkdir()
    return Workshop(str(folder / "work"), "cpu", Limits(upload=100_000, files=6, pixels=2_000, result=20_000))


def last(workshop: Workshop, wish: Wish, **more: Any) -> Outcome:
    *_, outcome = workshop.enlarge(wish, lambda part, text: None, **more)
    return outcome


@pytest.mark.parametrize(
    ("wish", "arguments"),
    [
        ({}, []),
        ({"way": TIMES, "scale": 2.7}, ["--scale", "2.7"]),
        ({"way": BOX, "width": 50, "height": None}, ["--size", "50x"]),
        ({"way": BOX, "width": 70, "height": 31}, ["--size", "70x31"]),
        ({"way": LONGEST, "longest": 40, "scale": 3}, ["--longest", "40"]),
        ({"kind": ".png", "metadata": False}, ["--format", "png", "--metadata", "none"]),
        ({"quality": 60}, ["--quality", "60"]),
    ],
    ids=["own", "times", "width", "box", "longest", "png", "quality"],
)
def test_files_are_those_of_the_command(
    wish: dict[str, Any], arguments: list[str], pictures: Path, workshop: Workshop
) -> None:
    outcome = last(workshop, Wish([str(pictures / name) for name in NAMES], "x2.pth", **wish))
    assert len(outcome.files) == len(NAMES), outcome.lines
    upscale([str(pictures), "-o", "out", "--weights", "x2.pth", "--device", "cpu", *arguments])
    expected = {file.name: file.read_bytes() for file in Path("out").iterdir()}
    assert {os.path.basename(file): Path(file).read_bytes() for file in outcome.files} == expected


def test_what_is_told(pictures: Path, workshop: Workshop) -> None:
    Path("in/notes.txt").write_text("no picture")
    Path("in/empty.png").touch()
    wide = Image.fromarray(noise(40, 51, 3))
    wide.save("in/wide.png")
    names = ["notes.txt", "photo.jpg", "empty.png", "wide.png", "deep.png"]
    told: list[tuple[float, str]] = []
    wish = Wish([str(pictures / name) for name in names], str(Path("x2.pth").resolve()), kind=".jpg")
    steps = [list(outcome.lines) for outcome in workshop.enlarge(wish, lambda *step: told.append(step))]
    assert [len(lines) for lines in steps] == [1, 2, 3, 4, 5], "after each picture"
    notes, photo, empty, wide_told, deep = steps[-1]
    assert notes.startswith("notes.txt")
    assert photo.startswith("photo.jpg: 24 x 20 to 48 x 40 in"), "upright"
    assert empty == "empty.png is empty."
    assert wide_told == "wide.png has 51 x 40 pixels, more than the limit of 2000."
    assert deep == "deep.png: deep_x2.jpg: a JPEG cannot hold 16 bits per channel; choose another format."
    assert str(pictures) not in " ".join(steps[-1])
    assert [part for part, _ in told] == sorted(part for part, _ in told)
    assert told[-1][0] == 0.8


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"pictures": []}, "There is no picture yet; choose one first."),
        ({"pictures": ["a"] * 7}, "7 pictures are too many at a time; take at most 6."),
        ({"way": TIMES, "scale": None}, "The factor must be a number of at least 1."),
        ({"way": TIMES, "scale": float("nan")}, "The factor must be a number of at least 1."),
        ({"way": BOX, "width": 0, "height": None}, "Give a width or a height in pixels, or both."),
        ({"way": BOX, "width": 2.5}, "The width must be a whole number of pixels."),
        ({"way": LONGEST, "longest": -4}, "The longer side must be a whole number of pixels."),
        ({"way": LONGEST}, "Give the pixels of the longer side."),
        ({"quality": 0}, "The quality must be a whole number from 1 to 100."),
        ({"quality": 95.5}, "The quality must be a whole number from 1 to 100."),
    ],
)
def test_wishes_that_cannot_be(wish: dict[str, Any], sentence: str, workshop: Workshop) -> None:
    with pytest.raises(UserError) as error:
        last(workshop, Wish(**{"pictures": ["a.png"], **wish}))
    assert str(error.value) == sentence
    assert not os.listdir(workshop.folder)


def test_limits(pictures: Path, workshop: Workshop) -> None:
    Path("in/large.png").write_bytes(bytes(100_001))
    wish = {"weights": "x2.pth", "way": TIMES}
    assert last(workshop, Wish(["in/large.png"], **wish, scale=2)).lines == [
        "large.png is larger than 0.1 MB; take a smaller file."
    ]
    (told,) = last(workshop, Wish(["in/grey.bmp"], **wish, scale=8)).lines
    assert told.endswith("264 x 96 pixels, and 0.02 million are the most; take a smaller size")
    assert not last(workshop, Wish(["in/grey.bmp"], **wish, scale=8)).files


def test_checkpoints_that_cannot_be_used(pictures: Path, workshop: Workshop) -> None:
    Path("bad.pth").write_bytes(b"no checkpoint")
    (told,) = last(workshop, Wish(["in/grey.bmp"], str(Path("bad.pth").resolve()))).lines
    assert "bad.pth" in told
    assert str(Path.cwd()) not in told


def test_stopping(pictures: Path, workshop: Workshop) -> None:
    wish = Wish([str(pictures / name) for name in NAMES], "x2.pth")
    told: list[str] = []
    steps = list(workshop.enlarge(wish, lambda part, text: told.append(text), lambda: "deep.png" in told))
    assert [os.path.basename(file) for file in steps[-1].files] == ["photo_x2.jpg"]
    assert steps[-1].lines[-1] == "Stopped."
    assert not [name for _, _, names in os.walk(workshop.folder) for name in names if "deep" in name]


def test_results_are_removed_after_a_while(pictures: Path, workshop: Workshop) -> None:
    first = last(workshop, Wish(["in/grey.bmp"], "x2.pth")).files[0]
    second = last(workshop, Wish(["in/grey.bmp"], "x2.pth")).files[0]
    assert first != second
    workshop.lasting = 0
    time.sleep(0.01)
    third = last(workshop, Wish(["in/grey.bmp"], "x2.pth")).files[0]
    assert [Path(file).exists() for file in (first, second, third)] == [False, False, True]


def test_upscale_file_into_a_file(pictures: Path) -> None:
    tiles: list[tuple[int, int]] = []
    done = upscale_file("in/drawing.webp", "big.png", "x2.pth", tile=16, on_tile=lambda *step: tiles.append(step))
    assert (done.file, done.sides, done.enlarged) == ("big.png", (20, 20), (40, 40))
    assert tiles[0][0] == 0
    assert tiles[-1][0] == tiles[-1][1] > 1
    upscale(["in/drawing.webp", "-o", "command.png", "--weights", "x2.pth", "--tile", "16", "--device", "cpu"])
    assert Path("big.png").read_bytes() == Path("command.png").read_bytes()
    upscale_file("in/grey.bmp", "big.png", "x2.pth")
    assert read_picture("big.png", 10_000).pixels.shape == (24, 66, 1), "what was there is replaced"
    with pytest.raises(UserError, match="is not one picture"):
        upscale_file("in", "out", "x2.pth")
    with pytest.raises(UserError, match="does not exist"):
        upscale_file("in/none.png", "out", "x2.pth")


@pytest.mark.parametrize("name", NAMES)
def test_previews(name: str, pictures: Path) -> None:
    done = upscale_file(pictures / name, "out", "x2.pth")
    before, after = (Image.open(file) for file in write_previews(str(pictures / name), done.file, "preview"))
    assert before.size == after.size == done.enlarged[::-1]
    pixels = read_picture(done.file, 10_000).pixels
    if pixels.dtype == np.uint16:
        pixels = np.round(pixels / 257).astype(np.uint8)
    assert np.abs(np.asarray(after).reshape(pixels.shape).astype(int) - pixels).max() == 0


def test_previews_are_small(folder: Path) -> None:
    Image.new("RGB", (3000, 10)).save("before.png")
    Image.new("RGB", (6000, 20)).save("after.png")
    for file in write_previews("before.png", "after.png", "preview"):
        assert Image.open(file).size == (2048, 7)


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        web.main([*arguments])
    return int(end.value.code or 0)


def test_without_gradio(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert ended("--port", "0") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'esc_arch[web]'" in line


def test_command_lines_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--weights", "none.pth") == 1
    assert capsys.readouterr().err == "Error: --weights: none.pth does not exist; name checkpoints.\n"
    assert ended("--host", "203.0.113.7", "--port", "0") == 1
    assert "cannot be listened at" in capsys.readouterr().err
    assert ended("--port", "70000") == 1


WATCHED = """
import socket, sys
def watched(name):
    definition = getattr(socket, name) if name == "getaddrinfo" else getattr(socket.socket, name)
    def call(*args, **kwargs):
        address = args[0] if name == "getaddrinfo" else args[1]
        host = address if isinstance(address, (str, bytes, type(None))) else address[0]
        if host not in (None, "127.0.0.1", "localhost", "::1"):
            print("REACHED", host, file=sys.stderr, flush=True)
        return definition(*args, **kwargs)
    setattr(socket if name == "getaddrinfo" else socket.socket, name, call)
for name in ("getaddrinfo", "connect", "connect_ex"):
    watched(name)
from esc_arch.web.__main__ import main
main(sys.argv[1:])
"""


@contextmanager
def serving(place: Path) -> Iterator[str]:
    """Serve the page as the command does, in a folder that takes `messages` of the server; give its address."""
    pytest.importorskip("gradio")
    torch.save({"params": randomise(ESC(**TINY, upscaling_factor=2)).state_dict()}, place / "x2.pth")
    options = ["--port", "0", "--weights", "x2.pth", "--max-upload", "1", "--max-pixels", "2000", "--device", "cpu"]
    with open(place / "messages", "w") as messages:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, *options], cwd=place, stdout=subprocess.PIPE, stderr=messages, text=True
        )
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("The page is at http://127.0.0.1:"), (place / "messages").read_text()
            yield line.split()[4]
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The page, and its folder with a checkpoint."""
    place = tmp_path_factory.mktemp("served")
    with serving(place) as address:
        yield address, place
    assert (place / "messages").read_text().splitlines() == ["Ended by SIGTERM."], "nothing was reached, nothing failed"


def test_served_to_this_machine_alone(served: tuple[str, Path]) -> None:
    httpx = pytest.importorskip("httpx")
    address, _ = served
    answer = httpx.get(address)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy, "no other origin"
    assert httpx.get(address, headers={"Host": "elsewhere.example"}).status_code == 400
    assert httpx.get(f"{address}/docs").status_code == 404
    large = {"files": ("a.png", bytes(1_000_001))}
    assert httpx.post(f"{address}/gradio_api/upload", files=large).status_code == 413
    many = [("files", (f"{number}.png", bytes(900_000))) for number in range(30)]
    assert httpx.post(f"{address}/gradio_api/upload", files=many).status_code == 413


def asked(address: str, **changes: Any) -> str:
    """Ask the server for pictures as the page does, with some values changed, and return what it answers."""
    import httpx

    values = {"pictures": [], "weights": "", "own": None, "way": "weights", "scale": 2, "width": None, "height": None}
    values |= {"longest": None, "kind": "", "quality": None, "metadata": True, **changes}
    events = httpx.get(f"{address}/config").json()["dependencies"]
    (number,) = [event["id"] for event in events if len(event["inputs"]) == len(values)]
    event = {"data": list(values.values()), "fn_index": number, "session_hash": "one"}
    assert httpx.post(f"{address}/gradio_api/queue/join", json=event).status_code == 200
    return httpx.get(f"{address}/gradio_api/queue/data", params={"session_hash": "one"}, timeout=60).text


def test_only_what_was_uploaded_is_read(tmp_path: Path) -> None:
    """Whoever asks without the page names no files of the server or of others, and no weights that are not offered."""
    pytest.importorskip("gradio")
    import httpx

    (tmp_path / "work").mkdir()
    Image.fromarray(noise(9, 9, 3)).save(tmp_path / "secret.png")
    Path(tmp_path / "work" / "secret.png").write_bytes((tmp_path / "secret.png").read_bytes())
    with serving(tmp_path / "work") as address:
        assert "There is no picture yet" in asked(address)
        for path in (
            tmp_path / "secret.png",
            tmp_path / "work/secret.png",
            "/etc/hostname",
            "http://198.51.100.1/a.png",
        ):
            file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
            for changes in ({"pictures": [file]}, {"own": file}, {"weights": file}, {"scale": file}):
                answer = asked(address, **changes)
                assert '"success":false' in answer, (path, changes)
                assert "secret_x2" not in answer
                assert "no picture yet" not in answer
        assert '"success":false' in asked(address, weights="hf:user/name")
        for path in (tmp_path / "secret.png", tmp_path / "work/secret.png", tmp_path / "work/x2.pth"):
            assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)
    messages = (tmp_path / "work" / "messages").read_text()
    assert "REACHED" not in messages
    assert messages.endswith("Ended by SIGTERM.\n")


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, address: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        self.driver = driver
        self.wait = WebDriverWait(driver, 60, 0.2)
        driver.get(address)
        self.wait.until(lambda _: self.all("#start"))

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.wait.until(lambda _: self.all(selector))[0]

    def choose(self, *files: Path) -> None:
        """Drop pictures on the page in place of those that are there."""
        for button in self.all("#pictures button[aria-label='Clear']"):
            button.click()
        self.one("#pictures input[type=file]").send_keys("\n".join(str(file) for file in files))
        self.wait.until(lambda _: len(self.all("#pictures .file")) == len(files))

    def pick(self, dropdown: str, name: str) -> None:
        """Open a dropdown and click a choice."""
        self.one(f"{dropdown} input").click()
        self.wait.until(lambda _: [found for found in self.all("[role=option]") if found.text.endswith(name)])[
            0
        ].click()
        self.wait.until(lambda _: self.one(f"{dropdown} input").get_property("value") == name)

    def enlarge(self, sentences: int) -> list[str]:
        """Click, wait until the state has another text, of so many sentences, and return them."""
        before = self.state()
        self.one("#start").click()
        self.wait.until(lambda _: self.state() not in (before, ["Working ..."]) and len(self.state()) == sentences)
        return self.state()

    def state(self) -> list[str]:
        return self.one("#state textarea").get_property("value").splitlines()


def test_in_a_browser(served: tuple[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("selenium")
    import httpx
    from selenium.webdriver import ActionChains, Keys

    address, place = served
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "of the picture")
    Image.fromarray(noise(30, 40, 4)).save(tmp_path / "a picture.png", pnginfo=text, dpi=(72, 72))
    Image.fromarray(noise(20, 24, 3)).save(tmp_path / "photo.jpg")
    Image.fromarray(noise(20, 24, 3)).save(tmp_path / "drawing.webp", lossless=True)
    Image.fromarray(noise(50, 50, 3)).save(tmp_path / "wide.png")
    (tmp_path / "notes.txt").write_text("<b>no picture</b>")
    (tmp_path / "large.png").write_bytes(bytes(1_000_001))
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browser(downloads) as driver:
        page = Page(driver, address)
        assert not complaints(driver)
        page.pick("#weights", "x2.pth")

        # one picture: wait, move the slider, download, compare with the command's
        page.choose(tmp_path / "a picture.png")
        assert page.enlarge(1)[0].startswith("a picture.png: 40 x 30 to 80 x 60 in ")
        page.wait.until(lambda _: len(page.all("#slider img")) == 2)
        page.wait.until(
            lambda _: driver.execute_script(
                "return [...document.querySelectorAll('#slider img')].every((image) => image.naturalWidth == 80)"
            )
        )
        handle = page.one("#slider .outer")
        before = handle.rect["x"]
        ActionChains(driver).move_to_element(handle).click_and_hold().move_by_offset(-60, 0).release().perform()
        page.wait.until(lambda _: abs(handle.rect["x"] - before + 60) < 3)
        before = handle.rect["x"]
        handle.send_keys(Keys.ARROW_RIGHT)
        page.wait.until(lambda _: 2 < handle.rect["x"] - before < 20)
        handle.send_keys(Keys.HOME)
        page.wait.until(lambda _: handle.rect["x"] < before - 50)
        page.wait.until(lambda _: handle.get_attribute("aria-valuenow") == "0")
        page.one("#results a").click()
        downloaded = downloads / "a picture_x2.png"
        page.wait.until(lambda _: downloaded.exists())
        upscale([str(tmp_path / "a picture.png"), "-o", str(tmp_path), "--weights", str(place / "x2.pth")])
        page.wait.until(lambda _: downloaded.stat().st_size == (tmp_path / "a picture_x2.png").stat().st_size)
        assert downloaded.read_bytes() == (tmp_path / "a picture_x2.png").read_bytes()

        # several, of which some cannot be enlarged, to a size
        page.one("#way label:nth-of-type(4)").click()
        longest = page.wait.until(lambda _: [found for found in page.all("#longest input") if found.is_displayed()])[0]
        longest.clear()
        longest.send_keys("100", Keys.TAB)
        names = ("notes.txt", "photo.jpg", "wide.png", "drawing.webp", "a picture.png")
        page.choose(*(tmp_path / name for name in names))
        notes, photo, wide, _, picture = page.enlarge(5)
        assert notes.startswith("notes.txt")
        assert photo.startswith("photo.jpg: 24 x 20 to 100 x 83 in ")
        assert wide == "wide.png has 50 x 50 pixels, more than the limit of 2000."
        assert picture.startswith("a picture.png: 40 x 30 to 100 x 75 in ")
        page.wait.until(lambda _: len(page.all("#results a")) == 3)
        enlarged = [str(tmp_path / name) for name in ("photo.jpg", "drawing.webp", "a picture.png")]
        upscale([*enlarged, "-o", str(tmp_path / "out"), "--weights", str(place / "x2.pth"), "--longest", "100"])
        links = {link.get_attribute("download"): link.get_attribute("href") for link in page.all("#results a")}
        expected = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
        assert {name: httpx.get(link).content for name, link in links.items()} == expected
        assert page.one("#chosen input").get_property("value") == "5. a picture.png"
        shown = [image.get_attribute("src") for image in page.all("#slider img")]
        page.pick("#chosen", "2. photo.jpg")
        page.wait.until(lambda _: [image.get_attribute("src") for image in page.all("#slider img")] != shown)

        # a file that is too large is refused before it is sent, or by the server
        page.one("#pictures button[aria-label='Clear']").click()
        page.one("#pictures input[type=file]").send_keys(str(tmp_path / "large.png"))
        page.wait.until(lambda _: "exceed the maximum allowed size" in driver.find_element("css selector", "body").text)
        assert not page.all("#pictures .file")

        assert [url for url in requested(driver) if not url.startswith(f"{address}/")] == []
        assert not [message for message in complaints(driver) if "Content Security Policy" in message]
