"""The offline report and the static plots: hostile text, missing values, controls, layout and size."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from local_engine.plots import save_plots
from local_engine.report import build_report, pack_floats, render, safe_json

METHODS = (
    "full", "random", "entropy", "teacher_entropy", "disagreement", "reverse_kl", "quadrant", "tip",
    "compatibility", "teachability", "teachability_soft", "oracle_gain",
)  # fmt: skip
SCORES = (
    "entropy", "teacher_entropy", "disagreement", "compatibility", "H_norm", "D_norm", "C_norm",
    "teachability", "kl_before",
)  # fmt: skip
PASSAGE = (
    "Let us check the total step by step.\n\nMia has 12 apples, so she starts with 12.\nShe buys 7 more, which gives"
    " 12 + 7 = 19 apples.\n\tThen she gives 4 to Sam: 19 - 4 = 15.\nTherefore the answer is 15.  We are done. "
)
PIECES = re.findall(r" ?\w+|\n+| ?[^\w\s]|\s", PASSAGE)
WORDS = sorted(set(PIECES))
HOSTILE = (
    "</script><script>window.broken = 1</script>", "<img src=x onerror=window.broken=2>", "<!--", '"quoted"',
    "it's", "emoji 😀", "مرحبا", "\u2028", "\u202eright to left", "", "&lt;b&gt;", "\ufffd", "\x00",
)  # fmt: skip


def ranks(values: np.ndarray) -> np.ndarray:
    """Values replaced by their rank, scaled to 0..1."""
    return values.argsort().argsort() / max(1, len(values) - 1)


def top_rows(generator: np.random.Generator, tokens: list[str], length: int) -> list[list[list]]:
    """Five made-up candidates per position, the first one often the sampled token."""
    probabilities = np.sort(generator.dirichlet([0.5] * 7, size=length)[:, :5], axis=1)[:, ::-1]
    numbers = generator.permuted(np.tile(np.arange(len(WORDS)), (length, 1)), axis=1)[:, :5]
    rows = [
        [[WORDS[n], float(p)] for n, p in zip(*row, strict=True)] for row in zip(numbers, probabilities, strict=True)
    ]
    for position in range(0, length, 2):
        if all(text != tokens[position] for text, _ in rows[position]):
            rows[position][0][0] = tokens[position]
    return rows


def make_context(generator: np.random.Generator, index: int, length: int, labels: list[str]) -> dict:
    """One made-up context whose scores hang together: rare, surprising tokens get high scores."""
    tokens = [PIECES[(position + 5 * index) % len(PIECES)] for position in range(length)]
    entropy = generator.gamma(1.1, 0.9, size=length)
    disagreement = generator.gamma(0.7, 0.5, size=length) * (0.4 + 0.5 * entropy)
    h_norm, d_norm = ranks(entropy), ranks(disagreement)
    compatibility = generator.beta(3, 1.5, size=length)
    columns = [
        entropy, entropy * 0.7, disagreement, compatibility, h_norm, d_norm, ranks(compatibility),
        h_norm * d_norm * compatibility, disagreement * 1.1,
    ]  # fmt: skip
    kept, gain = {}, {}
    for number, label in enumerate(labels):
        score = columns[number % len(columns)] + 0.1 * generator.random(length)
        ratio = float(label.split(":")[1])
        cut = np.sort(score)[-max(1, round(ratio * length))]
        kept[label] = "".join("1" if value >= cut else "0" for value in score)
        gain[label] = (0.1 * disagreement + 0.05 * generator.normal(size=length)).tolist()
    quadrant = np.where(h_norm > 0.5, np.where(d_norm > 0.5, 1, 2), np.where(d_norm > 0.5, 3, 4))
    return {
        "id": f"c{index:03d}",
        "split": "held-out" if index % 2 == 0 else "rollout",
        "prompt": f"Question {index}: Mia has 12 apples and buys 7 more.\nHow many apples are there in total?",
        "tokens": tokens,
        "scores": {name: column.tolist() for name, column in zip(SCORES, columns, strict=True)},
        "student_logp": (-entropy).tolist(),
        "teacher_logp": (-entropy - disagreement).tolist(),
        "student_top": top_rows(generator, tokens, length),
        "teacher_top": top_rows(generator, tokens, length),
        "quadrant": quadrant.tolist(),
        "kept": kept,
        "gain": gain,
    }


def make_data(contexts: int = 24, length: int = 64, seeds: int = 3, steps: int = 40) -> dict:
    """Made-up report data of the given size."""
    generator = np.random.default_rng(7)
    ratios = {method: 1.0 if method == "full" else 0.1 for method in METHODS}
    labels = [f"{method}:{ratio:.2f}" for method, ratio in ratios.items()]
    results, history = [], []
    for number, (method, ratio) in enumerate(ratios.items()):
        for seed in range(seeds):
            mean, width = 0.012 * number - 0.02 + 0.01 * generator.normal(), 0.02 + 0.02 * generator.random()
            compared = method not in ("full", "random")
            results.append(
                {
                    "method": method,
                    "mask": "all" if method == "full" else "top",
                    "ratio": ratio,
                    "seed": seed,
                    "gain_mean": mean,
                    "gain_low": mean - width,
                    "gain_high": mean + width,
                    "vs_random_mean": mean - 0.03 if compared else None,
                    "vs_random_low": mean - 0.03 - width if compared else None,
                    "vs_random_high": mean - 0.03 + width if compared else None,
                    "heldout_loss": 1.1 - mean,
                    "heldout_loss_before": 1.1,
                    "kept_tokens": round(15360 * ratio),
                    "valid_tokens": 15360,
                    "seconds": 11.5 + generator.random(),
                }
            )
            for step in range(steps):
                loss = 0.5 * math.exp(-step * (0.01 + 0.004 * number)) + 0.02 * generator.random()
                history.append(
                    {"method": method, "ratio": ratio, "seed": seed, "step": step, "reverse_kl": loss}
                    | {"keep_ratio": ratio}
                )
    return {
        "title": "TA-OPD: toy comparison of token selectors",
        "notice": "Toy models are a demonstration of the software, not evidence about real models.",
        "settings": {"steps": steps, "learning_rate": 3e-4, "tau": None, "device": "cpu", "tie_break": "position"},
        "results": results,
        "contexts_n": contexts,
        "prompts_n": max(1, contexts // 2),
        "history": history,
        "contexts": [make_context(generator, index, length, labels) for index in range(contexts)],
        "score_info": {
            "entropy": {"label": "Student entropy", "unit": "nats", "help": "Entropy of the student's distribution."},
            "teacher_entropy": {"label": "Teacher entropy", "unit": "nats", "help": ""},
            "disagreement": {"label": "Disagreement", "unit": "nats", "help": "Reverse KL at this token."},
            "compatibility": {"label": "Compatibility", "unit": "", "help": ""},
            "teachability": {"label": "Teachability", "unit": "", "help": "H_norm × D_norm × C_norm."},
            "kl_before": {"label": "KL before training", "unit": "nats", "help": ""},
        },
    }


@pytest.fixture(scope="module")
def data() -> dict:
    """Report data of the usual size."""
    return make_data()


@pytest.fixture(scope="module")
def hostile() -> dict:
    """Small report data with awkward token texts and missing values."""
    made = make_data(contexts=2, length=len(HOSTILE), seeds=1, steps=3)
    made["title"] = "Title </title><script>window.broken = 3</script> & more"
    made["settings"] = {"<b>name</b>": "<script>window.broken = 4</script>"}
    for context in made["contexts"]:
        context["tokens"] = list(HOSTILE)
        context["prompt"] = "</script><script>window.broken = 5</script>\u2028"
        context["student_top"][0] = [[text, 0.2] for text in HOSTILE[:5]]
        context["scores"]["teachability"][0] = None
        context["scores"]["all_missing"] = [None] * len(HOSTILE)
        context["teacher_logp"][0] = None
        context["quadrant"][0] = None
        context["gain"]["teachability:0.10"][0] = None
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """A headless Chromium that keeps its browser log."""
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("chromium and chromedriver are not both on PATH")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, request: pytest.FixtureRequest, tmp_path: Path):
    """Open a report at a given width and fail on any error that the browser logged."""

    def open_page(made: dict, width: int = 1280, height: int = 900, fragment: str = ""):
        path = tmp_path / "report.html"
        build_report(made, path)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(path.as_uri() + fragment)
        return browser

    yield open_page
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe


def find(browser, selector: str):
    """All elements that match a CSS selector."""
    return browser.find_elements("css selector", selector)


def choose(browser, name: str, value: str) -> None:
    """Set a drop-down the way a person does."""
    browser.execute_script(
        "const node = document.getElementById(arguments[0]); node.value = arguments[1];"
        "node.dispatchEvent(new Event('change', {bubbles: true}));",
        name,
        value,
    )


def colors(browser) -> list[str]:
    """Background colour of every token shown."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.tok')].map((node) => getComputedStyle(node).backgroundColor)"
    )


def marks(browser) -> str:
    """Which tokens carry the kept mark, as a string of 0 and 1."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.tok')]"
        ".map((node) => Number(node.classList.contains('kept-mark'))).join('')"
    )


def point_at(browser, node) -> None:
    """Move the pointer onto an element."""
    from selenium.webdriver import ActionChains

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
    ActionChains(browser).move_to_element(node).perform()


def card_rows(browser) -> dict[str, str]:
    """Text of each row of the card, by its row header."""
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#card tbody tr')]"
        ".map((row) => [row.cells[0].textContent, row.textContent])"
    )
    return dict(rows)


def unpack(text: str) -> np.ndarray:
    """Undo ``pack_floats``."""
    triples = np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(-1, 3)
    return np.pad(triples, ((0, 0), (1, 0))).view("<f4").ravel()


def test_packed_numbers_keep_four_digits_and_missing_stays_missing() -> None:
    values = [0.0, 1.0, -2.5, 123456.0, 1.2345e-9, None, math.inf, -math.inf, 0.1]
    back = unpack(pack_floats(values))
    assert np.isnan(back[5])
    known = [value for value in values if value is not None]
    np.testing.assert_allclose(np.delete(back, 5), known, rtol=1e-5)
    assert len(pack_floats(values)) == 4 * len(values)


def test_safe_json_has_no_markup_and_reads_back() -> None:
    text = safe_json(list(HOSTILE))
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == list(HOSTILE)


def test_page_fetches_nothing(data: dict) -> None:
    page = render(data)
    markup = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    outside = markup.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|\bsrc\s*=|@import|url\(|\bfetch\(|innerHTML|<link", outside)
    assert "default-src 'none'" in page
    assert '<html lang="en">' in page
    assert f"<title>{data['title']}</title>" in page


def test_every_control_has_a_label(data: dict) -> None:
    page = render(data)
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    for label in re.findall(r"<label>.*?</label>", page):
        labelled.update(re.findall(r'<select id="([^"]+)"', label))
    assert set(re.findall(r'<select id="([^"]+)"', page)) == labelled


def test_hostile_text_stays_text_in_the_file(hostile: dict) -> None:
    page = render(hostile)
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "\u2028" not in page
    assert "<b>name" not in page


def test_write_replaces_the_file_and_leaves_nothing_behind(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "out" / "report.html"
    build_report(data, path)
    path.write_text("old")
    build_report(data, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="history"):
        build_report({name: value for name, value in data.items() if name != "history"}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("field", ["student_logp", "teacher_top", "quadrant", "scores", "kept", "gain"])
def test_length_that_disagrees_is_named(field: str) -> None:
    made = make_data(contexts=1, length=4, seeds=1, steps=1)
    context = made["contexts"][0]
    if field in ("scores", "kept", "gain"):
        name = next(iter(context[field]))
        context[field][name] = context[field][name][:-1]
    else:
        context[field] = context[field][:-1]
    with pytest.raises(AssertionError, match=rf"c000.*{field}.*3 entries for 4 tokens"):
        render(made)


def test_plots_are_written_in_both_formats(tmp_path: Path) -> None:
    paths = save_plots(make_data(contexts=4, length=32, seeds=2, steps=5), tmp_path / "plots")
    assert [path.name for path in paths] == [
        f"{name}.{ending}"
        for name in ("gain_intervals", "entropy_disagreement", "training_curves")
        for ending in ("png", "pdf")
    ]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_report_and_plots_stand_missing_parts(tmp_path: Path, page) -> None:
    made = make_data(contexts=2, length=8, seeds=1, steps=1)
    made["history"] = []
    made["score_info"] = {}
    made["results"] = [
        row | {"vs_random_mean": None, "vs_random_low": None, "vs_random_high": None} for row in made["results"]
    ]
    for context in made["contexts"]:
        context["scores"] = {"entropy": context["scores"]["entropy"]}
    assert len(save_plots(made, tmp_path / "plots")) == 6
    browser = page(made)
    assert "no training history" in browser.find_element("id", "curves").text
    assert "not in the data" in browser.find_element("id", "intervals").text
    page(made | {"contexts": [], "results": []})
    assert "no contexts" in browser.find_element("id", "heat-tokens").text
    assert len(save_plots(made | {"contexts": [], "results": []}, tmp_path / "empty")) == 6


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


def test_table_sorts_and_names_intervals_that_hold_zero(data: dict, page) -> None:
    browser = page(data)
    header = next(node for node in find(browser, "#results th button") if node.text.startswith("Gain"))
    index = [node.text for node in find(browser, "#results th button")].index(header.text) + 1
    header.click()

    def means() -> list[float]:
        cells = browser.execute_script(
            f"return [...document.querySelectorAll('#results tbody tr > :nth-child({index})')]"
            ".map((cell) => cell.textContent)"
        )
        return [float(cell.split()[0].replace("−", "-")) for cell in cells]

    assert means() == sorted(means(), reverse=True)
    find(browser, f"#results th:nth-child({index}) button")[0].click()
    assert means() == sorted(means())
    assert find(browser, f"#results th:nth-child({index})")[0].get_attribute("aria-sort") == "ascending"
    table = browser.find_element("id", "results").get_attribute("textContent")
    crossing = sum(row["gain_low"] <= 0 <= row["gain_high"] for row in data["results"])
    assert table.count("not distinguishable from 0") == crossing
    assert len(find(browser, "#intervals figure:first-child g.crosses")) == crossing


@pytest.mark.parametrize("width", [1280, 390])
def test_page_never_scrolls_sideways(width: int, data: dict, hostile: dict, page) -> None:
    for made in (data, hostile):
        browser = page(made, width=width, height=900 if width > 500 else 844)
        browser.execute_script("document.querySelector('details').open = true")
        inner, scroll = browser.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
        assert inner == width
        assert scroll <= width


def test_large_report_is_small_enough_and_opens_fast(page, tmp_path: Path) -> None:
    made = make_data(contexts=300, length=192)
    browser = page(made)
    assert (tmp_path / "report.html").stat().st_size < 15e6
    assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
    timing = browser.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert timing < 2000
    assert len(find(browser, ".tok")) == 192
    start = time.perf_counter()
    browser.find_element("id", "heat-next").click()
    assert time.perf_counter() - start < 1
