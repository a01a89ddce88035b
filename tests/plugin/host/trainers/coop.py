from dassl.engine import TRAINER_REGISTRY, TrainerX
from torch import nn


@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    """The host's, which learns nothing and says so."""

    def build_model(self):
        print("the host's CoOp")
        self.model = nn.Flatten()

    def train(self):
        pass
