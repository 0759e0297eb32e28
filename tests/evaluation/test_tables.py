"""Tables in pages, and plots."""

import re
from xml.etree import ElementTree

from atoken.evaluation.plot import curves
from atoken.evaluation.tables import fill
from refusals import refused


def test_fill_touches_nothing_but_what_is_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- numbers -->\nold\n<!-- /numbers -->\nafter\n")
    fill(page, "numbers", r"new \1 \g<0>")
    fill(page, "numbers", "| a | b |")
    assert page.read_text() == "before\n<!-- numbers -->\n| a | b |\n<!-- /numbers -->\nafter\n"
    page.write_text("no marks\n")
    with refused(page, "<!-- numbers -->"):
        fill(page, "numbers", "x")
    assert page.read_text() == "no marks\n"


def test_curves_are_drawn_in_order_of_the_rate_and_inside():
    page = curves({"A<B": [(2.0, 30.0), (0.5, 20.0)], "single": [(1.0, 25.0)]}, "bits", "PSNR & more")
    svg = ElementTree.fromstring(page[: page.index("</svg>") + 6])
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")]
    assert len(circles) == 3
    assert circles[0][0] < circles[2][0] < circles[1][0]
    assert circles[0][1] > circles[2][1] > circles[1][1]  # up is better, and down the page
    assert all(0 < x < 560 and 0 < y < 340 for x, y in circles)
    assert re.findall(r"</i>([^<]*)</span>", page) == ["A&lt;B", "single"]
