"""Take screenshots of a report for the docs: `python tests/report/screenshots.py REPORT.html FOLDER`."""

import sys
from pathlib import Path

from browser import Browser, find

SHOTS = {  # name -> width, dark, element (None: the whole page)
    "report-top": (1280, False, None),
    "report-top-dark": (1280, True, None),
    "report-tables": (1280, False, "#tables"),
    "report-few-shot": (1280, False, "#few-shot"),
    "report-score": (1280, False, "#score"),
    "report-learning": (1280, True, "#learning"),
    "report-cost": (1280, False, "#cost"),
    "report-missing": (1280, False, "#missing"),
    "report-regions": (1280, False, "#gallery"),
    "report-phone": (375, True, None),
}


def main() -> None:
    page, folder = Path(sys.argv[1]), Path(sys.argv[2])
    program = find()
    if program is None:
        sys.exit("Chromium is not installed. Install it, e.g.: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with Browser(program) as browser:
        for name, (width, dark, element) in SHOTS.items():
            browser.open(page, width, dark, height=1100 if width > 600 else 800)
            if element and not browser.evaluate(f"!!document.querySelector('{element}')"):
                continue
            browser.screenshot(folder / f"{name}.png", selector=element)
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
