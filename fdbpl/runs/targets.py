"""Default target data sets of the protocols that test on other data sets than they train on."""

FIELD = "caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101"

# protocol -> source data set -> targets, in the order of the field's tables
DEFAULT_TARGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "cross_dataset": {"imagenet": tuple(FIELD.split()), "demo": ("demo_colours",)},
    "domain_generalization": {
        "imagenet": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
        "demo": ("demo_sketch", "demo_world", "demo_corrupted"),
    },
}
# source data set -> targets that have exactly its classes
SAME_CLASSES: dict[str, tuple[str, ...]] = {
    "imagenet": ("imagenetv2", "imagenet_sketch"),
    "demo": ("demo_sketch", "demo_world", "demo_corrupted"),
}
