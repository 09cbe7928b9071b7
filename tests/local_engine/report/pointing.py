"""What a person does to the page and sees of it."""

from __future__ import annotations


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
