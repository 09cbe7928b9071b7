#!/usr/bin/env bash
# recorded.sh FILE ROLE COMMAND...: appends this process to FILE, then becomes COMMAND. A command that cannot be
# written down is not run: nobody could end it later.
set -euo pipefail

file=$1 role=$2
shift 2
IFS= read -r line <"/proc/$$/stat"
read -ra fields <<<"${line##*) }"
printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$role" "$$" "${fields[19]}" "$(cat /proc/sys/kernel/random/boot_id)" \
  "$(uname -n)" "$TA_OPD_PROCESS" >>"$file"
exec "$@"
