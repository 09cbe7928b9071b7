"""Whether the start of a train actor with a loss of whole distributions knows slime's trainer; needs Megatron-LM.

Prints the functions of slime that are wrapped afterwards.
"""

import json
from types import SimpleNamespace

from slime.backends.megatron_utils import actor, model, opd_hooks
from slime.utils.opd_versions import PATHS

WRAPPED = [(model, "get_batch"), (model, "train_one_step"), (actor, "save"), (actor, "forward_only")]

settings = {"use_opd": True, "opd_type": "megatron", "normalize_advantages": False, "opd_loss": "taid"}
opd_hooks.initialize(SimpleNamespace(**settings, **PATHS))
print(json.dumps([name for owner, name in WRAPPED if hasattr(getattr(owner, name), "ta_opd_original")]))
