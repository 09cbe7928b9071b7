# shellcheck shell=bash
# One training as a Ray job: submitted, watched with everything it depends on, and settled by what Ray says of it.

CURRENT_JOB= # set while a job of ours may run: what an interrupted suite must stop

# A suite that was killed leaves its job running on a cluster that is not ours.
stop_earlier_job() {
  local job
  [[ -n $RAY_ADDRESS && -s $RUN_DIR/ray_job ]] || return 0
  job=$(<"$RUN_DIR/ray_job")
  case $(job_status "$job") in
    PENDING | RUNNING)
      say "$RUN_NAME: stopping $job, left over from an earlier call"
      stop_job "$job"
      ;;
  esac
}

# submit_job NAME: until the job has succeeded. Fails with TRAIN_FAULT and the log that says more.
submit_job() {
  TRAIN_FAULT_LOG=$RUN_LOGS/train.log
  printf '%s\n' "$1" | write_file "$RUN_DIR/ray_job" || { TRAIN_FAULT="no room for ray_job"; return 1; }
  submit_words "$1"
  CURRENT_JOB=$1
  start_process train "$RUN_LOGS/train.log" "${SUBMIT_WORDS[@]}"
  if ! watch_job "$1"; then
    stop_job "$1"
    CURRENT_JOB=
    return 1
  fi
  CURRENT_JOB=
}

# The submitting client shows the job's log and ends with it. What it says counts for nothing: it also ends when it
# loses the dashboard, while the job goes on.
watch_job() {
  local job=$1 status silent=0 deadline=0
  ((TRAIN_TIMEOUT == 0)) || deadline=$((EPOCHSECONDS + TRAIN_TIMEOUT))
  while :; do
    if ! watch_teachers; then
      TRAIN_FAULT="the teacher: $TEACHER_FAULT" TRAIN_FAULT_LOG=
      return 1
    fi
    if [[ -z $RAY_ADDRESS ]] && ! is_running ray; then
      read_exit_code ray
      TRAIN_FAULT="Ray's head ended with exit code $EXIT_CODE" TRAIN_FAULT_LOG=$RUN_LOGS/ray.log
      return 1
    fi
    if ((deadline && EPOCHSECONDS >= deadline)); then
      TRAIN_FAULT="not finished within TRAIN_TIMEOUT=$TRAIN_TIMEOUT seconds"
      return 1
    fi
    if ! is_running train; then
      read_exit_code train
      status=$(job_status "$job")
      case $status in
        SUCCEEDED) return 0 ;;
        FAILED | STOPPED)
          TRAIN_FAULT="Ray's job $job ${status,,}"
          return 1
          ;;
        "")
          silent=$((silent + 1))
          if ((silent >= 5)); then
            TRAIN_FAULT="the submission ended with exit code $EXIT_CODE and Ray says nothing of $job"
            return 1
          fi
          ;;
        *) silent=0 ;;
      esac
    fi
    pause "$LAUNCH_POLL_SECONDS"
  done
}
