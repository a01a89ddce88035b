"""Headless Chromium: pages for the tests, and screenshots for the docs.

python tests/report/browser.py REPORT.html FOLDER
"""

import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SCREENSHOTS = {  # name -> width, dark, element (None: the first screen)
    "report-top": (1280, False, None),
    "report-classes": (1280, False, "#classes .charts"),
    "report-score": (1280, False, "#score"),
    "report-cost": (1280, False, "#cost"),
    "report-regions": (1280, False, "#gallery"),
    "report-phone": (375, True, None),
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """An installed Chromium, else that of `playwright install chromium`; playwright's Error if there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Browser, file: Path, width: int, dark: bool = False) -> tuple[Page, list[str], list[str]]:
    """Open a file; return the page, its errors and warnings, and the addresses that it requests."""
    size = {"width": width, "height": 1100 if width > 600 else 800}
    page = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.resolve().as_uri())
    return page, errors, requests


def main() -> None:
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, (width, dark, element) in SCREENSHOTS.items():
            page, _, _ = open_page(browser, file, width, dark)
            page.evaluate("document.querySelectorAll('#classes details').forEach(part => part.open = true)")
            if element:
                page.add_style_tag(content="nav { display: none; }")
            image = (page.locator(element).first if element else page).screenshot()
            Image.open(io.BytesIO(image)).quantize(128).save(folder / f"{name}.png", optimize=True)
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
