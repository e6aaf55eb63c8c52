#!/bin/sh
# Serves the local MLflow store to this machine only: UI and tracking at one address.
#
#   sh mlflow/serve.sh [--port N]
#
# The store is in BORDERLINE_HOME, or else in runs/ of this project. Works from any folder.
set -eu

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
port=5000

refuse() {
    echo "serve.sh: $1" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,6s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --port)
        [ $# -ge 2 ] || refuse "--port needs a number, as in: --port 5001"
        port=$2
        shift 2
        ;;
    --port=*)
        port=${1#--port=}
        shift
        ;;
    *) refuse "$1 is no option; there is only --port N" ;;
    esac
done
case $port in
'' | *[!0-9]*) refuse "--port $port is no number; give a free port, as in: --port 5001" ;;
esac

python=$project/.venv/bin/python
[ -x "$python" ] || python=$(command -v python3 || command -v python) ||
    refuse "there is no Python; run 'make demo' in $project first"
"$python" -c "import importlib.util as u, sys; m = u.find_spec('mlflow'); sys.exit(not (m and m.origin))" ||
    refuse "$python has no MLflow; run 'make demo' in $project first"

# uvicorn reports a taken port after the address is printed, and MLflow then exits with 0.
free=$("$python" -c '
import socket, sys

def is_free(port):
    with socket.socket() as each:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

wanted = int(sys.argv[1])
if not 1 <= wanted <= 65535:
    sys.exit(f"serve.sh: --port {wanted} is no port; give 1024 to 65535")
print(next((each for each in range(wanted, 65536) if is_free(each)), 0))
' "$port") || exit 2
[ "$free" = "$port" ] ||
    refuse "port $port is taken, perhaps by a server of this store; stop it, or give another one: --port $free"

mkdir -p -- "${BORDERLINE_HOME:-$project/runs}"
home=$(CDPATH='' cd -- "${BORDERLINE_HOME:-$project/runs}" && pwd)

# By default MLflow sends statistics and runs eight processes for language models.
export MLFLOW_DISABLE_TELEMETRY="${MLFLOW_DISABLE_TELEMETRY:-true}"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"

# Create a new store with the code of a search, so that both never create it at the same time.
if [ ! -e "$home/mlflow.db" ]; then
    PYTHONPATH=$project${PYTHONPATH:+:$PYTHONPATH} "$python" -c '
import pathlib, sys
from search.tracking.tracking_process import create_local_store
create_local_store(pathlib.Path(sys.argv[1]))
' "$home"
fi

# Silence MLflow, which would print one line per request.
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore}"
echo "MLflow serves $home in a few seconds (Ctrl-C stops it):"
echo "http://127.0.0.1:$port/#/experiments/1/runs?workflowType=machine_learning"
cd -- "$home"
exec "$python" -m mlflow server --host 127.0.0.1 --port "$port" --workers 1 \
    --backend-store-uri "sqlite:///$(printf '%s' "$home" | sed 's/%/%25/g; s/?/%3F/g')/mlflow.db" \
    --artifacts-destination "$home/mlartifacts" --uvicorn-opts "--log-level warning"
