"""The page of a battle in a real browser: every control does what it says. Skipped where there is none."""

import shutil
import time
from pathlib import Path

import jax
import pytest

from limbeck.envs import smac
from limbeck.envs.smac.render import Film, render_html
from limbeck.envs.smac.scripted import baselines
from limbeck.play import record

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    pytest.skip("no browser: apt-get install chromium chromium-driver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: make setup")

SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "force-device-scale-factor=1", "window-size=1200,900"),
)
KEYS = {"space": " ", "right": "\ue014", "left": "\ue012", "home": "\ue011", "end": "\ue010"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Two short battles of a script."""
    env = smac.make("3m")
    films, (policy, params) = {}, baselines(env)["nearest"]
    for seed, name in enumerate(("teacher", "student")):
        recorded = record(env, policy, params, jax.random.key(seed), env.snapshot)
        films[name] = Film(env, recorded.moments, recorded.rewards, "won" if recorded.won else "lost", "a script")
    return render_html(films, tmp_path_factory.mktemp("page") / "battle.html", "Three against three")


@pytest.fixture
def opened(browser, page):
    browser.get("about:blank")
    browser.get(page.as_uri())
    return browser


def step_of(browser) -> int:
    return int(browser.find_element("id", "clock").text.split("/")[0])


def last_of(browser) -> int:
    return int(browser.find_element("id", "time").get_attribute("max"))


def pictures(browser) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('.field canvas')].map(each => each.toDataURL())")


def press(browser, name: str) -> None:
    browser.find_element("id", name).click()


def type_key(browser, name: str) -> None:
    browser.switch_to.active_element.send_keys(KEYS[name])


def slide(browser, to: int) -> None:
    """What dragging the slider ends in."""
    slider = browser.find_element("id", "time")
    browser.execute_script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, to)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def test_play_runs_and_pause_holds(opened):
    assert step_of(opened) == 0 and opened.find_element("id", "play").text == "Play"
    first = pictures(opened)
    press(opened, "play")
    wait_for(lambda: step_of(opened) >= 2)
    press(opened, "play")
    held, shown = step_of(opened), pictures(opened)
    assert all(a != b for a, b in zip(first, shown, strict=True))
    time.sleep(0.4)
    assert step_of(opened) == held and pictures(opened) == shown


def test_steps_go_both_ways(opened):
    seen = [pictures(opened)]
    for expected in (1, 2, 3):
        press(opened, "next")
        assert step_of(opened) == expected
        seen.append(pictures(opened))
    assert len({each[0] for each in seen}) == 4
    press(opened, "back")
    assert step_of(opened) == 2 and pictures(opened) == seen[2]


def test_the_slider_goes_anywhere_and_the_end_says_how_it_ended(opened):
    last = last_of(opened)
    said = opened.find_elements("css selector", ".outcome")
    assert not any(each.is_displayed() for each in said)
    slide(opened, last // 2)
    middle = pictures(opened)
    assert step_of(opened) == last // 2
    slide(opened, last)
    assert step_of(opened) == last and all(each.is_displayed() for each in said)
    assert all(a != b for a, b in zip(middle, pictures(opened), strict=True))
    assert {each.text for each in said} <= {"won", "lost"}
    steps = [int(each.text.split()[1]) for each in opened.find_elements("css selector", ".head div:last-child b")]
    assert max(steps) == last


def test_keys(opened):
    type_key(opened, "right")
    type_key(opened, "right")
    type_key(opened, "left")
    assert step_of(opened) == 1
    type_key(opened, "end")
    assert step_of(opened) == last_of(opened)
    type_key(opened, "home")
    type_key(opened, "space")
    wait_for(lambda: step_of(opened) >= 1)
    type_key(opened, "space")
    assert opened.find_element("id", "play").text == "Play"
    press(opened, "next")  # the button has the focus now: the keys must not do things twice
    held = step_of(opened)
    type_key(opened, "right")
    assert step_of(opened) == held + 1


def test_sight_and_bars_are_switches(opened):
    plain = pictures(opened)
    press(opened, "sight")
    assert all(a != b for a, b in zip(plain, pictures(opened), strict=True))
    press(opened, "sight")
    assert pictures(opened) == plain
    press(opened, "bars")
    assert pictures(opened) != plain


def test_speed(opened):
    opened.execute_script("document.getElementById('speed').value = '4'")
    press(opened, "play")
    wait_for(lambda: step_of(opened) == last_of(opened))
    assert opened.find_element("id", "play").text == "Play", "it stops at the end"


def test_a_moment_has_an_address(opened, page):
    opened.get("about:blank")
    opened.get(page.as_uri() + "#step=7")
    assert step_of(opened) == 7


def test_it_fits_a_narrow_window(opened):
    try:
        opened.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 380, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        )
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 380
        tops = [each.rect["y"] for each in opened.find_elements("css selector", "figure")]
        assert tops[1] > tops[0] + 100, "one above the other"
        press(opened, "next")
        assert step_of(opened) == 1
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_was_asked_of_the_network_and_nothing_went_wrong(opened):
    press(opened, "next")
    asked = opened.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [each for each in asked if not each.startswith("data:")] == []
    assert [each for each in opened.get_log("browser") if each["level"] == "SEVERE"] == []
