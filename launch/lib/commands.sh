# shellcheck shell=bash
# Commands as text that a person can read and paste.

# One word, quoted where the shell needs it, into QUOTED.
quote() {
  QUOTED=$1
  [[ $1 =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || QUOTED="'${1//\'/\'\\\'\'}'"
}

# All in one line.
command_line() {
  local word line=
  for word in "$@"; do
    quote "$word"
    line+="${line:+ }$QUOTED"
  done
  printf '%s\n' "$line"
}

# One flag a line, every word quoted.
command_text() {
  local word line=
  for word in "$@"; do
    quote "$word"
    if [[ -n $line && $word == --?* ]]; then
      printf '%s \\\n' "$line"
      line="  $QUOTED"
    else
      line+="${line:+ }$QUOTED"
    fi
  done
  printf '%s\n' "$line"
}

# write_file PATH: standard input, whole or not at all.
write_file() {
  local temporary=$1.tmp.$$
  if ! cat >"$temporary" || ! mv -f -- "$temporary" "$1"; then
    rm -f -- "$temporary"
    complain "cannot write $1; is the disk full?"
    return 1
  fi
}

# run_step STAGE LOG COMMAND...: a stage that is one command.
run_step() {
  local stage=$1 log=$2
  shift 2
  note_state "$stage" start || return 1
  start_process "$stage" "$log" "$@"
  while is_running "$stage"; do pause "$LAUNCH_POLL_SECONDS"; done
  read_exit_code "$stage"
  stop_process "$stage" || return 1
  if ((EXIT_CODE != 0)); then
    fail_stage "$stage" "exit code $EXIT_CODE" "$log"
    return 1
  fi
  note_state "$stage" ok
}
