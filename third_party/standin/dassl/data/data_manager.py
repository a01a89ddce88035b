"""Data loaders of a configuration."""

import torch
from dassl.data import transforms
from dassl.data.datasets import build_dataset
from dassl.data.samplers import build_sampler
from dassl.utils import read_image
from torch.utils.data import DataLoader, Dataset


class DatasetWrapper(Dataset):
    """Items as dictionaries with the keys label, domain, impath, index and img."""

    def __init__(self, cfg, data_source, transform=None, is_train: bool = False):
        if cfg.DATALOADER.K_TRANSFORMS > 1 or cfg.DATALOADER.RETURN_IMG0:
            raise ValueError(
                "The stand-in for Dassl supports neither DATALOADER.K_TRANSFORMS > 1 nor DATALOADER.RETURN_IMG0. "
                "Install upstream Dassl (bash third_party/install_dassl.sh)"
            )
        self.cfg, self.data_source, self.transform, self.is_train = cfg, data_source, transform, is_train

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict:
        item = self.data_source[index]
        image = read_image(item.impath)
        return {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
            "img": image if self.transform is None else self.transform(image),
        }


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
    """Construct a loader over `data_source`; training drops a last partial batch unless it is the only one."""
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
        raise ValueError(f"The data set {cfg.DATASET.NAME} has no images for a loader")
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

        def loader(source, node, is_train: bool) -> DataLoader | None:
            if not source:
                return None
            return build_data_loader(
                cfg,
                sampler_type=node.SAMPLER,
                data_source=source,
                batch_size=node.BATCH_SIZE,
                tfm=custom_tfm_train if is_train else custom_tfm_test,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )

        nodes = cfg.DATALOADER
        self.train_loader_x = loader(dataset.train_x, nodes.TRAIN_X, is_train=True)
        unlabeled = nodes.TRAIN_X if nodes.TRAIN_U.SAME_AS_X else nodes.TRAIN_U
        self.train_loader_u = loader(dataset.train_u, unlabeled, is_train=True)
        self.val_loader = loader(dataset.val, nodes.TEST, is_train=False)
        self.test_loader = loader(dataset.test, nodes.TEST, is_train=False)
        self.dataset = dataset
        self.num_classes = dataset.num_classes
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self.lab2cname = dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def show_dataset_summary(self, cfg) -> None:
        """Print the numbers of classes and of images."""
        rows = [("Dataset", cfg.DATASET.NAME), ("# classes", f"{self.num_classes:,}")]
        for name in ("train_x", "train_u", "val", "test"):
            source = getattr(self.dataset, name)
            if source:
                rows.append((f"# {name}", f"{len(source):,}"))
        rule = "-" * 30
        print("\n".join([rule, *(f"{name:<10} {value}" for name, value in rows), rule]))
