# shellcheck shell=bash
# Long-running children: each in a session of its own, written down before it runs, and ended by identity.
#
# A process is known by its id, its start time (in ticks since boot) and a token in its environment. Ids are reused;
# together with the start time they are not. The token finds descendants that left the session, such as Ray's jobs.

declare -A PROCESS_ID=() PROCESS_START=() PROCESS_TOKEN=()
TOKEN_NAME=TA_OPD_PROCESS

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# State and start time of a process, into FOUND_STATE and FOUND_START. Fails when there is none.
find_process() {
  local line fields
  { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The name, in brackets, may hold spaces and brackets; after it come the fields from the third on.
  read -ra fields <<<"${line##*) }"
  FOUND_STATE=${fields[0]} FOUND_START=${fields[19]}
}

# start_process ROLE LOG COMMAND...  The command's output is appended to LOG; its record to $PROCESSES.
start_process() {
  local role=$1 log=$2 token
  shift 2
  heed_signals
  token=$(cat /proc/sys/kernel/random/uuid)
  env "$TOKEN_NAME=$token" setsid -- bash "$LAUNCH_LIB/recorded.sh" "$PROCESSES" "$role" "$@" \
    >>"$log" 2>&1 </dev/null 8>&- 9>&- &
  PROCESS_ID[$role]=$!
  find_process "$!" || FOUND_START=gone
  PROCESS_START[$role]=$FOUND_START PROCESS_TOKEN[$role]=$token
}

is_running() {
  [[ -n ${PROCESS_ID[$1]:-} ]] && find_process "${PROCESS_ID[$1]}" || return 1
  [[ $FOUND_STATE != [ZX] && $FOUND_START == "${PROCESS_START[$1]}" ]]
}

# The exit code of a child that has ended, into EXIT_CODE; not in a subshell, which has no children.
read_exit_code() {
  EXIT_CODE=0
  wait "${PROCESS_ID[$1]}" 2>/dev/null || EXIT_CODE=$?
}

# Ids of what lives of a process: its session while the leader can still be told by its start time, and every
# process that carries its token.
members() {
  local id=$1 start=$2 token=$3 path
  {
    if find_process "$id" && [[ $FOUND_START == "$start" ]]; then
      ps -o pid=,stat= -s "$id" | awk '$2 !~ /^[ZX]/ { print $1 }'
    fi
    { grep -lszxF -- "$TOKEN_NAME=$token" /proc/[0-9]*/environ || true; } | while IFS=/ read -r _ _ path _; do
      printf '%s\n' "$path"
    done
  } | sort -un
}

# TERM to all of a process, KILL to what is left after LAUNCH_STOP_SECONDS.
end_process() {
  local ids deadline signal=TERM
  deadline=$((EPOCHSECONDS + ${LAUNCH_STOP_SECONDS:-20}))
  mapfile -t ids < <(members "$@")
  while ((${#ids[@]})); do
    # One that has ended since it was listed is no error.
    kill -s "$signal" -- "${ids[@]}" 2>/dev/null || true
    pause 0.1
    mapfile -t ids < <(members "$@")
    while ((${#ids[@]})) && ((EPOCHSECONDS < deadline)); do
      pause 0.2
      mapfile -t ids < <(members "$@")
    done
    signal=KILL
    if ((EPOCHSECONDS > deadline + 30)); then
      complain "processes ${ids[*]} do not end, even by SIGKILL"
      return 1
    fi
  done
}

stop_process() {
  local role=$1
  [[ -n ${PROCESS_ID[$role]:-} ]] || return 0
  end_process "${PROCESS_ID[$role]}" "${PROCESS_START[$role]}" "${PROCESS_TOKEN[$role]}" || return 1
  wait "${PROCESS_ID[$role]}" 2>/dev/null || true
  unset "PROCESS_ID[$role]" "PROCESS_START[$role]" "PROCESS_TOKEN[$role]"
}

stop_all_processes() {
  local role failed=0
  for role in "${!PROCESS_ID[@]}"; do
    stop_process "$role" || failed=1
  done
  return "$failed"
}

# What a suite killed by SIGKILL left running, by its records in FILE. The records go when all of it has ended.
end_leftovers() {
  local file=$1 role id start boot host token
  [[ -s $file ]] || return 0
  while IFS=$'\t' read -r role id start boot host token; do
    [[ $id =~ ^[0-9]+$ && $start =~ ^[0-9]+$ && -n $token ]] || continue
    if [[ $boot != "$(boot_id)" ]]; then
      [[ $host == "$(uname -n)" ]] || complain "warning: $role of an earlier call ran on $host; see that it ended"
      continue
    fi
    [[ -z $(members "$id" "$start" "$token") ]] || say "ending $role (process $id), left over from an earlier call"
    end_process "$id" "$start" "$token" || return 1
  done <"$file"
  rm -f -- "$file"
}
