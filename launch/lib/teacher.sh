# shellcheck shell=bash
# The teacher: TEACHER_REPLICAS SGLang servers, each on its own GPUs and port.

TEACHER_RESTARTED=0         # times in the current run
declare -A TEACHER_WAITS=() # replica -> until when it must answer; absent once it has
TEACHER_FAULT=

# The server's command for a replica, into TEACHER_WORDS.
teacher_words() {
  local replica=$1 serve=("${TEACHER_COMMAND_WORDS[@]}")
  ((${#serve[@]})) || serve=("$PYTHON" -m sglang.launch_server)
  TEACHER_WORDS=(
    env "CUDA_VISIBLE_DEVICES=${TEACHER_GPUS[replica]}" "${serve[@]}"
    --model-path "$TEACHER_MODEL"
    --host "$TEACHER_HOST"
    --port "${TEACHER_PORT_LIST[replica]}"
    --nccl-port "${TEACHER_NCCL_PORT_LIST[replica]}"
    --tp "$TEACHER_TP"
    --mem-fraction-static "$TEACHER_MEM_FRACTION"
    --chunked-prefill-size 4096
  )
  [[ $TEACHER_CUDA_GRAPH_MAX_BS == 0 ]] || TEACHER_WORDS+=(--cuda-graph-max-bs "$TEACHER_CUDA_GRAPH_MAX_BS")
  [[ -z $TEACHER_CONTEXT_LENGTH ]] || TEACHER_WORDS+=(--context-length "$TEACHER_CONTEXT_LENGTH")
  TEACHER_WORDS+=("${TEACHER_EXTRA_ARGS_WORDS[@]}")
}

teacher_log() { printf '%s/teacher-%s.log' "$RUN_LOGS" "$1"; }

teacher_answers() {
  curl --noproxy '*' --silent --fail --max-time 10 --output /dev/null \
    "http://$TEACHER_HOST:${TEACHER_PORT_LIST[$1]}/health_generate" 8>&- 9>&-
}

start_replica() {
  local replica=$1
  teacher_words "$replica"
  start_process "teacher-$replica" "$(teacher_log "$replica")" "${TEACHER_WORDS[@]}"
  TEACHER_WAITS[$replica]=$((EPOCHSECONDS + TEACHER_WAIT))
}

# Starts all replicas and waits until each answers. Fails as soon as one ends, or at the deadline.
start_teachers() {
  local replica ports=()
  for ((replica = 0; replica < TEACHER_REPLICAS; replica++)); do
    ports+=("TEACHER_PORT=${TEACHER_PORT_LIST[replica]}" "TEACHER_NCCL_PORT=${TEACHER_NCCL_PORT_LIST[replica]}")
  done
  refuse_taken_ports "${ports[@]}" || { TEACHER_FAULT="a port is taken"; return 1; }
  TEACHER_RESTARTED=0 TEACHER_WAITS=()
  for ((replica = 0; replica < TEACHER_REPLICAS; replica++)); do
    start_replica "$replica"
  done
  while ((${#TEACHER_WAITS[@]})); do
    for replica in "${!TEACHER_WAITS[@]}"; do
      if ! is_running "teacher-$replica"; then
        read_exit_code "teacher-$replica"
        TEACHER_FAULT="replica $replica ended with exit code $EXIT_CODE while starting"
        show_end "$(teacher_log "$replica")"
        return 1
      fi
      await_replica "$replica" || return 1
    done
    ((${#TEACHER_WAITS[@]} == 0)) || pause "$LAUNCH_POLL_SECONDS"
  done
}

# One look at a replica that is starting.
await_replica() {
  local replica=$1
  if teacher_answers "$replica"; then
    unset "TEACHER_WAITS[$replica]"
    say "teacher $replica answers at http://$TEACHER_HOST:${TEACHER_PORT_LIST[replica]}"
  elif ((EPOCHSECONDS >= TEACHER_WAITS[$replica])); then
    TEACHER_FAULT="replica $replica gave no answer within TEACHER_WAIT=$TEACHER_WAIT seconds"
    show_end "$(teacher_log "$replica")"
    return 1
  fi
}

# Called while a training runs: a replica that ended is started again on its port, TEACHER_RESTARTS times in a run.
# The trainer's client repeats its requests meanwhile.
watch_teachers() {
  local replica
  [[ -z $TEACHER_URL ]] || return 0
  for ((replica = 0; replica < TEACHER_REPLICAS; replica++)); do
    if ! is_running "teacher-$replica"; then
      read_exit_code "teacher-$replica"
      if ((TEACHER_RESTARTED >= TEACHER_RESTARTS)); then
        TEACHER_FAULT="replica $replica ended with exit code $EXIT_CODE; it was restarted TEACHER_RESTARTS=$TEACHER_RESTARTS times"
        show_end "$(teacher_log "$replica")"
        return 1
      fi
      TEACHER_RESTARTED=$((TEACHER_RESTARTED + 1))
      complain "warning: teacher $replica ended with exit code $EXIT_CODE; restart $TEACHER_RESTARTED of $TEACHER_RESTARTS"
      show_end "$(teacher_log "$replica")" 5
      stop_process "teacher-$replica" || return 1
      start_replica "$replica"
    elif [[ -n ${TEACHER_WAITS[$replica]:-} ]]; then
      await_replica "$replica" || return 1
    fi
  done
}
