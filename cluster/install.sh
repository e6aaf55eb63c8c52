#!/bin/sh
# Creates the environment of a cluster node for the current user:  sh ~/cluster/install.sh
#
# Installs the dependencies of pyproject.toml, at the versions of constraints.txt, into
# ~/.borderline/venv, and adds the environment to login shells. A second run does nothing unless
# these files change. To use an existing environment unchanged, on a shared disk or in an image:
# BORDERLINE_ENVIRONMENT=/path/to/environment.
set -eu

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
state=$HOME/.borderline
environment=${BORDERLINE_ENVIRONMENT:-$state/venv}

refuse() {
    echo "install.sh: $1" >&2
    exit 2
}

find_python() {
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    refuse 'there is no Python 3.11 or newer; install one, or name one with PYTHON=/path/to/python3'
}

install() {
    wanted=$(cat "$project/pyproject.toml" "$project/constraints.txt" | cksum)
    if [ "$(cat "$environment/.installed" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(find_python)
    "$python" -m venv "$environment" ||
        refuse "$python makes no environment; on Debian and Ubuntu install python3-venv"
    # The head needs ray[default] to accept jobs: `ray job submit`, the dashboard.
    "$environment/bin/python" - "$project/pyproject.toml" >"$environment/requirements.txt" <<'END'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print(*project["dependencies"], *project["optional-dependencies"]["postgres"], "ray[default]", sep="\n")
END
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$project/constraints.txt" --requirement "$environment/requirements.txt"
    echo "$wanted" >"$environment/.installed"
}

mkdir -p "$state"
chmod 700 "$state"
if [ -z "${BORDERLINE_ENVIRONMENT:-}" ]; then
    install
fi
[ -x "$environment/bin/python" ] || refuse "$environment holds no bin/python"

cat >"$state/profile" <<END
# Written by cluster/install.sh; read by login shells.
export PATH="$environment/bin:\$PATH"
if [ -f "\$HOME/.ray/auth_token" ]; then
    export RAY_AUTH_MODE=token
fi
# Your settings: lines like MLFLOW_TRACKING_URI=https://mlflow.example.com
if [ -f "\$HOME/.borderline/environment" ]; then
    set -a
    . "\$HOME/.borderline/environment"
    set +a
fi
END
line='[ ! -f "$HOME/.borderline/profile" ] || . "$HOME/.borderline/profile"'
for file in "$HOME/.bashrc" "$HOME/.profile"; do
    grep -qsF "$line" "$file" || printf '%s\n' "$line" >>"$file"
done
