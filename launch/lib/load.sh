# shellcheck shell=bash
# Everything the commands in launch/ need, in the order in which one file needs the other.

LAUNCH_LIB=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
source "$LAUNCH_LIB/common.sh"
source "$LAUNCH_LIB/commands.sh"
source "$LAUNCH_LIB/processes.sh"
source "$LAUNCH_LIB/ports.sh"
source "$LAUNCH_LIB/state.sh"
source "$LAUNCH_LIB/plan.sh"
source "$LAUNCH_LIB/teacher.sh"
source "$LAUNCH_LIB/ray.sh"
source "$LAUNCH_LIB/train.sh"
source "$LAUNCH_LIB/job.sh"
source "$LAUNCH_LIB/score.sh"
source "$LAUNCH_LIB/local.sh"
source "$LAUNCH_LIB/stages.sh"
source "$LAUNCH_LIB/suite.sh"
source "$LAUNCH_LIB/dry_run.sh"
