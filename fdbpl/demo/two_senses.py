"""A data set whose base and new classes show their names in opposite senses: what helps one half harms the other."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from fdbpl.demo.forms import EVERYDAY, NAMES, WORKSHOP
from fdbpl.demo.scenes import draw_frame, draw_scene
from fdbpl.demo.synthetic_dataset import SyntheticDataset, file_name


@dataclass(frozen=True)
class TwoSensesDataset(SyntheticDataset):
    """Even numbers are images in the everyday sense, odd ones in the workshop sense.

    A split takes `share` of the images of a base name from the workshop sense and of a new name from the everyday
    sense, and the rest from the other one, so it depends on the class split which images are used.
    """

    share: float = 1.0

    @property
    def numbers(self) -> range:
        return range(2 * sum(self.counts.values()))

    def split(self, class_split: int) -> dict[str, list[tuple[str, int, str]]]:
        rows, first = {}, 0
        for part, all_rows in super().split(class_split).items():
            count = self.counts[part]
            names = list(dict.fromkeys(name for _, _, name in all_rows))
            rows[part] = [
                (file_name(name, 2 * (first + k) + self._sense(label < len(names) // 2, k / count)), label, name)
                for label, name in enumerate(names)
                for k in range(count)
            ]
            first += count
        return rows

    def _sense(self, base: bool, position: float) -> int:
        """EVERYDAY (0) or WORKSHOP (1) of the image at `position` in [0, 1) among those of its class."""
        return WORKSHOP if base == (position < self.share) else EVERYDAY


def _draw(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    width, height, place = draw_frame(rng)
    medium = "photo" if rng.random() < 0.7 else "painting"
    sense = WORKSHOP if number % 2 else EVERYDAY
    image, _ = draw_scene(rng, width, height, medium, name, sense, place, workshop_style=True)
    return Image.fromarray(image)


HARD = TwoSensesDataset("DemoHard", NAMES, {"train": 24, "val": 4, "test": 40}, _draw, seed=500)
