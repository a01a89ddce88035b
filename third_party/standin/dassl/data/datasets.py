"""Base class of data sets, their items, and the registry of data sets."""

import random
from collections import defaultdict

from dassl.utils import Registry, check_availability, check_isfile

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """Construct the data set that `cfg.DATASET.NAME` names."""
    check_availability(cfg.DATASET.NAME, DATASET_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)


class Datum:
    """The path, label, domain and class name of an image; read-only.

    Raises:
        FileNotFoundError: there is no file at `impath`.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not check_isfile(impath):
            raise FileNotFoundError(f"There is no image at {impath}")
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    impath = property(lambda self: self._impath)
    label = property(lambda self: self._label)
    domain = property(lambda self: self._domain)
    classname = property(lambda self: self._classname)


class DatasetBase:
    """Training, validation and test items. The classes are those of the training items."""

    dataset_dir = ""
    domains: list[str] = []

    def __init__(self, train_x=None, train_u=None, val=None, test=None):
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    train_x = property(lambda self: self._train_x)
    train_u = property(lambda self: self._train_u)
    val = property(lambda self: self._val)
    test = property(lambda self: self._test)
    lab2cname = property(lambda self: self._lab2cname)
    classnames = property(lambda self: self._classnames)
    num_classes = property(lambda self: self._num_classes)

    @staticmethod
    def get_num_classes(data_source: list[Datum]) -> int:
        """Return the largest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: list[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return the class name of each label, and the class names in the order of the labels."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def generate_fewshot_dataset(self, *data_sources, num_shots: int = -1, repeat: bool = False):
        """Draw `num_shots` items of each label from each source with Python's global generator.

        A label with fewer items keeps all of them; with `repeat` it draws `num_shots` of them with replacement.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for data_source in data_sources:
            few = []
            for items in self.split_dataset_by_label(data_source).values():
                if len(items) >= num_shots:
                    few.extend(random.sample(items, num_shots))
                else:
                    few.extend(random.choices(items, k=num_shots) if repeat else items)
            output.append(few)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: list[Datum]) -> dict[int, list[Datum]]:
        """Group the items by their label."""
        groups = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups
