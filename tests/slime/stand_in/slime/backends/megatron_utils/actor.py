"""slime's train actor, as far as it loads checkpoints into its own parameters, and the names that it imports."""

from slime.backends.megatron_utils.model import forward_only, save, train

__all__ = ["MegatronTrainRayActor", "forward_only", "save", "train"]


class MegatronTrainRayActor:
    def __init__(self):
        self.weights, self.backups = "actor", {"actor": "actor"}

    def _switch_model(self, target_tag):
        self.weights = self.backups[target_tag]

    def load_other_checkpoint(self, model_tag, path):
        self.weights = self.backups[model_tag] = path
