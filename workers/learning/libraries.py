"""What training takes of accelerate, datasets, transformers and trl, imported after torchvision was made importable."""

from workers.pipeline import torchvision_cpu

torchvision_cpu.install()

from accelerate import PartialState  # noqa: E402  (after torchvision was made importable)
from accelerate.utils import DistributedType, gather_object  # noqa: E402  (as above)
from datasets import Dataset  # noqa: E402  (as above)
from peft import LoraConfig  # noqa: E402  (as above)
from transformers import (  # noqa: E402  (as above)
    GenerationConfig,
    LogitsProcessor,
    PrinterCallback,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling  # noqa: E402  (as above)
from trl import GRPOConfig, GRPOTrainer  # noqa: E402  (as above)
from trl.models import unwrap_model_for_generation  # noqa: E402  (as above)

__all__ = [
    "BaseModelOutputWithPooling", "Dataset", "DistributedType", "GRPOConfig", "GRPOTrainer", "GenerationConfig",
    "LogitsProcessor", "LoraConfig", "PartialState", "PrinterCallback", "TemperatureLogitsWarper", "TopPLogitsWarper",
    "TrainerCallback", "TrainerControl", "TrainerState", "TrainingArguments", "gather_object",
    "unwrap_model_for_generation",
]  # fmt: skip
