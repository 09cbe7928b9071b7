# shellcheck shell=bash
# The training command: slime's groups of arguments, then ours, into TRAIN_WORDS.

# The model's architecture, from slime's scripts/models. Sourced in a strict shell of its own: those scripts are not ours.
read_model_args() {
  local script=$STUDENT_MODEL_SCRIPT
  [[ $script == */* || $script == *.sh ]] || script=$SLIME_DIR/scripts/models/$script.sh
  if [[ ! -r $script ]]; then
    complain "STUDENT_MODEL_SCRIPT '$STUDENT_MODEL_SCRIPT': $script cannot be read"
    return 1
  fi
  mapfile -d '' -t MODEL_ARGS < <(
    # shellcheck source=/dev/null
    set +eu && source "$script" >/dev/null && printf '%s\0' "${MODEL_ARGS[@]}"
  )
  if ((${#MODEL_ARGS[@]} == 0)); then
    complain "STUDENT_MODEL_SCRIPT '$STUDENT_MODEL_SCRIPT': $script sets no MODEL_ARGS"
    return 1
  fi
}

cluster_args() {
  CLUSTER_ARGS=(--actor-num-nodes "$ACTOR_NUM_NODES" --actor-num-gpus-per-node "$ACTOR_NUM_GPUS_PER_NODE")
  # How slime counts engines on machines with other than 8 GPUs.
  [[ -z $NUM_GPUS_PER_NODE ]] || CLUSTER_ARGS+=(--num-gpus-per-node "$NUM_GPUS_PER_NODE")
  if is_on "$COLOCATE"; then
    CLUSTER_ARGS+=(--colocate)
  else
    CLUSTER_ARGS+=(--rollout-num-gpus "$ROLLOUT_NUM_GPUS")
  fi
}

# --load falls back to --ref-load until --save has its first checkpoint: so a run that is started again goes on.
checkpoint_args() {
  CKPT_ARGS=(
    --hf-checkpoint "$STUDENT_HF"
    --ref-load "$STUDENT_TORCH_DIST"
    --load "$RUN_DIR/checkpoints"
    --save "$RUN_DIR/checkpoints"
    --save-interval "$SAVE_INTERVAL"
  )
}

rollout_args() {
  ROLLOUT_ARGS=(
    --prompt-data "$PROMPT_DATA"
    --input-key "$INPUT_KEY"
    --rollout-shuffle
    --num-rollout "$NUM_ROLLOUT"
    --rollout-batch-size "$ROLLOUT_BATCH_SIZE"
    --n-samples-per-prompt "$N_SAMPLES_PER_PROMPT"
    --rollout-max-response-len "$ROLLOUT_MAX_RESPONSE_LEN"
    --rollout-temperature 1
    --rollout-seed "$ROLLOUT_SEED"
    --global-batch-size "$GLOBAL_BATCH_SIZE"
    --balance-data
  )
  [[ -z $LABEL_KEY ]] || ROLLOUT_ARGS+=(--label-key "$LABEL_KEY")
  [[ -z $ROLLOUT_MAX_PROMPT_LEN ]] || ROLLOUT_ARGS+=(--rollout-max-prompt-len "$ROLLOUT_MAX_PROMPT_LEN")
  ! is_on "$APPLY_CHAT_TEMPLATE" || ROLLOUT_ARGS+=(--apply-chat-template)
  [[ -z $SAVE_DEBUG_ROLLOUT_DATA ]] || ROLLOUT_ARGS+=(--save-debug-rollout-data "$SAVE_DEBUG_ROLLOUT_DATA")
}

# GRPO with zero reward: sampled-token OPD is all of the advantage.
objective_args() {
  GRPO_ARGS=(
    --advantage-estimator grpo
    --use-opd
    --opd-type sglang
    --opd-kl-coef "$OPD_KL_COEF"
    --entropy-coef 0.0
    --eps-clip 0.2
    --eps-clip-high 0.28
  )
  OPTIMIZER_ARGS=(
    --optimizer adam
    --lr "$LR"
    --lr-decay-style constant
    --weight-decay 0.1
    --adam-beta1 0.9
    --adam-beta2 0.98
    # A raised NUM_ROLLOUT changes the length of Megatron's schedule, which is constant, and a checkpoint has the old one.
    --override-opt_param-scheduler
  )
}

performance_args() {
  PERF_ARGS=(
    --tensor-model-parallel-size "$TENSOR_PARALLEL"
    --pipeline-model-parallel-size "$PIPELINE_PARALLEL"
    --context-parallel-size "$CONTEXT_PARALLEL"
  )
  ! is_on "$SEQUENCE_PARALLEL" || PERF_ARGS+=(--sequence-parallel)
  case $RECOMPUTE in
    full) PERF_ARGS+=(--recompute-granularity full --recompute-method uniform --recompute-num-layers 1) ;;
    selective) PERF_ARGS+=(--recompute-granularity selective) ;;
  esac
  if [[ $MAX_TOKENS_PER_GPU != 0 ]]; then
    PERF_ARGS+=(--use-dynamic-batch-size --max-tokens-per-gpu "$MAX_TOKENS_PER_GPU")
  else
    PERF_ARGS+=(--micro-batch-size "$MICRO_BATCH_SIZE")
  fi
}

sampling_args() {
  SGLANG_ARGS=(
    --rollout-num-gpus-per-engine "$ROLLOUT_NUM_GPUS_PER_ENGINE"
    --sglang-mem-fraction-static "$ROLLOUT_MEM_FRACTION"
  )
  [[ -z $SGLANG_CUDA_GRAPH_MAX_BS ]] || SGLANG_ARGS+=(--sglang-cuda-graph-max-bs "$SGLANG_CUDA_GRAPH_MAX_BS")
}

other_args() {
  EVAL_ARGS=() WANDB_ARGS=()
  if [[ $EVAL_INTERVAL != 0 ]]; then
    EVAL_ARGS=(--eval-interval "$EVAL_INTERVAL" --eval-prompt-data "${EVAL_PROMPT_DATA_WORDS[@]}")
  fi
  if is_on "$USE_WANDB"; then
    WANDB_ARGS=(--use-wandb --wandb-project "$WANDB_PROJECT" --wandb-group "$WANDB_GROUP-$RUN_NAME")
  fi
  MISC_ARGS=(
    --seed "$SEED"
    --attention-dropout 0.0
    --hidden-dropout 0.0
    --accumulate-allreduce-grads-in-fp32
    --attention-softmax-in-fp32
    --attention-backend flash
  )
}

train_words() {
  read_model_args || return 1
  cluster_args
  checkpoint_args
  rollout_args
  objective_args
  performance_args
  sampling_args
  other_args
  TRAIN_WORDS=(
    "${TRAIN_COMMAND_WORDS[@]}" "${CLUSTER_ARGS[@]}" "${MODEL_ARGS[@]}" "${CKPT_ARGS[@]}" "${ROLLOUT_ARGS[@]}" "${OPTIMIZER_ARGS[@]}"
    "${GRPO_ARGS[@]}" "${OPD_ARGS[@]}" "${WANDB_ARGS[@]}" "${PERF_ARGS[@]}" "${EVAL_ARGS[@]}" "${SGLANG_ARGS[@]}"
    "${MISC_ARGS[@]}" "${EXTRA_ARGS_WORDS[@]}"
  )
}

# What Ray runs; also the record of the run's command.
training_script() {
  quote "$SLIME_DIR"
  printf '#!/usr/bin/env bash\nset -euo pipefail\ncd -- %s\nexec ' "$QUOTED"
  command_text "${TRAIN_WORDS[@]}"
}

# What the driver and all its workers need in their environment, as NAME=value words in RUNTIME_ENVIRONMENT.
runtime_environment() {
  local path=$SLIME_DIR:$REPO/slime_patch
  [[ -z $MEGATRON_LM_DIR ]] || path=$MEGATRON_LM_DIR:$path
  RUNTIME_ENVIRONMENT=(
    "PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH}"
    "PYTHONUNBUFFERED=1"
    "CUDA_DEVICE_MAX_CONNECTIONS=1"
    "RAY_USE_UVLOOP=0"
    "NCCL_NVLS_ENABLE=$(has_nvlink)"
    "MASTER_ADDR=$RAY_NODE_IP"
    "no_proxy=$no_proxy"
    "NO_PROXY=$no_proxy"
  )
}

has_nvlink() {
  local links=0
  if type -P nvidia-smi >/dev/null; then
    links=$(nvidia-smi topo -m 2>/dev/null | grep -cE 'NV[0-9]+' || true)
  fi
  printf '%d' "$((links > 0))"
}
