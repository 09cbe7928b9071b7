# shellcheck shell=bash disable=SC2034
# Qwen3-8B teaches Qwen3-4B. Four 80 GB GPUs: teacher, two for training (weights, gradients and Adam are 18 bytes a
# parameter, 68 GiB in all), sampling.
TEACHER_MODEL=Qwen/Qwen3-8B
STUDENT_HF=Qwen/Qwen3-4B
STUDENT_MODEL_SCRIPT=qwen3-4B
TEACHER_GPU=0
TEACHER_MEM_FRACTION=0.6
RAY_GPUS=1,2,3
ACTOR_NUM_GPUS_PER_NODE=2
TENSOR_PARALLEL=2
ROLLOUT_NUM_GPUS=1
ROLLOUT_MEM_FRACTION=0.7
ROLLOUT_MAX_PROMPT_LEN=1024
MAX_TOKENS_PER_GPU=4096
