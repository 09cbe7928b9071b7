# shellcheck shell=bash
# state.tsv of a run: stage, status, unix seconds, detail. The last line of a stage counts; a torn line counts for nothing.

# note_state STAGE STATUS [DETAIL]
note_state() {
  local detail=${3:-} torn=
  detail=${detail//[$'\t\n']/ }
  # A line torn by a full disk or a crash must not swallow this one.
  [[ ! -s $RUN_DIR/state.tsv || -z $(tail -c 1 -- "$RUN_DIR/state.tsv") ]] || torn=$'\n'
  if ! printf '%s%s\t%s\t%s\t%s\n' "$torn" "$1" "$2" "$EPOCHSECONDS" "$detail" >>"$RUN_DIR/state.tsv"; then
    complain "cannot write $RUN_DIR/state.tsv; is the disk full?"
    return 1
  fi
}

# The status of a stage: start, ok, fail, skip, or nothing.
state_of() {
  [[ -e $RUN_DIR/state.tsv ]] || return 0
  # A whole line ends with a newline; `read` fails on one that does not.
  local stage status seconds detail found=
  while IFS=$'\t' read -r stage status seconds detail; do
    [[ $stage == "$1" && $status =~ ^(start|ok|fail|skip)$ && $seconds =~ ^[0-9]+$ ]] || continue
    found=$status
  done <"$RUN_DIR/state.tsv"
  printf '%s' "$found"
}

is_finished() { [[ $(state_of "$1") == ok || $(state_of "$1") == skip ]]; }

# fail_stage STAGE REASON [LOG]
fail_stage() {
  complain "$RUN_NAME: $1 failed: $2"
  [[ -z ${3:-} ]] || show_end "$3"
  warn_if_full
  note_state "$1" fail "$2" || true
  return 1
}

# A full disk makes everything fail, and its logs stay empty.
warn_if_full() {
  local free
  free=$(df --output=avail -k -- "$RUN_DIR" 2>/dev/null | tail -n 1) || return 0
  if ((free < 1024)); then
    complain "$RUN_DIR: $((free)) KiB are free; is the disk full?"
  fi
}
