"""The Pareto picture that stands alone."""

import xml.etree.ElementTree as ElementTree

from compression.report.picture import draw_points, draw_svg

SVG = "{http://www.w3.org/2000/svg}"


def make_row(**over):
    row = {"name": "int8", "bytes": 250_000, "accuracy": 0.9, "agreement": 0.95, "p50_ms": 1.0}
    return {**row, "relative_p50": 0.5, "is_on_front": True, "is_promotable": True, **over}


def draw(*rows):
    text = draw_svg(draw_points(rows), "Variants of a < b")
    return ElementTree.fromstring(text)  # noqa: S314, our own picture


def test_every_measured_variant_is_drawn_inside_the_picture_with_its_figures_in_words():
    picture = draw(
        make_row(name="fp32", bytes=1_000_000, is_source=True, relative_p50=1.0, is_on_front=False),
        make_row(name="<script>"),
        make_row(name="random", bytes=260_000, is_promotable=False, is_on_front=False),
    )
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert titles[1] == "<script>: 250 kB, 90.00%, 0.50 × the time of FP32"
    circles = list(picture.iter(f"{SVG}circle"))
    assert len(circles) == 2, "a cross stands for what cannot be promoted"
    width, height = (float(part) for part in picture.attrib["viewBox"].split()[2:])
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height
    named = {text.text for text in picture.iter(f"{SVG}text") if text.get("class") == "name"}
    assert named == {"Variants of a < b", "fp32", "<script>"}


def test_the_smaller_stands_left_and_the_better_above():
    picture = draw(make_row(name="small", bytes=10), make_row(name="good", bytes=20, accuracy=0.95))
    small, good = picture.iter(f"{SVG}circle")
    assert float(small.attrib["cx"]) < float(good.attrib["cx"])
    assert float(small.attrib["cy"]) > float(good.attrib["cy"])


def test_without_a_measured_variant_the_picture_says_so():
    assert any("Nothing" in str(text.text) for text in draw().iter(f"{SVG}text"))
