"""One browser for all tests of this folder, and one page of digits."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import Browser, installed
from rectilinear import cli, load
from rectilinear.flow import LinearFlow


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if installed() is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def digits() -> LinearFlow:
    model = load("digits")
    assert isinstance(model, LinearFlow)
    return model


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explorer") / "new" / "explorer.html"
    assert cli.main(["explore", "digits", "--out", str(out)]) == 0
    return out


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The page of digits, in the state that a test before left it in."""
    if browser.run("location.href.split('#')[0]") != page.resolve().as_uri():  # by another test
        browser.open(page)
        browser.wait("explorer.idle()")
    return browser
