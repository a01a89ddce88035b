"""Images with labels, and the sampling of a few of them."""

import os
import random
import tarfile
import zipfile
from collections import defaultdict

from dassl.utils import check_isfile, download_url


class Datum:
    """One image: its path, its label, its domain and its class name."""

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not isinstance(impath, str):
            raise TypeError(f"expected a string as path of an image, found {type(impath).__name__}")
        if not check_isfile(impath):
            raise FileNotFoundError(f"expected an image at {impath}, found no file")
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    impath = property(lambda self: self._impath)
    label = property(lambda self: self._label)
    domain = property(lambda self: self._domain)
    classname = property(lambda self: self._classname)


class DatasetBase:
    """Training, validation and test items; class names and label count follow from the training items."""

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
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: list[Datum]) -> tuple[dict[int, str], list[str]]:
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def check_input_domains(self, source_domains, target_domains) -> None:
        for domain in (*source_domains, *target_domains):
            if domain not in self.domains:
                raise ValueError(f"expected a domain out of {self.domains}, found {domain!r}")

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Fetch an archive to `dst` and unpack it beside; members that leave the folder are refused."""
        os.makedirs(os.path.dirname(dst), exist_ok=True)
        download_url(url, dst, from_gdrive=from_gdrive)
        folder = os.path.dirname(dst)
        if zipfile.is_zipfile(dst):
            with zipfile.ZipFile(dst) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(dst) as archive:
                archive.extractall(folder, filter="data")

    def generate_fewshot_dataset(self, *data_sources, num_shots: int = -1, repeat: bool = False):
        """`num_shots` random items of each label, from each source; all items where there are fewer.

        With fewer items than shots, `repeat` draws with replacement up to `num_shots`. Uses Python's global generator.
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
        groups = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return groups

    def split_dataset_by_domain(self, data_source: list[Datum]) -> dict[int, list[Datum]]:
        groups = defaultdict(list)
        for item in data_source:
            groups[item.domain].append(item)
        return groups
