"""Sources of the data sets, and the places of their files in CoOp's layout (CoOp's DATASETS.md).

Only the files that the data sets read are downloaded. None of these addresses could be tried on the development machine
(24 November 2026). The checksums are quoted from:

* TV: torchvision 0.29, torchvision/datasets/*.py;
* TFDS: tensorflow/datasets, url_checksums/*.txt and datasets/*/checksums.tsv;
* HL: dczyjh/HAPR-LAPR, metadata/external_assets.json and its notes on PromptKD's archives. Seven of its nine split
  files have the checksums of those in linzhiqiu/cross_modal_adaptation;
* R: mlverse/torchvision, R/dataset-fgvc.R.
"""

from dataclasses import dataclass, field

from fdbpl.data.download import DRIVE, Source

# PromptKD keeps all data sets but ImageNet in archives of its own, split files included.
PROMPTKD = "https://huggingface.co/zhengli97/prompt_learning_dataset/resolve/ceb3112337fb6e1bf71534e355ca5569b63f19a6/"
SPLITS = "https://raw.githubusercontent.com/linzhiqiu/cross_modal_adaptation/c7e7e68ae4eeadfab98e7886b2d6c9cf48a7ceb5/splits/"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"
BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks/"


@dataclass(frozen=True)
class Part:
    """A part of a data set: a file, the content of an archive, or what a user must get.

    Attributes:
        title: description for messages.
        targets: paths below the data set's folder, in the order in which they are created.
        sources: equivalent sources, the original first; none if `manual` is given.
        size: bytes of the first source.
        unpack: the sources are archives. Each target is searched in them by the end of its path.
        aliases: other names of targets in some archives.
        inner: archives inside the archives.
        copy: file below the data root with the same content, which is copied if it exists.
        manual: steps for the user; {folder} is the data set's folder, quoted for a shell.
    """

    title: str
    targets: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    size: int = 0
    unpack: bool = True
    aliases: dict[str, str] = field(default_factory=dict)
    inner: tuple[str, ...] = ()
    copy: str = ""
    manual: str = ""


@dataclass(frozen=True)
class DatasetSources:
    folder: str  # below the data root, as in CoOp
    parts: tuple[Part, ...]


def images(targets: str, size: int, *sources: Source, **options) -> Part:
    """Return the part with the images, which come in archives; `targets` are separated by blanks."""
    return Part("the images", tuple(targets.split()), sources, size, **options)


def split_file(name: str, drive: str, sha256: str, size: int) -> Part:
    """Return the part with CoOp's split file, from CoOp's Google Drive or a repository with a copy."""
    digest = f"sha256:{sha256}"  # HL
    sources = Source(DRIVE + drive, digest, name), Source(SPLITS + name, digest)
    return Part("the split file", (name,), sources, size, unpack=False)


IMAGENET = """\
1. mkdir -p {folder}/images
   Get an account at https://image-net.org, agree to its terms, and download these files from
   https://image-net.org/challenges/LSVRC/2012/ into that folder (torchvision will check their MD5):
     ILSVRC2012_img_train.tar      1d675b47d978889d74fa0da5fadfb00e   138 GB
     ILSVRC2012_img_val.tar        29b22e2961454d5413ddabcf34fc5622   6.3 GB
     ILSVRC2012_devkit_t12.tar.gz  fa75699e90414af021442c21a62c3abf
2. Extract them (torchvision sorts the validation images into class folders):
     cd {folder}/images
     {python} -c 'from torchvision.datasets import ImageNet as I; I(".", "train"); I(".", "val")'
3. Delete the three archives and meta.bin.
To use an existing copy of ImageNet, link it: ln -s /your/imagenet/train /your/imagenet/val {folder}/images/"""

# CoOp's names of ImageNet's classes, the same file for ImageNet and its variants. No checksum is published.
CLASSNAMES = Part(
    "the class names", ("classnames.txt",),
    (Source(DRIVE + "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", name="classnames.txt"),),
    22_000, unpack=False, copy="imagenet/classnames.txt",
)  # fmt: skip

SOURCES = {
    "imagenet": DatasetSources(
        "imagenet", (CLASSNAMES, Part("the images", ("images/train", "images/val"), manual=IMAGENET))
    ),
    "caltech101": DatasetSources("caltech-101", (
        images(
            "101_ObjectCategories", 137_414_764,
            Source("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                   "md5:3138e1922a9193bfa496528edbbc45d0"),  # TV
            Source(PROMPTKD + "caltech-101.zip", name="caltech-101-promptkd.zip"),
            inner=("101_ObjectCategories.tar.gz",),
        ),
        split_file("split_zhou_Caltech101.json", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN",
                   "52ce83205ff8ff8a1a18119aad6376120ae35c36e783a984bc560cbf10e73fa5", 809_184),
    )),
    "oxford_pets": DatasetSources("oxford_pets", (
        images(
            "images", 791_918_971,  # TFDS
            Source(OXFORD + "pets/data/images.tar.gz", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),  # TV
            Source("https://thor.robots.ox.ac.uk/~vgg/data/pets/images.tar.gz", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Source(PROMPTKD + "oxford_pets.zip"),
        ),
        split_file("split_zhou_OxfordPets.json", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
                   "d7f3ffe65b3919f95132e51422894ae18686b83c331fd8c0adcdc3dc2de6301e", 724_217),
    )),
    "stanford_cars": DatasetSources("stanford_cars", (
        images(  # the originals at ai.stanford.edu no longer exist
            "cars_train cars_test", 1_959_002_685,  # HL
            Source(PROMPTKD + "stanford_cars.zip",
                   "sha256:50812812f33534ef2906b992762f96e8a5bb57b0eedc53800e91b7ed599abf8e"),  # HL
        ),
        split_file("split_zhou_StanfordCars.json", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT",
                   "40acee7aa65c8e4727a32d90e884b7c3f8960b523422317e163f7af65432959d", 1_855_652),
    )),
    "oxford_flowers": DatasetSources("oxford_flowers", (
        images(
            "jpg", 344_862_509,  # TFDS
            Source(OXFORD + "flowers/102/102flowers.tgz", "md5:52808999861908f626f3c1f4e79d11fa"),  # TV
            Source(PROMPTKD + "oxford_flowers.zip"),
        ),
        split_file("split_zhou_OxfordFlowers.json", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
                   "2f50c42fc1a17ca13c271cb4269b1347bdb43d2be672e34f74a4e4cbfbcca794", 771_139),
    )),
    "food101": DatasetSources("food-101", (
        images(
            "images", 4_996_278_331,  # TFDS
            Source("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "md5:85eeb15f3717b99a5da872d97d918f87"),  # TV
            Source(PROMPTKD + "food101.zip"),
        ),
        split_file("split_zhou_Food101.json", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl",
                   "7c3d456c4f348255e1a363e0ea5118318936488f3ec20d83758e0ee67cb9037c", 10_203_303),
    )),
    "fgvc_aircraft": DatasetSources("fgvc_aircraft", (
        Part(
            "the images and their lists",
            ("variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt", "images"),
            (
                Source(OXFORD + "fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                       "md5:d4acdd33327262359767eeaa97a4f732"),  # R
                Source(PROMPTKD + "fgvc_aircraft.zip"),
            ),
            2_753_340_328,
        ),
    )),
    "sun397": DatasetSources("sun397", (
        images(
            "SUN397", 39_077_296_924,  # TFDS
            Source("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                   "md5:8ca2778205c41d23104230ba66911c7a"),  # TV
            Source(PROMPTKD + "sun397.zip",
                   "sha256:ce6dee6685c9f1d592c8297e193dde885aa9c50d008fd998a38ccc57a3dda722"),  # HL
        ),
        split_file("split_zhou_SUN397.json", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq",
                   "9847f9ef611008073ac42adee6614bbb83f877cfbcfbd3115fc8284e0c8c1c47", 4_744_862),
    )),
    "dtd": DatasetSources("dtd", (
        images(
            "images", 625_239_812,  # TFDS
            Source(OXFORD + "dtd/download/dtd-r1.0.1.tar.gz", "md5:fff73e5086ae6bdbea199a49dfb8a4c1"),  # TV
            Source(PROMPTKD + "dtd.zip"),
        ),
        split_file("split_zhou_DescribableTextures.json", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
                   "f26ebeccd2b58e68d70f07a0dc39fe49bf7b69024bac34396b954dfd87969c38", 563_702),
    )),
    "eurosat": DatasetSources("eurosat", (
        images(
            "2750", 94_280_567,  # TFDS
            Source("http://madm.dfki.de/files/sentinel/EuroSAT.zip",
                   "sha256:8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd"),  # TFDS
            Source("https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/"
                   "EuroSAT.zip", "md5:c8fa014336c82ac7804f0398fcb19387"),  # TV
            Source("https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip"),
            Source(PROMPTKD + "eurosat.zip"),
            aliases={"2750": "EuroSAT_RGB"},
        ),
        split_file("split_zhou_EuroSAT.json", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
                   "541503a77d0b26b735d85ec7a3e672804fe0aa466c2e5f07da772cc6c0af8ad2", 3_006_492),
    )),
    "ucf101": DatasetSources("ucf101", (
        images(  # the middle frames of the videos, extracted by CoOp's authors
            "UCF-101-midframes", 140_164_538,  # HL, of the second source
            Source(DRIVE + "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O", name="UCF-101-midframes.zip"),
            Source(PROMPTKD + "ucf101.zip",
                   "sha256:2fe1bd40e64408d02ff173badf744da557033ae6c75dd4ea51519366551f3ae6"),  # HL
        ),
        split_file("split_zhou_UCF101.json", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
                   "d78cb834f7c5792ceaff2c5ee2d7c76a9e4086e48a3a6b01232989d29cbefdd8", 1_557_485),
    )),
    "imagenetv2": DatasetSources("imagenetv2", (
        images(
            "imagenetv2-matched-frequency-format-val", 1_264_079_360,  # TFDS
            Source("https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
                   "imagenetv2-matched-frequency.tar.gz",
                   "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c"),  # TFDS
            Source("https://s3-us-west-2.amazonaws.com/imagenetv2public/imagenetv2-matched-frequency.tar.gz",
                   "sha256:a32004f9e773279307499059d320336a23ccdc62cb32063da29bae9bd04c122c"),  # TFDS, older
        ),
        CLASSNAMES,
    )),
    "imagenet_sketch": DatasetSources("imagenet-sketch", (
        images(
            "images", 7_593_573_012,  # TFDS
            Source(DRIVE + "1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",
                   "sha256:4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed",  # TFDS
                   "ImageNet-Sketch.zip"),
            Source("https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip"),
            aliases={"images": "sketch"},
        ),
        CLASSNAMES,
    )),
    "imagenet_a": DatasetSources("imagenet-adversarial", (
        images(
            "imagenet-a", 687_552_512,  # TFDS
            Source(BERKELEY + "imagenet-a.tar",
                   "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e"),  # TFDS
        ),
        CLASSNAMES,
    )),
    "imagenet_r": DatasetSources("imagenet-rendition", (
        images(
            "imagenet-r", 2_191_079_936,  # TFDS
            Source(BERKELEY + "imagenet-r.tar",
                   "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52"),  # TFDS
        ),
        CLASSNAMES,
    )),
}  # fmt: skip
