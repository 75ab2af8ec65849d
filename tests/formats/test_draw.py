"""The overlay shows words in the color of their confidence, lines, and their order."""

import io
from dataclasses import replace

from format_pages import make_page
from lxml import etree
from PIL import Image, ImageChops

from nanoocr.document import Box, TextPage, Word, hull
from nanoocr.formats.overlay import confidence_color, draw, draw_svg


def test_colors_go_from_red_over_yellow_to_green():
    red, yellow, green = map(confidence_color, (0.0, 0.7, 1.0))
    assert red[0] > 150 > red[1] and min(yellow[:2]) > 150 > yellow[2] and green[1] > 150 > green[0]
    assert len(set(confidence_color(None))) == 1


def test_words_are_filled_and_nothing_is_drawn_far_from_them():
    page, png = make_page(("sure doubtful",))
    sure, doubtful = page.lines[0].words
    words = (replace(sure, confidence=1.0), replace(doubtful, confidence=0.0))
    page = replace(page, lines=(replace(page.lines[0], words=words),))
    picture = Image.open(io.BytesIO(png))
    drawn = draw(page, picture)
    assert drawn.size == picture.size and drawn.mode == "RGB"
    for word, channel in ((sure, 1), (doubtful, 0)):
        box = hull(word.quad)
        # A place within the box that the letters leave white.
        shade = drawn.getpixel((round(box.left) + 2, round(box.bottom) - 3))
        assert shade[channel] == max(shade) and min(shade) < 220
    changed = ImageChops.difference(drawn, Image.new("RGB", drawn.size, "white")).getbbox()
    line = hull(page.lines[0].quad)
    assert changed[0] > line.left - 60 and changed[2] < line.right + 90
    assert changed[1] > line.top - 5 and changed[3] < line.bottom + 5


def test_a_picture_of_another_size_gets_the_drawing_scaled():
    page, png = make_page(("word",))
    small = draw(page, Image.open(io.BytesIO(png)).resize((620, 620)))
    box = hull(page.lines[0].words[0].quad)
    assert small.getpixel((round(box.left / 2) + 2, round(box.bottom / 2) - 3)) != (255, 255, 255)


def test_svg_is_well_formed_and_tells_the_words():
    page, _ = make_page(("a <b> & c",))
    root = etree.fromstring(draw_svg(page, 'x"&.png').encode())
    namespace = {"s": "http://www.w3.org/2000/svg"}
    titles = root.xpath("//s:polygon/s:title/text()", namespaces=namespace)
    assert titles == ["a 90%", "<b> 90%", "& 90%", "c 90%"]
    assert root.xpath("//s:image/@href", namespaces=namespace) == ['x"&.png']
    assert root.xpath("//s:text/text()", namespaces=namespace) == ["1", "90%"]


def test_empty_and_tiny_pages():
    assert draw(TextPage("x", 1, 3, 3), Image.new("1", (3, 3))).size == (3, 3)
    page = TextPage("x", 1, 3, 3)
    line = make_page(("a",))[0].lines[0]
    tiny = replace(page, lines=(replace(line, quad=Box(0, 0, 3, 3).quad(), words=(Word("a", line.quad),)),))
    assert draw(tiny, Image.new("L", (3, 3))).size == (3, 3)
