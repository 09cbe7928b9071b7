# shellcheck shell=bash
# What every launcher needs: where the repository is, messages, quoting, waiting.

if ((BASH_VERSINFO[0] < 5)); then
  echo "${0##*/}: error: bash $BASH_VERSION is too old; 5.0 or later is needed" >&2
  exit 2
fi
REPO=$(cd "$LAUNCH_LIB/../.." && pwd)

# How often processes are looked at, and how long they have between TERM and KILL; seconds.
LAUNCH_POLL_SECONDS=${LAUNCH_POLL_SECONDS:-2}
LAUNCH_STOP_SECONDS=${LAUNCH_STOP_SECONDS:-20}

say() { printf '%(%F %T)T  %s\n' -1 "$*"; }

complain() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# A mistake of the person: one line, exit code 2.
die() {
  complain "error: $*"
  exit 2
}

require_commands() {
  local name
  for name in "$@"; do
    type -P "$name" >/dev/null || die "the command '$name' is not on the PATH"
  done
}

# Waits without a child process, so that kill -9 leaves no `sleep` behind; then heeds a signal that came.
exec 8<> <(:)
pause() {
  read -rt "$1" -u 8 || true
  heed_signals
}

# Signals are only noted when they come: a trap that exits in the middle of `read -t` makes bash 5.2 crash.
INTERRUPTED=
heed_signals() {
  [[ -n $INTERRUPTED ]] || return 0
  complain "interrupted; ending what was started"
  exit "$INTERRUPTED"
}

# The end of a log, for a person who reads why something failed.
show_end() {
  [[ -s $1 ]] || return 0
  complain "the end of $1:"
  tail -n "${2:-20}" -- "$1" | sed 's/^/    | /' >&2
}

is_on() { [[ ${1:-} == 1 ]]; }

# DRY_RUN is read before run_plan has read the settings: no other spelling may start the real thing.
wants_dry_run() {
  case ${DRY_RUN:-0} in
    0) return 1 ;;
    1) return 0 ;;
    *) die "DRY_RUN '$DRY_RUN' is neither 0 nor 1" ;;
  esac
}

# Our packages, found whether or not the repository is pip-installed.
python_path() {
  local path=$REPO/launch:$REPO/slime_patch:$REPO/diagnostics
  printf '%s' "$path${PYTHONPATH:+:$PYTHONPATH}"
}

# One of our short Python commands. Without the suite's lock, which must go when the suite goes.
ours() { PYTHONPATH=$(python_path) "${PYTHON:-python3}" "$@" 8>&- 9>&-; }
