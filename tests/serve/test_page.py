"""The web page in a real browser, headless. Skips itself where chromium or its driver is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
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
    return WebDriverWait(browser, 60).until(lambda _: condition())


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
        wait(browser, lambda: "broken.png" in error.text)
    choose(browser, CARD)  # the server is gone
    wait(browser, lambda: "connection to the server is lost" in error.text)
