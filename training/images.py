"""The images of samples, decoded."""

from PIL import Image as Pictures

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.files import read_bytes, refuse_links
from star_tvr.schemas.pictures import decode_png
from star_tvr.schemas.records import Image, Sample
from star_tvr.training.parquet_dataset import ParquetDataset

LONGEST_PNG = 64_000_000
"""Bytes of a picture's file."""


def image_of(dataset: Dataset, sample: Sample, state: str, camera: str) -> Image:
    """The record of one image. Raises DataError if the sample has none."""
    try:
        return sample.image(state, camera)
    except KeyError:
        raise DataError(
            f"{dataset.folder(sample.id) / 'sample.json'}: there is no {state} image from camera "
            f"{camera}"
        ) from None


def open_image(dataset: Dataset, sample: Sample, state: str, camera: str) -> Pictures.Image:
    """Decode one image of a sample, RGB.

    Raises:
        DataError: as `read_picture`, or the sample has no such image.
    """
    image = image_of(dataset, sample, state, camera)
    return read_picture(dataset, sample, image, image.path, "RGB")[1]


def read_picture(
    dataset: Dataset, sample: Sample, image: Image, name: str, mode: str
) -> tuple[bytes, Pictures.Image]:
    """A file of an image record and what it shows.

    Args:
        name: of the picture or the mask.
        mode: `RGB` for pictures, `L` for masks.

    Raises:
        DataError: it is missing, damaged, a link, or another picture than recorded.
    """
    path = dataset.folder(sample.id) / name
    size, every = (image.width, image.height), dataset.config.image
    if size != (every.width, every.height):
        raise DataError(
            f"{path.parent / 'sample.json'}: {name} is recorded as {size[0]} x {size[1]}, but "
            f"pictures of {dataset.root} are {every.width} x {every.height}"
        )
    try:
        if isinstance(dataset, ParquetDataset):
            content = dataset.picture(sample.id, name)
        else:
            refuse_links(dataset.root, path)
            content = read_bytes(path, LONGEST_PNG)
        return content, decode_png(content, path, mode, size)
    except DataError as problem:
        whole = isinstance(dataset, ParquetDataset)
        cure = "export again" if whole else "delete the sample's folder and render again"
        raise DataError(f"{problem}; {cure}") from None
