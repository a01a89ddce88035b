"""Data set + transforms -> loaders."""

import torch
from dassl.data import transforms
from dassl.data.datasets import build_dataset
from dassl.data.samplers import build_sampler
from dassl.utils import read_image
from torch.utils.data import DataLoader, Dataset


class DatasetWrapper(Dataset):
    """Items as dictionaries: label, domain, impath, index and img (or img, img2, ... for a list of transforms)."""

    def __init__(self, cfg, data_source, transform=None, is_train: bool = False):
        self.cfg, self.data_source, self.transform, self.is_train = cfg, data_source, transform, is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"expected a transform for DATALOADER.K_TRANSFORMS {self.k_tfm}, found none")
        if self.return_img0:
            self.to_tensor = transforms.build_unaugmented(cfg)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict:
        item = self.data_source[index]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        image = read_image(item.impath)
        if self.transform is None:
            output["img"] = image
        elif isinstance(self.transform, list | tuple):
            for number, transform in enumerate(self.transform, 1):
                output["img" if number == 1 else f"img{number}"] = self._transformed(transform, image)
        else:
            output["img"] = self._transformed(self.transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _transformed(self, transform, image):
        views = [transform(image) for _ in range(self.k_tfm)]
        return views if len(views) > 1 else views[0]


def build_data_loader(
    cfg,
    sampler_type: str = "SequentialSampler",
    data_source=None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm=None,
    is_train: bool = True,
    dataset_wrapper=None,
) -> DataLoader:
    """A loader over `data_source`; in training a last partial batch is left out unless it is the only one."""
    sampler = build_sampler(
        sampler_type, cfg=cfg, data_source=data_source, batch_size=batch_size, n_domain=n_domain, n_ins=n_ins
    )
    loader = DataLoader(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )
    if len(loader) == 0:
        raise ValueError(f"expected images for a loader, found none in {cfg.DATASET.NAME}")
    return loader


class DataManager:
    """The data set of a configuration with its loaders: train_loader_x, train_loader_u, val_loader, test_loader."""

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        dataset = build_dataset(cfg)
        if custom_tfm_train is None:
            custom_tfm_train = transforms.build_transform(cfg, is_train=True)
        else:
            print("* Using custom transform for training")
        if custom_tfm_test is None:
            custom_tfm_test = transforms.build_transform(cfg, is_train=False)
        else:
            print("* Using custom transform for testing")

        def train_loader(source, node):
            return build_data_loader(
                cfg,
                sampler_type=node.SAMPLER,
                data_source=source,
                batch_size=node.BATCH_SIZE,
                n_domain=node.N_DOMAIN,
                n_ins=node.N_INS,
                tfm=custom_tfm_train,
                is_train=True,
                dataset_wrapper=dataset_wrapper,
            )

        def test_loader(source):
            return build_data_loader(
                cfg,
                sampler_type=cfg.DATALOADER.TEST.SAMPLER,
                data_source=source,
                batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=custom_tfm_test,
                is_train=False,
                dataset_wrapper=dataset_wrapper,
            )

        loaders = cfg.DATALOADER
        self.train_loader_x = train_loader(dataset.train_x, loaders.TRAIN_X)
        self.train_loader_u = None
        if dataset.train_u:
            node = loaders.TRAIN_X if loaders.TRAIN_U.SAME_AS_X else loaders.TRAIN_U
            self.train_loader_u = train_loader(dataset.train_u, node)
        self.val_loader = test_loader(dataset.val) if dataset.val else None
        self.test_loader = test_loader(dataset.test)
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        self.dataset = dataset
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    num_classes = property(lambda self: self._num_classes)
    num_source_domains = property(lambda self: self._num_source_domains)
    lab2cname = property(lambda self: self._lab2cname)

    def show_dataset_summary(self, cfg) -> None:
        rows = [("Dataset", cfg.DATASET.NAME), ("# classes", f"{self.num_classes:,}")]
        for name in ("train_x", "train_u", "val", "test"):
            source = getattr(self.dataset, name)
            if source:
                rows.append((f"# {name}", f"{len(source):,}"))
        rule = "-" * 30
        print("\n".join([rule, *(f"{name:<10} {value}" for name, value in rows), rule]))
