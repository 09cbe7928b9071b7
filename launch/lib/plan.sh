# shellcheck shell=bash
# Settings: resolved and checked by `python -m run_plan`, read here.

# prepare_plan DIR [FLAGS...]: writes the settings of suite and runs under DIR; sets RUNS.
prepare_plan() {
  local lines
  lines=$(ours -m run_plan prepare --suite-dir "$@") || exit $?
  mapfile -t RUNS <<<"$lines"
}

# load_run PLAN_DIR NAME: one run's settings. The paths in them are the suite's, wherever the plan was written.
load_run() {
  local plan=$1/runs/$2
  # shellcheck source=/dev/null
  source "$plan/settings.env"
  mapfile -t OPD_ARGS <"$plan/opd_args"
  RUN_LOGS=$LOG_DIR PROCESSES=$RUN_DIR/processes.tsv
  read -ra TEACHER_GPUS <<<"$TEACHER_REPLICA_GPUS"
  read -ra TEACHER_PORT_LIST <<<"$TEACHER_PORTS"
  read -ra TEACHER_NCCL_PORT_LIST <<<"$TEACHER_NCCL_PORTS"
  keep_from_proxies 127.0.0.1 localhost "$TEACHER_HOST" "$RAY_NODE_IP"
}

# These hosts are never asked through a proxy.
keep_from_proxies() {
  local host
  for host in "$@"; do
    [[ ,${no_proxy:-}, == *",$host,"* ]] || no_proxy=${no_proxy:+$no_proxy,}$host
  done
  NO_PROXY=$no_proxy
  export no_proxy NO_PROXY
}
