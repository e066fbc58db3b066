"""The images of samples, decoded."""

from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from star_tvr.scenes.errors import DataError
from star_tvr.schemas.dataset import Dataset
from star_tvr.schemas.records import Sample
from star_tvr.training.parquet_dataset import ParquetDataset


def image_path(dataset: Dataset, sample: Sample, state: str, camera: str) -> Path:
    """The file of one image. Raises DataError if the sample has none."""
    folder = dataset.folder(sample.id)
    try:
        return folder / sample.image(state, camera).path
    except KeyError:
        raise DataError(
            f"{folder / 'sample.json'}: there is no {state} image from camera {camera}"
        ) from None


def open_image(dataset: Dataset, sample: Sample, state: str, camera: str) -> Image.Image:
    """Decode one image of a sample as RGB.

    Raises:
        DataError: the sample has no such image, or the file is missing or damaged.
    """
    path = image_path(dataset, sample, state, camera)
    if isinstance(dataset, ParquetDataset):
        return read_rgb(path, dataset.picture(sample.id, path.name))
    return read_rgb(path)


def read_rgb(path: Path, content: bytes | None = None) -> Image.Image:
    """Decode an image file completely, as RGB.

    Args:
        content: what is in the file, if that was read already.

    Raises:
        DataError: it is missing, truncated or no image.
    """
    try:
        with Image.open(path if content is None else BytesIO(content)) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image; render the sample again") from None
    except (OSError, SyntaxError, UnidentifiedImageError) as problem:
        # Pillow raises SyntaxError for a damaged PNG chunk.
        cure = "delete the sample's folder and render" if content is None else "export"
        raise DataError(f"{path}: the image is damaged ({problem}); {cure} again") from None
