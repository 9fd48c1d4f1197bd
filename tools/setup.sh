#!/usr/bin/env bash
# Make .venv, or bring it up to date. Does nothing where pyproject.toml and constraints.txt are
# those of the last time.
#   PYTHON       the interpreter (default: the first of python3.11, 3.12, 3.13, python3 that runs)
#   TORCH_INDEX  an index to take torch from, for example one with CPU or other CUDA builds
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.medssl-setup
wanted=$(cat pyproject.toml constraints.txt hatch_build.py | cksum)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
  exit 0
fi

supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
if [ ! -x "$venv/bin/python" ]; then
  for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if "$python" -c "$supported" >/dev/null 2>&1; then break; fi
    python=
  done
  if [ -z "$python" ]; then
    echo "medssl needs Python 3.11, 3.12 or 3.13: name one with make setup PYTHON=/path/to/python" >&2
    exit 2
  fi
  echo "Making $venv with $("$python" -V)"
  "$python" -m venv "$venv"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
rm -f "$stamp"
echo "Installing what medssl needs (some minutes the first time)"
# torch goes first and by its exact version: a range would take the newest build of all.
pip install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
pip install --quiet --constraint constraints.txt --editable '.[dev,jpeg]'
echo "$wanted" >"$stamp"
echo "Ready: $venv/bin/medssl --help"
