# shellcheck shell=bash
# Which TCP ports somebody listens on, on any address of this machine.

listening_ports() {
  local hex
  awk '$4 == "0A" { sub(/.*:/, "", $2); print $2 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null | sort -u |
    while read -r hex; do printf '%d\n' "0x$hex"; done
}

# refuse_taken_ports NAME=PORT...: says which are taken and what to do about it.
refuse_taken_ports() {
  local taken pair failed=0
  taken=" $(listening_ports | tr '\n' ' ')"
  for pair in "$@"; do
    [[ $taken == *" ${pair#*=} "* ]] || continue
    complain "${pair%%=*} ${pair#*=} is taken by another process; give this run another index (method:ratio:index)"
    failed=1
  done
  return "$failed"
}
