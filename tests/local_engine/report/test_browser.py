"""The page in Chromium: what is shown, how it answers, and that it fits."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest

from .pointing import card_rows, choose, colors, find, marks, point_at
from .synthetic import HOSTILE, make_data, without_intervals, without_parts


def test_page_stands_missing_parts(page) -> None:
    made = without_parts()
    browser = page(made)
    assert "no training history" in browser.find_element("id", "curves").text
    assert "not in the data" in browser.find_element("id", "intervals").text
    page(made | {"contexts": [], "results": []})
    assert "no contexts" in browser.find_element("id", "heat-tokens").text


def test_hostile_text_is_shown_and_never_runs(hostile: dict, page) -> None:
    browser = page(hostile)
    texts = browser.execute_script("return [...document.querySelectorAll('.tok')].map((n) => n.textContent)")
    shown = {
        "</script><script>window.broken = 1</script>": "</script><script>window.broken␣=␣1</script>",
        "<img src=x onerror=window.broken=2>": "<img␣src=x␣onerror=window.broken=2>",
        "\u2028": "‹U+2028›",
        "\u202eright to left": "‹U+202E›right␣to␣left",
        "": "∅",
        "\x00": "‹U+0000›",
    }
    assert texts == [shown.get(text, text.replace(" ", "␣")) for text in HOSTILE]
    assert browser.execute_script("return window.broken === undefined")
    assert browser.title == hostile["title"]
    assert "<script>window.broken = 4</script>" in browser.find_element("id", "settings").get_attribute("textContent")
    assert "</script><script>" in browser.find_element("id", "heat-prompt").text
    point_at(browser, find(browser, ".tok")[0])
    assert [node.text for node in find(browser, "#card .student .text")][1] == shown[HOSTILE[1]]


def test_missing_values_are_missing_not_zero(hostile: dict, page) -> None:
    browser = page(hostile, fragment="#color=score%3Ateachability&token=0")
    first, second = find(browser, ".tok")[:2]
    assert "missing-fill" in first.get_attribute("class")
    assert "missing-fill" not in second.get_attribute("class")
    rows = card_rows(browser)
    assert "missing" in rows["Teachability"]
    assert "missing" in rows["teachability:0.10"]
    card = browser.find_element("id", "card").text
    assert "quadrant missing" in card
    assert "log-prob missing" in card
    choose(browser, "heat-color", "score:all_missing")
    assert len(find(browser, ".tok.missing-fill")) == len(HOSTILE)
    assert [cell.text for cell in find(browser, "#results tbody tr:first-child td")][4] == "—"


def test_controls_change_the_token_view(data: dict, page) -> None:
    browser = page(data)
    context = data["contexts"][0]
    before = colors(browser)
    choose(browser, "heat-color", "score:compatibility")
    assert colors(browser) != before
    choose(browser, "heat-color", "gain:random:0.10")
    assert "gain: random:0.10 (nats)" in browser.find_element("id", "heat-scale").text
    assert marks(browser) == context["kept"]["teachability:0.10"]
    choose(browser, "heat-selector", "entropy:0.10")
    assert marks(browser) == context["kept"]["entropy:0.10"]
    assert browser.find_element("id", "plane-selector").get_attribute("value") == "entropy:0.10"
    choose(browser, "heat-quadrant", "2")
    assert len(find(browser, ".tok.filtered")) == sum(value != 2 for value in context["quadrant"])
    texts = [node.text for node in find(browser, ".tok")]
    browser.find_element("id", "heat-next").click()
    assert [node.text for node in find(browser, ".tok")] != texts
    choose(browser, "heat-split", "rollout")
    assert all("rollout" in option.text for option in find(browser, "#heat-context option"))
    assert "split=rollout" in browser.current_url


def test_card_shows_both_models_and_every_score(data: dict, page) -> None:
    browser = page(data)
    context = data["contexts"][0]
    node = find(browser, ".tok")[3]
    point_at(browser, node)
    for side in ("student", "teacher"):
        wanted = [text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") for text, _ in context[f"{side}_top"][3]]
        assert [item.text for item in find(browser, f"#card .{side} .text")] == wanted
    card = browser.find_element("id", "card").text
    assert "token 4 of 64" in card
    rows = card_rows(browser)
    for name in context["scores"]:
        label = data["score_info"].get(name, {"label": name})["label"]
        assert f"{context['scores'][name][3]:.3g}"[:4] in rows[label]
    for label, kept in context["kept"].items():
        assert ("kept" in rows[label]) == (kept[3] == "1")


def test_keyboard_moves_between_tokens(data: dict, page) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = page(data, fragment="#token=5")
    browser.execute_script("document.querySelector('.tok[tabindex=\"0\"]').focus()")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("data-position") == "6"
    assert "token 7 of 64" in browser.find_element("id", "card").text


def test_dot_in_the_plane_opens_its_token(data: dict, page) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = page(data, fragment="#plane=rollout&selector=entropy%3A0.10")
    kept = sum(item["kept"]["entropy:0.10"].count("1") for item in data["contexts"] if item["split"] == "rollout")
    assert f"kept by entropy:0.10 (n = {kept})" in browser.find_element("id", "plane-legend").text
    browser.execute_script("document.getElementById('plane-marks').focus()")
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    readout = browser.find_element("id", "plane-readout").text
    largest = max(
        (value, item["id"], position)
        for item in data["contexts"]
        if item["split"] == "rollout"
        for position, value in enumerate(item["scores"]["entropy"])
        if item["kept"]["entropy:0.10"][position] == "1"
    )
    assert f"Context {largest[1]}, token {largest[2] + 1} of 64" in readout
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("data-position") == str(largest[2])
    assert f"context={largest[1]}" in browser.current_url
    choose(browser, "plane-axes", "normalised")
    assert "H_norm" in browser.find_element("id", "plane-regions").text


def test_linked_view_is_restored(data: dict, page) -> None:
    fragment = "#context=c003&color=score%3Adisagreement&selector=tip%3A0.10&token=9&quadrant=1"
    browser = page(data, fragment=fragment)
    values = {
        name: browser.find_element("id", f"heat-{name}").get_attribute("value")
        for name in ("context", "color", "selector", "quadrant")
    }
    assert values == {
        "context": "c003", "color": "score:disagreement", "selector": "tip:0.10", "quadrant": "1",
    }  # fmt: skip
    assert "token 10 of 64" in browser.find_element("id", "card").text
    page(data, fragment="#context=nothing&color=score%3Anothing&token=999&plane=none")
    assert browser.find_element("id", "heat-context").get_attribute("value") == "c000"


COLUMN_TEXTS = """
const at = [...document.querySelectorAll('#results thead th')].findIndex((cell) => cell.textContent === arguments[0]);
return [...document.querySelectorAll('#results tbody tr')].map((row) => row.cells[at].textContent);
"""


def test_table_sorts_by_a_measure(data: dict, page) -> None:
    browser = page(data)

    def means() -> list[float]:
        cells = browser.execute_script(COLUMN_TEXTS, "Reverse gain [95%]")
        return [float(cell.split()[0].replace("−", "-")) for cell in cells]

    def header():
        return next(node for node in find(browser, "#results th") if node.text.startswith("Reverse gain"))

    header().find_element("tag name", "button").click()
    assert means() == sorted(means(), reverse=True)
    header().find_element("tag name", "button").click()
    assert means() == sorted(means())
    assert header().get_attribute("aria-sort") == "ascending"


COLUMNS = {"gain": "Gain [95%]", "reverse_gain": "Reverse gain [95%]", "vs_random": "Minus random [95%]"}
ONE_DRAW = "One draw against one draw: two random selections can differ as much; compare several seeds."
VERDICTS = ("above", "below", "distinguishable")


def interval_panel(measure: str) -> str:
    """CSS selector of the panel of a measure."""
    return f"#intervals figure:nth-child({list(COLUMNS).index(measure) + 1})"


@pytest.mark.parametrize("measure", ["gain", "reverse_gain"])
def test_intervals_that_hold_zero_are_named_and_marked(measure: str, data: dict, page) -> None:
    browser = page(data)
    rows = data["results"]
    crossing = sum(row[f"{measure}_low"] <= 0 <= row[f"{measure}_high"] for row in rows)
    assert 0 < crossing < len(rows)
    cells = browser.execute_script(COLUMN_TEXTS, COLUMNS[measure])
    assert sum("not distinguishable" in cell for cell in cells) == crossing
    assert sum(cell.endswith(("above 0", "below 0")) for cell in cells) == len(rows) - crossing
    panel = interval_panel(measure)
    assert len(find(browser, f"{panel} circle")) == len(rows)
    assert len(find(browser, f"{panel} g.crosses")) == crossing
    assert len(find(browser, f"{panel} g.sure")) == len(rows) - crossing
    assert "for this trained student" in find(browser, panel)[0].text
    titles = [node.get_attribute("textContent") for node in find(browser, f"{panel} g title")]
    assert all(title.endswith("for this trained student") for title in titles)
    assert "OPD with the sampled-token loss descends" in browser.find_element("id", "comparison-note").text


def test_difference_from_random_has_no_verdict(data: dict, page) -> None:
    browser = page(data)
    rows = [row for row in data["results"] if row["vs_random_mean"] is not None]
    assert any(row["vs_random_low"] > 0 for row in rows)
    cells = browser.execute_script(COLUMN_TEXTS, COLUMNS["vs_random"])
    assert sum(cell.endswith("]") for cell in cells) == len(rows)
    assert sum(cell == "—" for cell in cells) == len(cells) - len(rows)
    panel = interval_panel("vs_random")
    assert len(find(browser, f"{panel} g")) == len(find(browser, f"{panel} g.plain")) == len(rows)
    for part in ("interval", "dot"):
        strokes = [node.value_of_css_property("stroke") for node in find(browser, f"{panel} .{part}")]
        others = [node.value_of_css_property("stroke") for node in find(browser, f"#intervals .{part}")]
        assert len(strokes) == len(rows)
        assert len(set(strokes)) == 1
        assert others.count(strokes[0]) == len(rows)
    texts = [node.get_attribute("textContent") for node in find(browser, panel)]
    assert not any(word in text for text in texts for word in VERDICTS)
    for place in (panel, "#results-note"):
        assert ONE_DRAW in find(browser, place)[0].text


def test_mean_without_interval_has_no_verdict(page) -> None:
    browser = page(without_intervals())
    for measure, column in COLUMNS.items():
        cells = browser.execute_script(COLUMN_TEXTS, column)
        assert {cell.split(" ", 1)[1] for cell in cells if cell != "—"} == {"interval missing"}
        panel = interval_panel(measure)
        dots = len(find(browser, f"{panel} circle"))
        assert dots == sum(cell != "—" for cell in cells) > 0
        assert len(find(browser, f"{panel} g.plain")) == dots
        assert not find(browser, f"{panel} .interval")
        titles = [node.get_attribute("textContent") for node in find(browser, f"{panel} g title")]
        assert all(title.endswith(", interval missing") for title in titles)


def test_split_says_what_kept_means_there(data: dict, page) -> None:
    browser = page(data)
    replayed, distilled = "no run trained on these tokens", "first step of its run (first seed) really distilled"

    def said(name: str) -> list[bool]:
        text = browser.find_element("id", f"{name}-split-help").text
        return [replayed in text, distilled in text]

    assert (said("plane"), said("heat")) == ([True, False], [True, True])
    choose(browser, "plane-split", "rollout")
    choose(browser, "heat-split", "held-out")
    assert (said("plane"), said("heat")) == ([False, True], [True, False])
    choose(browser, "heat-split", "rollout")
    assert said("heat") == [False, True]


def test_ratios_that_agree_in_two_decimals_stay_apart(page) -> None:
    text = json.dumps(make_data(contexts=2, length=8, seeds=1, steps=2))
    browser = page(json.loads(text.replace("entropy:0.10", "random:0.005").replace("tip:0.10", "random:0.01")))
    for place in ("#results tbody th", "#intervals svg text", "#curve-panels figcaption"):
        shown = {node.text.split("\n")[0] for node in find(browser, place)}
        assert {"random:0.005", "random:0.01"} <= shown


@pytest.mark.parametrize(("width", "rows"), [(1280, 1), (700, 3), (390, 3)])
def test_intervals_of_three_seeds_have_room(width: int, rows: int, data: dict, page) -> None:
    browser = page(data, width=width)
    tops, figures = browser.execute_script(
        "const rect = (node) => node.getBoundingClientRect().toJSON();"
        "const figures = [...document.querySelectorAll('#intervals figure')];"
        "return [figures.map((node) => rect(node).top),"
        " figures.map((node) => [...node.querySelectorAll('svg text')].map(rect))];"
    )
    assert len(set(tops)) == rows
    boxes = [node.rect for node in find(browser, "#intervals svg")]
    assert len({box["y"] for box in boxes}) == rows
    drawn = [float(node.get_attribute("width")) for node in find(browser, "#intervals svg")]
    assert [box["width"] for box in boxes] == pytest.approx(drawn, abs=0.5)
    for texts in figures:
        for one, two in itertools.combinations(texts, 2):
            across = min(one["right"], two["right"]) - max(one["left"], two["left"])
            along = min(one["bottom"], two["bottom"]) - max(one["top"], two["top"])
            assert across <= 0 or along <= 3, (one, two)


@pytest.mark.parametrize("width", [1280, 390])
def test_page_never_scrolls_sideways(width: int, data: dict, hostile: dict, page) -> None:
    for made in (data, hostile):
        browser = page(made, width=width, height=900 if width > 500 else 844)
        browser.execute_script("document.querySelector('details').open = true")
        inner, scroll = browser.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
        assert inner == width
        assert scroll <= width


def test_large_report_is_small_enough_and_opens_fast(page, tmp_path: Path) -> None:
    made = make_data(contexts=30, length=192)
    made["contexts"] = [item | {"id": f"{item['id']}-{copy}"} for copy in range(10) for item in made["contexts"]]
    browser = page(made)
    assert (tmp_path / "report.html").stat().st_size < 15e6
    assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
    timing = browser.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert timing < 2000
    assert len(find(browser, ".tok")) == 192
    start = time.perf_counter()
    browser.find_element("id", "heat-next").click()
    assert time.perf_counter() - start < 1
