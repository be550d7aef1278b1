"""What training takes of accelerate, datasets, peft, transformers and trl, imported after torchvision was made
importable."""

from typing import Any

from workers.pipeline import torchvision_cpu

torchvision_cpu.install()

import transformers  # noqa: E402  (after torchvision was made importable)
import trl.models  # noqa: E402  (as above)
from accelerate import PartialState  # noqa: E402  (as above)
from accelerate.utils import DistributedType, broadcast_object_list, gather_object  # noqa: E402  (as above)
from datasets import Dataset  # noqa: E402  (as above)
from peft import LoraConfig  # noqa: E402  (as above)
from transformers import LogitsProcessor, PrinterCallback, TemperatureLogitsWarper, TopPLogitsWarper  # noqa: E402  (as above)
from transformers.modeling_outputs import BaseModelOutputWithPooling as _BaseModelOutputWithPooling  # noqa: E402  (as above)

#: Their own annotations leave out what these are given, or hold, hence Any.
_trl: Any = trl
GRPOConfig: Any = _trl.GRPOConfig
GRPOTrainer: Any = _trl.GRPOTrainer
GenerationConfig: Any = transformers.GenerationConfig
TrainerCallback: Any = transformers.TrainerCallback
BaseModelOutputWithPooling: Any = _BaseModelOutputWithPooling
unwrap_model_for_generation: Any = _trl.models.unwrap_model_for_generation

__all__ = [
    "BaseModelOutputWithPooling", "Dataset", "DistributedType", "GRPOConfig", "GRPOTrainer", "GenerationConfig",
    "LogitsProcessor", "LoraConfig", "PartialState", "PrinterCallback", "TemperatureLogitsWarper", "TopPLogitsWarper",
    "TrainerCallback", "broadcast_object_list", "gather_object", "unwrap_model_for_generation",
]  # fmt: skip
