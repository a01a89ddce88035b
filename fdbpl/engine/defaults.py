"""Default values of the configuration keys that all methods share, added to Dassl's."""

from yacs.config import CfgNode


def extend_cfg(cfg: CfgNode) -> None:
    # the field's data sets are read as stored; custom data (datasets/folder.py) set both
    cfg.INPUT.EXIF_ORIENTATION = False  # True: rotate and mirror images according to their EXIF metadata
    cfg.INPUT.WHITE_BACKGROUND = False  # True: compose transparent pixels over white; False: drop the alpha channel

    cfg.OPTIM.ADAM_EPS = 1e-8  # of the Adam optimisers (TCP: 1e-3)
    cfg.OPTIM.CLIP_GRAD_NORM = 0.0  # largest norm of the gradient of all trained parameters; 0.0 = no clipping
    cfg.MODEL.TEXT_CHUNK = 0  # prompts that pass the text tower at a time: less memory, its forward twice; 0 = all
    cfg.TEST.SAVE_PREDICTIONS = False  # write OUTPUT_DIR/predictions.csv: path, label and probabilities of test images
    cfg.TEST.FEATURE_CACHE_DIR = "output/features"  # features of test images, for all methods and seeds; "" = none

    cfg.TEACHER = CfgNode()
    cfg.TEACHER.NAME = "open_clip:ViT-H-14-quickgelu/dfn5b"  # any name of fdbpl.backbones, or run:<run folder>
    cfg.TEACHER.TEMPLATE = ""  # text around the class name; "" = the data set's template
    cfg.TEACHER.TEMPLATES = ""  # mean of several prompts of a class: imagenet, or a JSON file {class: [sentences]}
    cfg.TEACHER.MATCH_RELATIONS = False  # True: choose the text of untrained classes by the teacher's text
    cfg.TEACHER.PREC = "fp32"  # auto | fp32 | fp16 | bf16; auto: docs/PROTOCOLS.md
    cfg.TEACHER.SECOND = CfgNode()
    cfg.TEACHER.SECOND.NAME = ""  # another teacher, whose bank holds the same regions; "" = none
    cfg.TEACHER.SECOND.COMBINE = "mean"  # mean of both log probabilities | confidence: weighted by 1 - H(p) / ln C

    cfg.TRAINER.KDPL = CfgNode()
    cfg.TRAINER.KDPL.ALPHA = 0.5  # weight of KL(teacher || student)
    cfg.TRAINER.KDPL.BETA = 0.5  # weight of KL(student || teacher)
    cfg.TRAINER.KDPL.CLASS_AGNOSTIC = False  # True: KDPL-CA, words of a vocabulary instead of the class names
    cfg.TRAINER.KDPL.K_MAX = 1000  # KDPL-CA: number of words in each batch, those most likely for the teacher
    cfg.TRAINER.KDPL.VOCABULARY = ""  # KDPL-CA: file with one word per line; "" = KDPL's list, downloaded once

    cfg.REGIONS = CfgNode()
    cfg.REGIONS.ROOT = "output/regions"  # folder of all banks
    cfg.REGIONS.ALL_IMAGES = False  # True: regions of all training images of the classes; the shots only give labels
    cfg.REGIONS.PER_IMAGE = 50  # regions of each image
    cfg.REGIONS.PER_EPOCH = 1  # number of these that an epoch reads
    cfg.REGIONS.STEPS_PER_EPOCH = 0  # batches of an epoch, for any number of images; 0 = determined by PER_EPOCH
    cfg.REGIONS.SCALE = (0.08, 0.936)  # range of a region's share of the area
    cfg.REGIONS.RATIO = (3 / 4, 4 / 3)  # range of a region's aspect ratio, width over height
    cfg.REGIONS.FLIP = 0.5  # probability of a horizontal flip
    cfg.REGIONS.SEED = 1  # seed of the sampled regions; runs of all seeds share one bank
    cfg.REGIONS.TARGET = "embedding"  # embedding | topk:K (probabilities of a fixed class list, for very large sets)
    cfg.REGIONS.PIPELINE = "auto"  # auto | dali | torchvision
    cfg.REGIONS.DALI_DEVICE = "cpu"  # cpu | gpu: where DALI decodes; gpu has not been measured yet
    cfg.REGIONS.CACHE_STUDENT_FEATURES = True  # look up the features of the student's frozen image tower as well
    cfg.REGIONS.GENERATE = False  # True: generate missing regions when training starts (the plug-in for forks)
    cfg.REGIONS.BATCH_SIZE = 256  # regions per forward pass of the teacher
