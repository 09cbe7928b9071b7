"""Hugging Face models to Megatron checkpoints and back, through slime's own converters: checked before, checked after,
and never half there."""
