"""Pages that stand alone."""

import re

from matplotlib.figure import Figure

from cloud_hub.core.html import Mark, Page

EVIL = "<script>alert('x')</script>&\"'"


def page() -> str:
    figure = Figure()
    figure.subplots().plot([1, 2, 3], label="a <b> & c")
    made = Page(EVIL, EVIL)
    made.section(EVIL, EVIL)
    made.text(EVIL, good=False)
    made.items([EVIL])
    made.code(EVIL)
    made.facts({EVIL: EVIL, "count": 12345, "share": 0.123456, "none": None, "yes": True})
    made.table(["name", "value"], [[EVIL, 1.5], [Mark(EVIL, good=True), None]], EVIL)
    made.figure(figure, EVIL)
    made.pictures([(b"png", EVIL)])
    return made.html()


def test_whatever_is_written_is_shown_as_text() -> None:
    html = page()
    assert "<script" not in html and "alert(" in html
    assert "12,345" in html and "0.1235" in html


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    html = page()
    assert "default-src 'none'" in html
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", html)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)", html) and "<svg" in html and "<?xml" not in html
