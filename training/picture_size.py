"""The size at which a model sees pictures, which its processor tells, and coordinates refer to.

Qwen2.5-VL and its like scale every picture to whole patches, within `min_pixels` and `max_pixels`,
and name places by the pixels of the scaled picture.
"""

from typing import TYPE_CHECKING, Any

from PIL import Image

from star_tvr.schemas.dataset import Dataset
from star_tvr.training.models import reading
from star_tvr.training.scene_facts import Size

if TYPE_CHECKING:
    from transformers import ProcessorMixin


def seen_size(processor: "ProcessorMixin", dataset: Dataset) -> Size | None:
    """Width and height to which a processor scales the pictures of a data set, by its own doing.

    None of processors that do not tell it: those that cut pictures into tiles, or put all of them
    into one square, have no coordinates of their own.

    Raises:
        ModelError: the processor cannot work as its files say.
    """
    sizes: Any = processor
    image = Image.new("RGB", (dataset.config.image.width, dataset.config.image.height))
    with reading("model: its processor", "mend processor, or get the model again"):
        patches = sizes.image_processor(images=[image], return_tensors="pt").get("image_grid_thw")
        if patches is None:
            return None
        _, rows, columns = patches[0].tolist()
        return columns * sizes.image_processor.patch_size, rows * sizes.image_processor.patch_size
