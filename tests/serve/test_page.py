"""The web page in a real browser, headless. Skips itself where chromium or its driver is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver")

from PIL import Image  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CARD = Path(__file__).parents[2] / "assets" / "samples" / "card_3_lines_dark.png"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,800"):
        options.add_argument(flag)
    folder = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.downloads = folder
    yield driver
    driver.quit()


def wait(browser, condition):
    return WebDriverWait(browser, 120).until(lambda _: condition())


def choose(browser, path):
    browser.find_element("id", "file").send_keys(str(path))


def test_a_picture_is_read_shown_and_saved(browser, service, served):
    with served(service) as (url, _):
        browser.get(url)
        choose(browser, CARD)
        words = wait(browser, lambda: browser.find_elements("css selector", ".word"))
        expected = service.reader.read(CARD).text
        assert browser.find_element("id", "text").text.split() == expected.split()
        ActionChains(browser).move_to_element(words[0]).perform()
        assert browser.find_elements("css selector", "polygon.hot")
        assert "% sure" in browser.find_element("id", "word").text
        for kind in ("txt", "hocr"):
            button = browser.find_element("css selector", f"[data-format={kind}]")
            wait(browser, button.is_enabled)
            button.click()
            saved = browser.downloads / f"{CARD.stem}.{kind}"
            wait(browser, saved.is_file)
        assert (browser.downloads / f"{CARD.stem}.txt").read_text().split() == expected.split()


def test_mistakes_are_told_in_sentences(browser, service, served, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with served(service) as (url, _):
        browser.get(url)
        choose(browser, broken)
        error = browser.find_element("id", "error")
        assert wait(browser, lambda: "broken.png" in error.text)
    choose(browser, CARD)  # the server is gone
    assert wait(browser, lambda: "connection to the server is lost" in error.text)


def drop(browser, files: int) -> None:
    """Drop so many empty files on the page; none is a piece of text."""
    browser.execute_script(
        "const data = new DataTransfer(); data.setData('text/plain', 'x');"
        "for (let i = 0; i < arguments[0]; i++) data.items.add(new File([], 'empty-' + i));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}));",
        files,
    )


def test_what_is_dropped_and_no_file_takes_nothing_away(browser, service, served):
    with served(service) as (url, _):
        browser.get(url)
        choose(browser, CARD)
        words = wait(browser, lambda: browser.find_elements("css selector", ".word"))
        ActionChains(browser).move_to_element(words[0]).perform()
        error, word = browser.find_element("id", "error"), browser.find_element("id", "word")
        drop(browser, 0)
        assert "is no file: save the picture first" in error.text
        assert browser.find_elements("css selector", ".word")
        drop(browser, 2)
        wait(browser, lambda: "empty-1" in error.text)
        assert "empty-0" in error.text and "no file" not in error.text  # each has its sentence
        assert word.text.startswith("Point at a word")  # and not the word of the page before


def test_a_file_that_is_gone_is_no_lost_connection(browser, service, served, tmp_path):
    frames = [Image.open(CARD).convert("RGB")] * 3
    first, gone, last = tmp_path / "first.tif", tmp_path / "gone.png", tmp_path / "last.png"
    frames[0].save(first, save_all=True, append_images=frames[1:])
    for path in (gone, last):
        path.write_bytes(CARD.read_bytes())
    with served(service) as (url, _):
        browser.get(url)
        browser.find_element("id", "file").send_keys(f"{first}\n{gone}\n{last}")
        gone.unlink()
        place, stop = browser.find_element("id", "place"), browser.find_element("id", "stop")
        wait(browser, lambda: place.text.endswith("/ 4") and not stop.is_enabled())
        told = browser.find_element("id", "error").text
    assert told == "gone.png cannot be opened: choose files that are there, and no folders."


def test_keys_lead_from_word_to_word(browser, service, served):
    with served(service) as (url, _):
        browser.get(url)
        assert browser.switch_to.active_element.tag_name == "body"
        ActionChains(browser).send_keys(Keys.TAB).perform()
        assert browser.switch_to.active_element.get_attribute("id") == "file"
        choose(browser, CARD)
        words = wait(browser, lambda: browser.find_elements("css selector", ".word"))
        assert [word.get_attribute("tabindex") for word in words] == ["0"] + ["-1"] * (len(words) - 1)
        browser.execute_script("arguments[0].focus()", words[0])
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
        assert browser.switch_to.active_element == words[1]
        assert words[1].text in browser.find_element("id", "word").text
        assert len(browser.find_elements("css selector", "polygon.hot")) == 1


def test_pages_are_leafed_through_on_a_phone(browser, service, served, tmp_path):
    frames = [Image.open(CARD.with_name(name)).convert("RGB") for name in (CARD.name, "card_1_line_dark.png")]
    path = tmp_path / "two.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    expected = [page.text.split() for page in service.reader.read(path)]
    browser.set_window_size(500, 900)  # chromium takes no narrower window; the frame does
    with served(service) as (url, _):
        browser.get(url)
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True},
        )
        choose(browser, path)
        text, stop = browser.find_element("id", "text"), browser.find_element("id", "stop")
        wait(browser, lambda: browser.find_elements("css selector", ".word") and not stop.is_enabled())
        assert browser.find_element("id", "place").text == "2 / 2" and text.text.split() == expected[1]
        browser.find_element("id", "back").click()
        assert text.text.split() == expected[0]
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_server_that_dies_in_the_middle_is_told_of(browser, tmp_path):
    """What had come stays on the page."""
    path = tmp_path / "many.tif"
    frames = [Image.open(CARD).convert("RGB")] * 60
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "nanoocr", "serve", f"--port={port}"])
    try:
        wait(browser, lambda: reaches(port))
        browser.get(f"http://127.0.0.1:{port}/")
        choose(browser, path)
        place = browser.find_element("id", "place")
        wait(browser, lambda: int(place.text.rpartition("/")[2].strip() or 0) >= 3)  # it may pass 3 unseen
        os.kill(process.pid, signal.SIGKILL)
        error = browser.find_element("id", "error")
        wait(browser, lambda: "What came is shown." in error.text)
        browser.find_element("id", "back").click()
        assert browser.find_elements("css selector", ".word")
    finally:
        process.kill()
        process.wait()


def reaches(port):
    time.sleep(0.5)
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0
