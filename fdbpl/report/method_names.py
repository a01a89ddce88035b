"""Student and supervision of a trainer, read from its name: `FDBPL_MaPLe` is MaPLe, supervised by the region bank."""

STUDENTS = (
    "ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP", "VPT", "IVLP", "MaPLe", "PromptSRC",
    "PromptKD",
)  # fmt: skip
SUPERVISIONS = ("none", "labels", "online", "bank")


def student_of(trainer: str) -> str:
    if trainer == "FDBPL":
        return "CoOp"
    return trainer.removeprefix("FDBPL_").removesuffix("_KDPL")


def student_number(trainer: str) -> int:
    """Position of a trainer's student in STUDENTS; their number for an unknown one."""
    student = student_of(trainer)
    return STUDENTS.index(student) if student in STUDENTS else len(STUDENTS)


def supervision_of(trainer: str) -> str:
    """One of SUPERVISIONS: nothing trained, labels, an online teacher, the region bank."""
    if trainer.startswith("FDBPL"):
        return "bank"
    if trainer.endswith("_KDPL") or trainer == "PromptKD":
        return "online"
    return "none" if trainer.startswith("Zeroshot") or trainer == "CLIP" else "labels"


def sort_key(trainer: str) -> tuple:
    """Key that sorts variants of one student next to each other."""
    return (student_number(trainer), student_of(trainer), SUPERVISIONS.index(supervision_of(trainer)), trainer)
