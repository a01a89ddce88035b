"""A trainer's name says what is learnt and what from: `FDBPL_MaPLe` is MaPLe, supervised by the region bank."""

STUDENTS = (
    "ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP", "VPT", "IVLP", "MaPLe", "PromptSRC",
    "PromptKD",
)  # fmt: skip
SUPERVISIONS = {
    "none": "nothing learnt",
    "labels": "labels of the few shots",
    "online": "a teacher in every step (KDPL, PromptKD)",
    "bank": "the region bank (FDBPL)",
}


def student_of(trainer: str) -> str:
    if trainer == "FDBPL":
        return "CoOp"
    return trainer.removeprefix("FDBPL_").removesuffix("_KDPL")


def supervision_of(trainer: str) -> str:
    if trainer.startswith("FDBPL"):
        return "bank"
    if trainer.endswith("_KDPL") or trainer == "PromptKD":
        return "online"
    return "none" if trainer.startswith("Zeroshot") or trainer == "CLIP" else "labels"


def online_variant(trainer: str) -> str:
    """The trainer that learns the same from an online teacher: FDBPL_MaPLe -> MaPLe_KDPL."""
    student = student_of(trainer)
    return student if student == "PromptKD" else f"{student}_KDPL"


def sort_key(trainer: str) -> tuple:
    """Sorts twins beside each other."""
    student = student_of(trainer)
    number = STUDENTS.index(student) if student in STUDENTS else len(STUDENTS)
    return (number, student, list(SUPERVISIONS).index(supervision_of(trainer)), trainer)
