"""The page in Chromium without a network: it opens, its controls work, nothing is logged as an error."""

import time

import numpy as np
import polars as pl
import pytest
from fixed_context.report.page import write_page

from .report_files import WORDS, metrics_frame, small_page


@pytest.fixture(scope="module")
def frame():
    return metrics_frame()


@pytest.fixture(scope="module")
def made(frame):
    return small_page(frame, prompts={frame["context_id"][0]: "What is <b>2</b>?"})


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def choose(browser, name, value):
    """Set a drop-down the way a person does."""
    browser.execute_script(
        "const node = document.getElementById(arguments[0]); node.value = arguments[1];"
        "node.dispatchEvent(new Event('change', {bubbles: true}));",
        name,
        value,
    )


def colors(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('.tok')].map((node) => getComputedStyle(node).backgroundColor)"
    )


def count(browser, kind):
    return len(find(browser, f".tok.{kind}"))


def text(browser, name):
    return browser.find_element("id", name).text


def test_colour_time_selector_budget_and_quadrant_change_the_tokens(made, page):
    browser = page(made)
    assert len(find(browser, ".tok")) == 12
    assert "KL(teacher || student), change (nats)" in text(browser, "heat-scale")
    first = colors(browser)
    choose(browser, "heat-when", "before")
    assert colors(browser) != first
    choose(browser, "heat-score", "learnable")
    assert [option.text for option in find(browser, "#heat-when option")] == ["known once"]
    assert "learnable" in text(browser, "heat-scale")
    kept = count(browser, "kept-mark")
    choose(browser, "heat-ratio", "0.2")
    choose(browser, "heat-selector", "entropy")
    assert f"{count(browser, 'kept-mark')} kept by entropy" in text(browser, "heat-count")
    assert "36 tokens of the file" in text(browser, "heat-scale")
    choose(browser, "heat-quadrant", "3")
    expected = made.view["quadrants"][:12]
    assert count(browser, "filtered") == sum(digit != "3" for digit in expected)
    assert kept >= 0 and "quadrant=3" in browser.current_url


def test_contexts_are_jumped_between(made, page, frame):
    browser = page(made)
    gains = frame.group_by("context_id", maintain_order=True).agg(pl.col("G_KLf").mean())["G_KLf"].to_numpy()
    assert "1: 12 tokens" in find(browser, "#heat-context option:checked")[0].text
    browser.find_element("id", "heat-next").click()
    assert "2: 12 tokens" in find(browser, "#heat-context option:checked")[0].text
    choose(browser, "heat-order", "most")
    assert find(browser, "#heat-context option:checked")[0].text.startswith(f"{int(np.argmax(gains)) + 1}: ")
    assert not browser.find_element("id", "heat-previous").is_enabled()
    choose(browser, "heat-order", "least")
    assert find(browser, "#heat-context option:checked")[0].text.startswith(f"{int(np.argmin(gains)) + 1}: ")


def test_pointing_shows_both_models_and_the_scores(made, page, frame):
    from selenium.webdriver import ActionChains

    browser = page(made)
    ActionChains(browser).move_to_element(find(browser, ".tok")[7]).perform()
    card = text(browser, "card")
    assert "token 8 of 12" in card
    assert [node.text for node in find(browser, "#card .top-name")] == ["Student before", "Student after", "Teacher"]
    rows = browser.execute_script("return [...document.querySelectorAll('#card tbody tr')].map((r) => r.innerText)")
    shown = next(row for row in rows if row.startswith("KL(teacher"))
    assert f"{frame['base_KLf'][7]:.3g}"[:4] in shown
    probability = np.exp(frame["teacher_top_logps"][7][0])
    assert find(browser, "#card .teacher .prob")[0].text == f"{probability:.3f}"


def test_keyboard_moves_between_tokens(made, page):
    from selenium.webdriver.common.keys import Keys

    browser = page(made, fragment="#token=5")
    browser.execute_script("document.querySelector('.tok[tabindex=\"0\"]').focus()")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("data-position") == "6"
    assert "token 7 of 12" in text(browser, "card")


def test_hostile_text_is_shown_and_never_runs(made, page):
    browser = page(made)
    shown = [node.get_attribute("textContent") for node in find(browser, ".tok")][: len(WORDS)]
    assert shown == [
        *("</script><script>window.broken␣=␣1</script>", "␣the", "⏎", "<img␣src=x␣onerror=window.broken=2>"),
        *("‹U+202E›", "é"),
    ]
    assert text(browser, "heat-prompt") == "What is <b>2</b>?"
    assert browser.execute_script("return window.broken === undefined")


def test_what_is_missing_is_hatched_and_said(page, frame):
    holes = frame.with_columns(
        G_KLr=pl.when(pl.col("tok_pos") == 1).then(None).otherwise(0.5), base_KLr=pl.lit(None, pl.Float64)
    ).drop("base_student_top_ids", "base_student_top_logps")
    browser = page(small_page(holes), fragment="#score=reverse_kl")
    assert [node.get_attribute("data-position") for node in find(browser, ".tok.missing-fill")] == ["1"]
    assert [node.text for node in find(browser, "#card .top-name")] == ["Student after", "Teacher"]
    assert "not known" in text(browser, "heat-prompt")


def test_a_phone_needs_no_sideways_scrolling_and_taps_open_the_card(made, page):
    browser = page(made, width=390, height=844)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert not browser.find_element("id", "card").is_displayed()
    find(browser, ".tok")[3].click()
    card = browser.find_element("id", "card")
    assert card.is_displayed()
    assert "token 4 of 12" in card.text
    browser.find_element("css selector", ".card-close").click()
    assert not card.is_displayed()
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('img')].map((n) => n.getBoundingClientRect().width)"
    )
    assert all(0 < size <= 390 for size in sizes)


def test_300_contexts_of_192_tokens_open_in_two_seconds(page, tmp_path):
    frame = metrics_frame(prompts=300, tokens=192, vocabulary=30_000)
    path = write_page(small_page(frame, ratios=(0.01, 0.03, 0.05, 0.1)), tmp_path / "large.html")
    figures = 2_500_000  # what the images of a whole report take
    assert path.stat().st_size + figures < 15_000_000
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        browser = page(path)
        seconds.append(time.perf_counter() - started)
        assert len(find(browser, ".tok")) == 192
    assert min(seconds) < 2
