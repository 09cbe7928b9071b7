# shellcheck shell=bash disable=SC2034
# DeepSeek-R1-Distill-Qwen-14B teaches Qwen2.5-3B (base). Four 80 GB GPUs: teacher, two for training, sampling.
#
# The teacher was made from Qwen2.5-14B: the same byte-level BPE on the same ordinary ids, but other special tokens.
# 151643 ends a text in both. 151644 and 151645, the student's <|im_start|> and <|im_end|>, are the teacher's marks of a
# user's and an assistant's turn; <think> and </think> are tokens of the teacher alone, and 151646 is its begin of
# sentence, which its own tokenizer puts first and a request in token ids, as ours are, does not. The embeddings have
# 152,064 rows against 151,936. So say the published files; nothing of it was run here. Let tools/doctor.py check this
# pair before training.
#
# Prompts go without a chat template: in the student's, the teacher would take the turns for others.
TEACHER_MODEL=deepseek-ai/DeepSeek-R1-Distill-Qwen-14B
STUDENT_HF=Qwen/Qwen2.5-3B
STUDENT_MODEL_SCRIPT=qwen2.5-3B
APPLY_CHAT_TEMPLATE=0
TEACHER_GPU=0
TEACHER_MEM_FRACTION=0.7
RAY_GPUS=1,2,3
ACTOR_NUM_GPUS_PER_NODE=2
TENSOR_PARALLEL=2
ROLLOUT_NUM_GPUS=1
ROLLOUT_MEM_FRACTION=0.7
ROLLOUT_MAX_PROMPT_LEN=1024
MAX_TOKENS_PER_GPU=4096
