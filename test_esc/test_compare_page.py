"""The page of the comparison: what is written, which pictures it holds, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from browsing import browser, complaints, requested
from comparing import QUICK, compare, entries, networks, write
from conftest import TINY

from esc_arch.compare import crops, page, svg
from esc_arch.compare.bubbles import Bubble, Chart, charts
from esc_arch.compare.crops import GT, LQ, embedded, scenes
from esc_arch.compare.job import Protocol
from esc_arch.compare.options import read_rows
from esc_arch.compare.pictures import YOUNG, Album, sweep
from esc_arch.compare.runner import Plan

Options = dict[str, Any]
EVIL = "</script><script>alert(1)</script>&amp;\"'"


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and data.strip():
            self.scripts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def shown(text: str) -> list[Options]:
    """The pictures that a page holds."""
    return json.loads(Elements(text).scripts[0])


def decoded(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def choices(scene: Options) -> dict[str, np.ndarray]:
    return {choice["label"]: decoded(choice["src"]) for choice in scene["choices"]}


class Model:
    """As BasicSR's validation uses a model: fed with an image, asked once for its pictures."""

    def __init__(self, results: list[np.ndarray], truths: list[np.ndarray]) -> None:
        self.results, self.truths = results, truths
        self.image = -1

    def feed_data(self, data: Options) -> None:
        self.image = data["number"]

    def get_current_visuals(self) -> dict[str, torch.Tensor]:
        result, truth = (
            torch.from_numpy(pixels[self.image]).permute(2, 0, 1)[None].float() / 255
            for pixels in (self.results, self.truths)
        )
        return {"lq": truth[..., ::2, ::2], "result": result, "gt": truth}


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fill(album: Album, results: list[np.ndarray], truths: list[np.ndarray] | None = None) -> None:
    model = Model(results, truths or [picture(50 + number) for number in range(len(results))])
    with album.filled_by(model):
        for number in range(len(results)):
            model.feed_data({"number": number, "lq_path": [f"/data/lq/<b>{number}x2.png"]})
            model.get_current_visuals()


def line(label: str, latency: float, psnr: float, **more: Any) -> Options:
    return {
        "label": label,
        "file": f"{label}.yml",
        "type": "ESC",
        "scale": 2,
        "dtype": "fp32",
        "runtime": "pytorch",
        "sets": ["Set5"],
        "quality": {"Set5": {"psnr": psnr, "ssim": 0.93}},
        "problems": {},
        "remark": "",
        "parameters": 946728,
        "macs": 591_983_033_600,
        "latency_ms": {"median": latency, "q1": 0.9 * latency, "q3": 1.2 * latency, "rounds": []},
        "memory_mib": 20 * latency,
        **more,
    }


LABELS = ("ten", EVIL, "nine")


@pytest.fixture
def summary() -> Options:
    summary: Options = {
        "environment": {"cpu": "a <cpu>", "gpu": None},
        "protocol": {"input": {"x2": [36, 64]}},
        "conventions": ["MACs: so & so."],
        "networks": [
            line(LABELS[0], 10, 34.5),
            line(LABELS[1], 100, 33.25, remark=EVIL),
            line(LABELS[2], 9, 34.123),
            line("bicubic", 1, 30.0),
        ],
        "claims": [],
    }
    for figure in ("parameters", "macs", "latency_ms", "memory_mib"):
        del summary["networks"][3][figure]
    return summary


@pytest.fixture
def plan(folder: Path) -> Plan:
    """A comparison of three networks on two images each, whose results are noise, at x2."""
    options = {"scale": 2, "network_g": {"type": "ESC", **TINY, "upscaling_factor": 2}, "path": {}}
    options["datasets"] = {"test": {"name": "Set5", "type": "PairedImageDataset", "dataroot_gt": "HR"}}
    Path("w.pth").touch()
    files = [f"{number}.yml" for number in range(3)]
    for file in files:
        Path(file).write_text(yaml.safe_dump(options))
    rows = read_rows(files, [f"{file}=w.pth" for file in files], None)
    plan = Plan(rows, {2: (36, 64)}, Protocol("cpu", False, 0, 1, 1), 1, {}, "out", (), 2)
    for number, row in enumerate(rows):
        row.label = LABELS[number]
        fill(plan.album(row, "Set5"), [picture(10 * number + image) for image in range(3)])
    return plan


def test_the_first_pictures_are_kept(folder: Path) -> None:
    album = Album("out/pictures/a.json", 2)
    assert not album.is_there()
    fill(album, [picture(number) for number in range(3)])
    assert album.is_there()
    assert [entry["name"] for entry in album.entries()] == ["<b>0x2", "<b>1x2"]
    for number, entry in enumerate(album.entries()):
        assert np.array_equal(album.pixels(entry["result"])[..., ::-1], picture(number))
        assert np.array_equal(album.pixels(entry["gt"])[..., ::-1], picture(50 + number))
        assert np.array_equal(album.pixels(entry["lq"])[..., ::-1], picture(50 + number)[::2, ::2])
    assert Album(album.file, 1).is_there()
    assert not Album(album.file, 3).is_there(), "the data set may have more"
    fill(Album(album.file, 5), [picture(number) for number in range(3)])
    assert Album(album.file, 9).is_there(), "the data set has three"
    assert len(list(Path("out/pictures").glob("*.png"))) == 9, "the same pictures are there once"

    Path(album.path(album.entries()[1]["gt"])).unlink()
    assert not album.is_there()
    Path(album.file).write_text('{"most": 2, "pic')
    assert not album.is_there()


def test_a_failed_validation_leaves_no_list(folder: Path) -> None:
    album, model = Album("out/pictures/a.json", 1), Model([picture(0)], [picture(1)])

    def fail() -> None:
        with album.filled_by(model):
            model.feed_data({"number": 0})
            model.get_current_visuals()
            model.feed_data({})

    with pytest.raises(KeyError):
        fail()
    assert not album.is_there()


def test_pictures_that_no_list_names_are_swept(plan: Plan) -> None:
    folder = Path("out/pictures")
    old, young = folder / f"{'0' * 20}.png", folder / f"{'1' * 20}.png"
    own = [*folder.iterdir(), folder / "note.png"]
    for file in (old, young, folder / "note.png"):
        file.touch()
    for file in (*own, old):
        os.utime(file, (0, time.time() - 2 * YOUNG))
    sweep(str(folder))
    assert sorted(folder.iterdir()) == sorted([*own, young])
    assert all(plan.album(row, "Set5").is_there() for row in plan.rows)
    album = plan.album(plan.rows[0], "Set5")
    fill(album, [picture(image) for image in range(3)])
    assert Path(album.path(album.entries()[0]["result"])).stat().st_mtime > time.time() - YOUNG, "named again"
    sweep("nowhere")


def test_pictures_of_the_page(plan: Plan) -> None:
    cut, side = embedded(scenes(plan))
    assert side == crops.LARGEST
    assert [scene["title"] for scene in cut] == ["Set5: <b>0x2, x2", "Set5: <b>1x2, x2"]
    for number, scene in enumerate(cut):
        assert (scene["width"], scene["height"]) == (80, 60)
        found = choices(scene)
        assert list(found) == [*LABELS, GT, LQ]
        for index, label in enumerate(LABELS):
            assert np.array_equal(found[label][..., ::-1], picture(10 * index + number))
        assert np.array_equal(found[GT][..., ::-1], picture(50 + number))
        assert np.array_equal(found[LQ][..., ::-1], picture(50 + number)[::2, ::2])


def test_large_pictures_are_cut_where_they_differ(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "LARGEST", 17)
    grey = np.full((60, 80, 3), 128, np.uint8)
    for number, row in enumerate(plan.rows):
        result = grey.copy()
        result[40:44, 21:25] += 10 * number
        fill(plan.album(row, "Set5"), [result], [grey])
    (cut,), side = embedded(scenes(plan)[:1])
    assert side == 17
    assert (cut["width"], cut["height"]) == (16, 16), "whole LQ pixels"
    found = choices(cut)
    brightest = found[LABELS[2]]
    assert (brightest == 148).sum() == 4 * 4 * 3, "all of the place where they differ"
    assert found[LQ].shape == (8, 8, 3)
    assert found[GT].shape == (16, 16, 3)


def test_the_page_is_bounded(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "SMALLEST", 8)
    monkeypatch.setattr(crops, "PIXELS", 2 * 5 * 20 * 20)
    cut, side = embedded(scenes(plan))
    assert (len(cut), side) == (2, 20)
    monkeypatch.setattr(crops, "PIXELS", 9 * 8 * 8)
    cut, side = embedded(scenes(plan))
    assert len(cut) == 1, "smaller squares show nothing; there are fewer images instead"
    assert side == 10
    assert sum(pixels.size / 3 for pixels in choices(cut[0]).values()) <= 9 * 8 * 8


def test_one_network_alone(plan: Plan) -> None:
    plan.rows[1:] = []
    (first, _), _ = embedded(scenes(plan))
    assert list(choices(first)) == [LABELS[0], GT, LQ]


def test_page_without_network_access(plan: Plan, summary: Options) -> None:
    text = Path(page.write(summary, plan)).read_text(encoding="utf-8")
    elements = Elements(text)
    assert len(elements.all("script")) == len(elements.scripts) == 2, "names are text"
    assert not elements.all("b")
    addresses = [a[name] for _, a in elements.found for name in ("src", "href", "srcset", "action") if name in a]
    assert addresses == ["data:,"], "the icon, and pictures in the data"
    policy = next(a["content"] for a in elements.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|https?:(?!//www\.w3\.org)", text)
    assert [row.get("scope") for row in elements.all("th")].count("row") == 4
    values = [cell["data-value"] for cell in elements.all("td") if "data-value" in cell]
    assert "34.123" in values
    assert "" in values, "what was not measured has no value"
    assert len(elements.all("circle")) == 3 + 2, "three networks, and two that explain the sizes"
    assert "MACs: so &amp; so." in text
    assert "a &lt;cpu&gt;" in text


def test_page_without_pictures(plan: Plan, summary: Options) -> None:
    for row in plan.rows:
        row.weights = None
    for entry in summary["networks"]:
        entry.pop("latency_ms", None)
    text = Path(page.write(summary, plan)).read_text()
    assert "No result pictures: no network has weights and a data set." in text
    assert "No chart: it needs a network with both PSNR and latency." in text


def test_numbers_are_sorted_as_numbers() -> None:
    for text, value in {
        "28.430": "28.430",
        "x4": "4",
        "+0.012": "+0.012",
        "1.5 - 2.0": "1.5",
        "3.7x less": "3.7",
    }.items():
        match = page.NUMBER.fullmatch(text)
        assert match
        assert match[1] == value
    assert page._is_numeric(["28.43", "-", "failed", ""])
    assert not page._is_numeric(["28.43", "SPAN"])
    assert not page._is_numeric(["-", "-"])


def test_chart_places_values() -> None:
    bubbles = [Bubble("a", 10.0, (9.0, 11.0), 30.0, 400.0), Bubble("b", 1000.0, (900.0, 1100.0), 31.0, 100.0)]
    chart = Chart("x2", "a.png", "ms", "on a cpu", "dB", bubbles, {"bicubic": 28.0, "c": 30.5})
    drawn = svg.drawn(chart, 0)
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', drawn)
    (x1, y1, r1), (x2, y2, r2) = [[float(value) for value in circle] for circle in found]
    assert r1 == pytest.approx(2 * r2, abs=0.1), "the area is the memory"
    axis = svg.Axis([9.0, 1100.0], (svg.LEFT, svg.RIGHT), logarithmic=True)
    assert (x1, x2) == pytest.approx((axis.place(10), axis.place(1000)), abs=0.1)
    assert axis.place(100) == pytest.approx((x1 + x2) / 2, abs=0.1)
    assert y1 > y2, "a better one is above"
    assert [text for _, text in axis.ticks()] == ["5", "10", "20", "50", "100", "200", "500", "1000", "2000"]
    assert "bicubic: 28.00 dB (below)" in drawn
    assert drawn.count('class="baseline"') == 1
    assert svg.Axis([30.0, 31.0], (0, 1)).ticks()[0] == (30.0, "30.0")


@pytest.mark.parametrize("memory", [None, 0.0, 5.0])
def test_chart_of_one_network(memory: float | None) -> None:
    drawn = svg.drawn(Chart("", "", "", "", "", [Bubble("a", 1.0, (1.0, 1.0), 30.0, memory)], {}), 0)
    assert "nan" not in drawn
    assert 'r="27.0"' in drawn or not memory


def test_charts_need_a_finite_psnr(summary: Options) -> None:
    summary["networks"][0]["quality"]["Set5"]["psnr"] = float("inf")
    assert [bubble.label for chart in charts(summary) for bubble in chart.bubbles] == [EVIL, "nine"]
    for entry in summary["networks"]:
        entry["quality"] = {"Real": {"niqe": 4.0}}
    assert not charts(summary), "a data set without GT has no PSNR"


def test_the_command_writes_the_page(options: Options, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pictures that it shows are those that were scored, and are kept as long as the scores."""
    from basicsr.metrics import calculate_psnr

    files = [write("test_<b>a.yml", options), write("b.yml", options, path={})]
    quick = [*QUICK, "--scores-only"]
    assert compare(*files, *quick, "--bicubic") == 0
    text = Path("out/comparison.html").read_text()
    (scene,) = shown(text)
    found = choices(scene)
    assert list(found) == ["bicubic x2", "<b>a", GT, LQ]
    lq, gt = (cv2.imread(str(tiny_data / "val" / part)) for part in ("LR/p0x2.png", "HR/p0.png"))
    assert lq is not None
    assert gt is not None
    assert np.array_equal(found[GT], gt)
    assert np.array_equal(found[LQ], lq)
    quality = networks()["<b>a"]["quality"]["tiny"]
    assert calculate_psnr(found["<b>a"], gt, 2, test_y_channel=True) == pytest.approx(quality["psnr"], abs=1e-6)
    assert "pictures" not in json.dumps(networks()), "they are beside the results, not in them"
    assert not Elements(text).all("b")

    count = len(entries())
    assert compare(*files, *quick, "--bicubic") == 0
    assert len(entries()) == count, "nothing was left to do"
    for file in Path("out/pictures").iterdir():
        file.unlink()
    assert compare(*files, *quick, "--pictures", "0") == 0
    assert len(entries()) == count, "none are wanted"
    assert "--pictures 0" in Path("out/comparison.html").read_text()
    assert "scored again" not in capsys.readouterr().err
    assert compare(*files, *quick) == 0
    assert "<b>a, tiny: scored again for its pictures" in capsys.readouterr().err
    assert [entry["task"] for entry in entries()[count:]] == ["tiny"], "scored again for its pictures"
    assert list(choices(shown(Path("out/comparison.html").read_text())[0])) == ["<b>a", GT, LQ]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as driver:
        yield driver


def test_in_a_browser(chromium: Any, plan: Plan, summary: Options) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    file = Path(page.write(summary, plan)).resolve()
    requested(chromium)
    chromium.get(file.as_uri())

    def one(selector: str) -> Any:
        return chromium.find_element(By.CSS_SELECTOR, selector)

    def column(number: int) -> list[str]:
        return [cell.text for cell in chromium.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({number})")]

    # columns sort by click and by keyboard, numbers as numbers, and what is missing stays last
    assert column(1) == [*LABELS, "bicubic"], "names are text, in the order in which they were given"
    latency = one("thead th:nth-child(5) button")
    latency.click()
    assert column(1) == ["nine", "ten", EVIL, "bicubic"]
    assert one("thead th:nth-child(5)").get_attribute("aria-sort") == "ascending"
    latency.send_keys(Keys.ENTER)
    assert column(1) == [EVIL, "ten", "nine", "bicubic"]
    one("thead th:nth-child(8) button").send_keys(Keys.SPACE)
    assert column(8) == ["30.000", "33.250", "34.123", "34.500"]
    assert one("thead th:nth-child(5)").get_attribute("aria-sort") is None
    one("thead th:nth-child(1) button").click()
    assert column(1)[1:] == ["bicubic", "nine", "ten"]

    # the slider shows two networks, any of them, and moves by keys, mouse and touch
    under, over = chromium.find_elements(By.CSS_SELECTOR, ".frame-of-two img")
    assert chromium.execute_script("return [...document.images].every((image) => image.naturalWidth > 0)")
    assert [over.get_attribute("alt"), under.get_attribute("alt")] == [
        f"Set5: <b>0x2, x2: {label}" for label in LABELS[:2]
    ]
    Select(one("#right")).select_by_visible_text("nine")
    assert np.array_equal(decoded(under.get_attribute("src"))[..., ::-1], picture(20))
    Select(one("#scene")).select_by_index(1)
    assert np.array_equal(decoded(under.get_attribute("src"))[..., ::-1], picture(21)), "the network stays chosen"
    Select(one("#zoom")).select_by_visible_text("3 : 1")
    frame = one(".frame-of-two")
    assert (frame.size["width"], frame.size["height"]) == (240, 180)

    def cut() -> float:
        """How much of the width the upper picture covers, which the handle stands at."""
        hidden = re.search(r"([\d.]+)%", over.value_of_css_property("clip-path"))
        assert hidden
        handle = one(".handle").rect
        middle = handle["x"] + handle["width"] / 2 - frame.rect["x"]
        assert middle == pytest.approx(240 * (1 - float(hidden[1]) / 100), abs=1.5)
        return 100 - float(hidden[1])

    assert cut() == 50
    one("#slider").send_keys(Keys.ARROW_RIGHT * 3)
    assert cut() == 53
    one("#slider").send_keys(Keys.HOME)
    assert cut() == 0
    assert one("#slider").get_attribute("aria-valuetext") == f"0 percent {LABELS[0]}"
    ActionChains(chromium).move_to_element(frame).click_and_hold().move_by_offset(60, 10).release().perform()
    assert cut() == pytest.approx(75, abs=1)
    ActionChains(chromium).send_keys(Keys.ARROW_LEFT).perform()
    assert cut() == pytest.approx(74, abs=1), "the keys go on where the mouse was"
    ActionChains(chromium).move_to_element(frame).perform()
    assert cut() == pytest.approx(74, abs=1), "nothing is held any more"
    box = frame.rect
    chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    scrolled = chromium.execute_script("return scrollY")
    for kind, x in (("touchStart", 120), ("touchMove", 80), ("touchMove", 24), ("touchEnd", None)):
        points = [] if x is None else [{"x": box["x"] + x, "y": box["y"] + 90 - scrolled}]
        chromium.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert cut() == pytest.approx(10, abs=1)

    # on a phone nothing is wider than the screen; in the dark the page is dark
    phone = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert chromium.execute_script("return document.documentElement.scrollWidth") == 360
    assert chromium.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"

    assert all(
        chromium.execute_script("return arguments[0].labels.length", element)
        for element in chromium.find_elements(By.CSS_SELECTOR, "select, input")
    )
    assert requested(chromium) == [file.as_uri()]
    assert not complaints(chromium)
