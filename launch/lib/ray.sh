# shellcheck shell=bash
# Ray: a head of our own in one process tree, or a running cluster (RAY_ADDRESS); jobs go to it through `ray job`.

RAY_START_WAIT=300 # seconds; a head that dies is seen at once
RAY_STARTS=3

ray_address() { printf '%s' "${RAY_ADDRESS:-http://127.0.0.1:$RAY_DASHBOARD_PORT}"; }

# The head's command, into RAY_WORDS. Only RAY_GPUS are in its sight.
ray_words() {
  local gpus
  IFS=, read -ra gpus <<<"$RAY_GPUS"
  RAY_WORDS=(
    env "CUDA_VISIBLE_DEVICES=$RAY_GPUS" "${RAY_COMMAND_WORDS[@]}" start --head --block
    --node-ip-address "$RAY_NODE_IP"
    --port "$RAY_PORT"
    --num-gpus "${#gpus[@]}"
    --dashboard-host 127.0.0.1
    --dashboard-port "$RAY_DASHBOARD_PORT"
    --object-manager-port "$RAY_OBJECT_MANAGER_PORT"
    --node-manager-port "$RAY_NODE_MANAGER_PORT"
    --dashboard-agent-listen-port "$RAY_DASHBOARD_AGENT_LISTEN_PORT"
    --dashboard-agent-grpc-port "$RAY_DASHBOARD_AGENT_GRPC_PORT"
    --metrics-export-port "$RAY_METRICS_EXPORT_PORT"
    # Free ones of the system's choice: Ray's own range, 10002 to 19999, holds the teacher's.
    --min-worker-port 0 --max-worker-port 0
    --temp-dir "$RAY_TEMP_DIR"
    --disable-usage-stats
  )
}

# Names and numbers of the ports our head takes.
ray_ports() {
  local name
  for name in RAY_PORT RAY_DASHBOARD_PORT RAY_OBJECT_MANAGER_PORT RAY_NODE_MANAGER_PORT \
    RAY_DASHBOARD_AGENT_LISTEN_PORT RAY_DASHBOARD_AGENT_GRPC_PORT RAY_METRICS_EXPORT_PORT; do
    printf '%s=%s\n' "$name" "${!name}"
  done
}

# Starts the head and waits until it and all of ACTOR_NUM_NODES machines are there.
start_ray() {
  if [[ -z $RAY_ADDRESS ]]; then
    if is_on "$ALLOW_GLOBAL_RAY_STOP"; then
      ray_cli stop >>"$RUN_LOGS/ray.log" 2>&1 || true
    fi
    start_head || return 1
  else
    wait_for_machines 1 "$RAY_START_WAIT" || return 1
  fi
  ((ACTOR_NUM_NODES > 1)) || return 0
  say "waiting for $ACTOR_NUM_NODES machines; on each other one: $(worker_command)"
  wait_for_machines "$ACTOR_NUM_NODES" "$RAY_WORKER_WAIT"
}

# Ray gives parts of itself 15 seconds to come up and then ends: a busy machine gets RAY_STARTS chances.
start_head() {
  local ports attempt
  mapfile -t ports < <(ray_ports)
  ray_words
  for ((attempt = 1; attempt <= RAY_STARTS; attempt++)); do
    refuse_taken_ports "${ports[@]}" || { RAY_FAULT="a port of Ray is taken"; return 1; }
    start_process ray "$RUN_LOGS/ray.log" "${RAY_WORDS[@]}"
    ! wait_for_machines 1 "$RAY_START_WAIT" || return 0
    complain "Ray: $RAY_FAULT (start $attempt of $RAY_STARTS)"
    stop_process ray || return 1
  done
  return 1
}

# wait_for_machines COUNT SECONDS. The dashboard answers before the head itself can take a job: machines are counted.
wait_for_machines() {
  local deadline=$((EPOCHSECONDS + $2)) machines
  while :; do
    machines=$(living_machines)
    ((machines < $1)) || return 0
    if [[ -z $RAY_ADDRESS ]] && ! is_running ray; then
      read_exit_code ray
      RAY_FAULT="the head ended with exit code $EXIT_CODE while starting"
      return 1
    fi
    if ((EPOCHSECONDS >= deadline)); then
      RAY_FAULT="$machines of $1 machines are there after $2 seconds, says $(ray_address)"
      return 1
    fi
    pause "$LAUNCH_POLL_SECONDS"
  done
}

living_machines() {
  local answer
  answer=$(curl --noproxy '*' --silent --fail --max-time 10 "$(ray_address)/api/v0/nodes" 8>&- 9>&-) || answer=
  grep -oE '"state": *"ALIVE"' <<<"$answer" | wc -l
}

worker_command() {
  command_line "${RAY_COMMAND_WORDS[@]}" start --address "$RAY_NODE_IP:$RAY_PORT" --num-gpus "$WORKER_NUM_GPUS" --block
}

ray_cli() {
  "${RAY_COMMAND_WORDS[@]}" "$@" 8>&- 9>&-
}

# The submission's command, into SUBMIT_WORDS. The training's own words are in a file: Ray joins an entrypoint's words
# to one line for sh, and its older versions quote them for Windows.
submit_words() {
  SUBMIT_WORDS=(
    "${RAY_COMMAND_WORDS[@]}" job submit
    --address "$(ray_address)"
    --submission-id "$1"
    --runtime-env-json "$(runtime_env_json)"
    -- bash "$RUN_DIR/train.sh"
  )
}

runtime_env_json() {
  local pair value text=
  for pair in "${RUNTIME_ENVIRONMENT[@]}"; do
    value=${pair#*=}
    value=${value//\\/\\\\}
    value=${value//\"/\\\"}
    text+="${text:+, }\"${pair%%=*}\": \"$value\""
  done
  printf '{"env_vars": {%s}}' "$text"
}

# PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, or nothing when Ray does not say.
job_status() {
  local text
  text=$(ray_cli job status --address "$(ray_address)" "$1" 2>&1) || true
  grep -oiE "(status for job '[^']*': (PENDING|RUNNING|SUCCEEDED|FAILED|STOPPED)|job '[^']*' (succeeded|failed|was stopped))" \
    <<<"$text" | head -n 1 | awk '{ print toupper($NF) }'
}

# A job under a head of our own is ended with it.
stop_job() {
  [[ -z $RAY_ADDRESS ]] || ray_cli job stop --address "$RAY_ADDRESS" "$1" >>"$RUN_LOGS/ray.log" 2>&1 || true
}
