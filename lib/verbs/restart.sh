# shellcheck shell=bash
# Usage: restart NAME [OPTION…]
#
# Stops an environment and runs it again, with its manifest as it is now.
#
#   --timeout SECONDS        give up if the server does not answer in time
#   --allow-degraded LIMIT…  run although this host cannot hold the limit: memory, cpu or pids
#   --strict-limits          run only if the kernel itself holds every limit
#
# Examples:
#   restart dev

verb_restart() {
    cli_load run
    state_open "$1" 10
    state_refuse_damaged
    backend_prepare
    backend_stop
    run_start
}
