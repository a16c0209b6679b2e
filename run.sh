#!/usr/bin/env bash
# ./run.sh                 set up, then the main job: personalize the included model to people
#                          it has never seen, online and offline; show the table
# ./run.sh --train         a check of the whole path, training included (a quarter of an hour): too
#                          short a training for personalization to help
# ./run.sh test [--slow]   set up, then the tests; further words go to pytest
# ./run.sh setup           set up only
# PYTHON=python3.12 ./run.sh  chooses the interpreter, VENV=DIR a folder for packages other than
#                          .venv. Anything else after ./run.sh goes to main.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

venv=${VENV:-.venv}
python=${PYTHON:-python3}

setup() {
  local requirements=$1
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed; name one: PYTHON=python3.12 ./run.sh" >&2
    exit 1
  fi
  # Install again only when the requirements changed.
  local stamp="$venv/.installed-$requirements"
  if [ -f "$stamp" ] && [ "$stamp" -nt "$requirements" ] && [ "$stamp" -nt requirements.txt ]; then
    return
  fi
  if [ -e "$venv" ] && ! [ -x "$venv/bin/python" ]; then
    # Nothing is put into a folder that isn't ours, and nothing in it is deleted.
    echo "$venv is there, but is no virtual environment of this system: name another folder," \
      "VENV=DIR ./run.sh, or remove this one yourself" >&2
    exit 1
  fi
  if ! [ -e "$venv" ] && ! "$python" -m venv "$venv"; then
    rm -rf "$venv"  # half made, it would look like a whole one
    echo "No virtual environment could be made (on Debian: apt install python3-venv)" >&2
    exit 1
  fi
  if [ "$requirements" = requirements-dev.txt ]; then
    # First, so that no other package brings in a GPU build of several gigabytes.
    "$venv/bin/python" -m pip install --quiet "$(grep -o '^torch==[^ ]*' requirements-dev.txt)"
  fi
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"; then
    echo "Not all packages could be installed. If pip found none for this Python, take an older" \
      "one: rm -r $venv; PYTHON=python3.12 ./run.sh" >&2
    exit 1
  fi
  touch "$stamp"
}

# MediaPipe's pose network, for videos of real people. Without it the included model, which has seen
# rendered people only, does the work; main.py says so then.
fetch_blazepose() {
  local said weights=${TTP_JAX_WEIGHTS:-$HOME/.cache/ttp_jax/weights}
  [ -f "$weights/blazepose/blazepose.npz" ] && return
  echo "Fetching BlazePose, the model for real people (35 MB, once) ..."
  if said=$(PIP_RETRIES=1 PIP_DEFAULT_TIMEOUT=15 "$venv/bin/python" main.py fetch blazepose 2>&1); then
    echo "$said"
  fi
}

case "${1:-}" in
  setup)
    setup requirements.txt
    ;;
  test)
    shift
    setup requirements-dev.txt
    if [ "${1:-}" = --slow ]; then
      shift
      exec "$venv/bin/python" -m pytest -m "not gpu" "$@"
    fi
    exec "$venv/bin/python" -m pytest "$@"
    ;;
  "" | --train)
    setup requirements.txt
    main() { "$venv/bin/python" main.py "$@"; }
    name=demo
    [ "${1:-}" = --train ] && name=tiny
    common="--config=configs/$name.py --workdir=runs/$name"
    [ "$name" = tiny ] && main train $common
    main personalize $common --scenario=offline
    main personalize $common --scenario=online
    main evaluate $common
    echo
    if [ "$name" = demo ]; then
      echo "These are 8 of 32 people in colours that training doesn't have. Over all of them PCK@0.2"
      echo "rises by 7.2 points offline (3.1 to 11.4) and 1.3 online (-0.9 to 3.9): docs/benchmark.md"
    else
      echo "This short training only checks that everything runs. Its self-supervised keypoints don't"
      echo "follow the pose yet (see above), so personalization has nothing to learn from and may do"
      echo "harm. configs/rendered.py trains the same network until it helps (two hours); ./run.sh"
      echo "shows what a longer training gains: that of the included model."
    fi
    echo "Pictures: runs/$name/results/online/*.png and runs/$name/results/offline/*.png"
    echo "Keypoints: runs/$name/results/*/*.csv"
    echo "Your own video: ./run.sh personalize my_video.mp4"
    ;;
  *)
    setup requirements.txt
    case " $* " in
      *" --model"* | *" --config="* | *" --project"* | *" --camera"* | *" --stdin"* | *" --help "*) ;;
      " personalize "?* | " predict "?* | " suggest "?*) fetch_blazepose ;;
    esac
    exec "$venv/bin/python" main.py "$@"
    ;;
esac
