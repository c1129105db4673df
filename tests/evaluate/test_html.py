"""Pages: well-formed, self-contained, escaped, with warnings before all else."""

import base64
from html.parser import HTMLParser

import pytest

from zwicky.evaluate import html

NASTY = "<script>alert('a & b')</script> \"quoted\""
VOID = {"meta", "img"}


class Nesting(HTMLParser):
    """Opened and closed elements, text and attributes of a page; an end that does not fit raises."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        self.open += [] if tag in VOID else [tag]
        assert tag != "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def blocks():
    return [
        html.heading(NASTY), html.paragraph(NASTY, "warning"), html.table([NASTY, "b"], [[NASTY, html.Strong(NASTY)]]),
        html.figure(b"\x89PNG", NASTY, NASTY, 3.4),
    ]  # fmt: skip


def test_everything_is_escaped():
    found = Nesting(html.page(NASTY, blocks(), [NASTY]))
    assert "".join(found.text).count(NASTY) == 11
    assert ("alt", NASTY) in found.attributes


def test_a_page_needs_no_network():
    found = Nesting(html.page("title", blocks()))
    links = [value for name, value in found.attributes if name in ("src", "href")]
    assert links == ["data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()]
    assert "url(" not in html.LOOK
    assert "@import" not in html.LOOK


@pytest.mark.parametrize("warnings", [[], ["first fault.", "second fault."]])
def test_warnings_are_the_first_line_and_the_first_thing_seen(warnings):
    page = html.page("title", [html.paragraph("text")], warnings)
    first, body = page.splitlines()[0], page.split("<body>")[1].strip()
    assert all(sentence in first for sentence in warnings)
    assert body.startswith('<p class="warning">WARNING: first fault. second fault.</p>' if warnings else "<h1>")
    assert ("WARNING" in page) == bool(warnings)


def test_what_is_best_is_bold():
    assert "<td><strong>1</strong></td><td>2</td>" in html.table(["a", "b"], [[html.Strong("1"), "2"]])
