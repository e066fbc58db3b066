"""One picture with the first samples of data sets, a row each.

python examples/contact_sheet.py DATASET... OUT.png [--rows N]

With several data sets, the name of its folder stands above each.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from star_tvr.scenes.language import answer_words
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Sample

MARGIN = 6


def row(dataset: Dataset, sample: Sample) -> Image.Image:
    """The images of one sample side by side, named, with the answer and its words below."""
    font = ImageFont.load_default(13)
    pictures = [Image.open(dataset.folder(sample.id) / image.path) for image in sample.images]
    width, height = pictures[0].size
    words = answer_words(sample.plan.initial, sample.plan.transformations, dataset.world)
    lines = [
        f"{sample.id}   " + ", ".join(str(t) for t in sample.plan.transformations),
        "; ".join(words),
    ]
    across = max((width + MARGIN) * len(pictures), *(int(font.getlength(t)) for t in lines))
    strip = Image.new("RGB", (across + MARGIN, height + 20 + 18 * len(lines)), "white")
    draw = ImageDraw.Draw(strip)
    for k, (image, picture) in enumerate(zip(sample.images, pictures, strict=True)):
        x = MARGIN + k * (width + MARGIN)
        draw.text((x, 2), f"{image.state}, {image.camera}", "black", font)
        strip.paste(picture, (x, 20))
    for k, line in enumerate(lines):
        draw.text((MARGIN, height + 22 + 18 * k), line, "black", font)
    return strip


def heading(text: str) -> Image.Image:
    """A line of larger letters."""
    font = ImageFont.load_default(16)
    strip = Image.new("RGB", (int(font.getlength(text)) + 2 * MARGIN, 22), "white")
    ImageDraw.Draw(strip).text((MARGIN, 0), text, "black", font)
    return strip


def sheet(datasets: list[Dataset], count: int) -> Image.Image:
    """The first samples of every data set below each other."""
    rows = []
    for dataset in datasets:
        if len(datasets) > 1:
            rows.append(heading(dataset.root.resolve().name))
        rows += [row(dataset, dataset.sample(i)) for i in dataset.ids()[:count]]
    page = Image.new("RGB", (max(r.width for r in rows), sum(r.height + 4 for r in rows)), "white")
    top = 0
    for strip in rows:
        page.paste(strip, (0, top))
        top += strip.height + 4
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("--rows", type=int, default=4, help="of every data set, at most")
    asked = parser.parse_args()
    picture = sheet([Dataset.open(path) for path in asked.datasets], asked.rows)
    picture.save(asked.out, quality=85)
