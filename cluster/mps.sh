#!/bin/sh
# Starts and stops NVIDIA's Multi-Process Service (MPS), which lets processes that share a GPU
# compute at the same time instead of in turns: sh cluster/mps.sh start|stop|status
#
# Its files are in BORDERLINE_MPS, by default a folder of the user. Processes that use MPS need the
# two variables that `start` prints.
set -eu

folder=${BORDERLINE_MPS:-${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}/borderline-mps-$(id -u)}
CUDA_MPS_PIPE_DIRECTORY=$folder/pipe
CUDA_MPS_LOG_DIRECTORY=$folder/log
export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY

say() {
    printf 'mps.sh: %s\n' "$1" >&2
}

ask() {
    # A dead daemon leaves its pipe behind, and a write to that pipe would block forever.
    printf '%s\n' "$1" | timeout 10 nvidia-cuda-mps-control
}

is_running() {
    ask get_server_list >/dev/null 2>&1
}

print_variables() {
    printf 'export CUDA_MPS_PIPE_DIRECTORY="%s"\n' "$CUDA_MPS_PIPE_DIRECTORY"
    printf 'export CUDA_MPS_LOG_DIRECTORY="%s"\n' "$CUDA_MPS_LOG_DIRECTORY"
}

start() {
    if is_running; then
        say 'runs already'
    else
        mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
        chmod 700 "$folder"
        if ! nvidia-cuda-mps-control -d; then
            say "does not start; see $CUDA_MPS_LOG_DIRECTORY/control.log"
            exit 1
        fi
        say 'started'
    fi
    print_variables
}

stop() {
    if is_running; then
        if ! ask quit; then
            say 'does not end: processes still use it; end them first'
            exit 1
        fi
        say 'stopped'
    else
        say 'does not run'
    fi
}

status() {
    if is_running; then
        say 'runs'
        print_variables
    else
        say 'does not run'
        exit 1
    fi
}

case ${1-} in
start | stop | status) ;;
*)
    say "unknown command '${1-}': use start, stop or status"
    exit 2
    ;;
esac
if ! command -v nvidia-cuda-mps-control >/dev/null 2>&1; then
    say 'nvidia-cuda-mps-control is not on the PATH: it comes with the NVIDIA driver of Linux'
    exit 2
fi
"$1"
