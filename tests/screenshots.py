"""Pictures of pages and of each figure on them, on a phone and on a wide screen, light, dark and printed, to be looked at.

``python -m tests.screenshots FOLDER report.html http://127.0.0.1:…`` writes them, and says which texts of figures are cut off or lie on one another.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from pathlib import Path

from tests.browser import Page, browser

WIDTHS = (390, 1400)

# Of each figure, its texts that leave it and the pairs that share more than a sliver.
FAULTS = """(() => {
  const found = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const box = plot.getBoundingClientRect(), name = plot.dataset.figure ?? "plot";
    const all = [...plot.querySelectorAll("svg text")].filter(text => text.textContent.trim() && text.checkVisibility({ opacityProperty: true }))
      .filter(text => !text.closest(".modebar, .hoverlayer")).map(text => [text.textContent, text.getBoundingClientRect()]);
    const texts = all.filter(([, own]) => own.width && own.height);
    for (const [text, own] of texts)
      if (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1)
        found.push(`${name}: "${text}" is cut off`);
    texts.forEach(([text, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 4) found.push(`${name}: "${text}" lies on "${other}"`);
    }));
  }
  return found;
})()"""


def draw_all(page: Page) -> None:
    """Draw every figure, whether in sight or not, and wait until the browser has painted them."""
    page.until("document.querySelector('.plot .main-svg') || !document.querySelector('.plot')", seconds=600)
    for i in range(page.run("typeof plots === 'undefined' ? 0 : plots.length")):
        page.run(f"void draw(plots[{i}])")
    page.run("new Promise(done => setTimeout(() => requestAnimationFrame(done), 300))")


def shoot(page: Page, address: str, folder: Path) -> list[str]:
    """Write the pictures of one page.

    Args:
        page: of a browser.
        address: of the page.
        folder: is made; a picture is called WIDTH-THEME.png, that of a figure WIDTH-THEME-FIGURE.png.

    Returns:
        What is wrong with texts of figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for width in WIDTHS:
        page.size(width)
        page.open(address)
        draw_all(page)
        faults += [f"{width} pixels, {fault}" for fault in page.run(FAULTS)]
        for theme in ("light", "dark"):
            page.size(width, dark=theme == "dark")
            page.run("new Promise(done => setTimeout(() => requestAnimationFrame(done), 300))")
            page.screenshot(folder / f"{width}-{theme}.png")
            boxes = page.run(
                "[...document.querySelectorAll('figure, .figure')].map(figure => [figure.querySelector('.plot')?.dataset.figure ?? 'plot', "
                "figure.getBoundingClientRect()]).map(([name, box]) => [name, box.x + scrollX, box.y + scrollY, box.width, box.height])"
            )
            for name, x, y, wide, high in boxes:
                clip = {"x": x, "y": y, "width": wide, "height": high, "scale": 1}
                data = page.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
                (folder / f"{width}-{theme}-{name}.png").write_bytes(base64.b64decode(data))
    (folder / "print.pdf").write_bytes(base64.b64decode(page.call("Page.printToPDF", printBackground=False)["data"]))
    return faults


def main() -> None:
    """Take the pictures of the pages that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("pages", nargs="+", help="HTML files or addresses")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as page:
        for each in arguments.pages:
            address = each if "://" in each else Path(each).resolve().as_uri()
            name = "watch" if "://" in each else Path(each).stem
            faults = shoot(page, address, arguments.folder / name)
            print("\n".join([f"{each}: {len(faults)} faults, {len(page.console)} words on the console", *faults, *page.console]), flush=True)


if __name__ == "__main__":
    main()
