#!/usr/bin/env bash
# Make a rented GPU machine (Ubuntu, such as RunPod's) ready to train, by one command in a clone of the repository:
#
#   recipes/hardware/setup_gpu_box.sh [--flash-attn] [--xformers] [--venv DIR] [--cuda TAG] [--install-only] [--dry-run]
#
# It looks at driver, disk and compilers, makes a virtual environment, installs torch for CUDA and this package with the
# extras gpu and track at the versions of constraints.txt, and lets the GPUs exchange tensors. It ends with a table of
# PASS, FAIL and NOT TESTED; its status is 0 if nothing failed. A second run installs only what is missing.
#
#   --flash-attn    compile flash-attn too: needs nvcc, and an hour on few cores
#   --xformers      install xformers too
#   --venv DIR      virtual environment (default: .venv)
#   --cuda TAG      build of torch, such as cu126 or cu130 (default: by driver and GPU)
#   --install-only  look at no GPU: for building an image
#   --dry-run       print what would be done
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=.venv cuda="" flash_attn=no xformers=no install_only=no dry_run=no
while [ $# -gt 0 ]; do
  case "$1" in
    --flash-attn) flash_attn=yes ;;
    --xformers) xformers=yes ;;
    --install-only) install_only=yes ;;
    --dry-run) dry_run=yes ;;
    --venv | --cuda)
      if [ -z "${2:-}" ]; then
        echo "error: $1 needs a value" >&2
        exit 2
      fi
      if [ "$1" = --venv ]; then venv=$2; else cuda=$2; fi
      shift
      ;;
    -h | --help) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: unknown option $1; see --help" >&2; exit 2 ;;
  esac
  shift
done
case "$cuda" in
  "" | cu[0-9][0-9][0-9]) ;;
  *) echo "error: --cuda must be like cu130; got $cuda" >&2; exit 2 ;;
esac

# What every build of torch 2.13 for CUDA 13 asks of the driver; older drivers run CUDA 12.6, which ends at Hopper.
driver_for_cuda_13=580 driver_for_cuda_12=525
least_disk_gb=25
torch_version=$(sed -n 's/^torch==//p' constraints.txt)
[ -n "$torch_version" ] || { echo "error: constraints.txt must pin torch; it does not" >&2; exit 2; }
python=$venv/bin/python
gpus=0
table=()
failed=no blocked=no

note() { table+=("$(printf '%-16s %-10s %s' "$1" "$2" "$3")"); }

run() {
  if [ "$dry_run" = yes ]; then
    printf 'would run:'
    printf ' %q' "$@"
    printf '\n'
  else
    printf '+ %s\n' "$*"
    "$@"
  fi
}

# check NAME FUNCTION: a line of the table. A step sets `detail`, and `skipped` to why it was left out.
check() {
  local name=$1 function=$2
  detail="" skipped=""
  if [ "$blocked" = yes ]; then
    note "$name" "NOT TESTED" "after a failure"
  elif ! "$function"; then
    failed=yes
    note "$name" FAIL "${detail:-see above}"
  elif [ "$dry_run" = yes ]; then
    note "$name" "NOT TESTED" "dry run"
  elif [ -n "$skipped" ]; then
    note "$name" "NOT TESTED" "$skipped"
  else
    note "$name" PASS "$detail"
  fi
}

# need NAME FUNCTION: as check, and what follows builds on it.
need() {
  check "$@"
  blocked=$failed
}

# Functions called by `check` run where `set -e` has no effect: every command that may fail says what then.

driver() {
  [ "$install_only" = no ] || { skipped="only installing"; return 0; }
  local query=(nvidia-smi "--query-gpu=driver_version,compute_cap,name" "--format=csv,noheader")
  if ! command -v nvidia-smi > /dev/null; then
    detail="no nvidia-smi: rent a machine with NVIDIA's driver"
    [ "$dry_run" = yes ]
    return
  fi
  local found version capability
  found=$("${query[@]}") || { detail="nvidia-smi fails: $found"; return 1; }
  gpus=$(printf '%s\n' "$found" | wc -l)
  version=$(printf '%s\n' "$found" | head -n 1 | cut -d . -f 1)
  # As a number: 8.6 is 86, 12.0 is 120. The newest and the oldest decide.
  capability=$(printf '%s\n' "$found" | cut -d , -f 2 | tr -d ' .' | sort -n)
  local oldest newest
  oldest=$(printf '%s\n' "$capability" | head -n 1)
  newest=$(printf '%s\n' "$capability" | tail -n 1)
  detail="$gpus x $(printf '%s\n' "$found" | head -n 1 | cut -d , -f 3 | sed 's/^ *//'), driver $version"
  if [ -n "$cuda" ]; then
    return 0
  elif [ "$version" -ge "$driver_for_cuda_13" ] && [ "$oldest" -ge 75 ]; then
    cuda=cu130
  elif [ "$version" -ge "$driver_for_cuda_12" ] && [ "$newest" -le 90 ]; then
    cuda=cu126
  else
    detail="$detail: too old for this GPU; rent a machine with driver $driver_for_cuda_13 or later"
    return 1
  fi
}

disk() {
  run df -h . || return 1
  [ "$dry_run" = no ] || return 0
  local free_gb
  free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1000 / 1000))
  detail="$free_gb GB free"
  [ "$free_gb" -ge "$least_disk_gb" ] || { detail="$detail; $least_disk_gb GB needed for the packages alone"; return 1; }
}

interpreter() {
  local candidate
  base_python=""
  for candidate in python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      base_python=$candidate
      break
    fi
  done
  [ -n "$base_python" ] || { detail="no Python 3.11 or later: apt-get install python3.12 python3.12-dev"; return 1; }
  # Headers and compiler: torch.compile builds with them.
  if ! "$base_python" -c 'import ensurepip' 2> /dev/null || ! command -v g++ > /dev/null; then
    local packages=("$base_python-venv" "$base_python-dev" build-essential)
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
      detail="ensurepip or g++ is missing: sudo apt-get install ${packages[*]}"
      return 1
    fi
    run apt-get update && run apt-get install -y --no-install-recommends "${packages[@]}" || return 1
  fi
  detail=$("$base_python" --version)
}

environment() {
  if [ ! -x "$python" ]; then
    run "$base_python" -m venv "$venv" || return 1
  fi
  run "$python" -m pip install --upgrade pip || return 1
  detail=$venv
}

torch() {
  # `torch==2.13.0` of constraints.txt admits 2.13.0+cu130: a build is not part of the version there.
  local wanted="$torch_version+${cuda:-cu130}"
  run "$python" -m pip install -c constraints.txt "torch==$wanted" \
    --extra-index-url "https://download.pytorch.org/whl/${cuda:-cu130}" || return 1
  detail=$wanted
}

package() {
  run "$python" -m pip install -c constraints.txt -e '.[gpu,track]' || return 1
  detail="extras gpu, track"
}

flash_attention() {
  [ "$flash_attn" = yes ] || { skipped="not asked for"; return 0; }
  if [ "$dry_run" = no ] && ! command -v nvcc > /dev/null; then
    detail="no nvcc: rent a machine with a CUDA devel image"
    return 1
  fi
  run "$python" -m pip install ninja packaging setuptools wheel || return 1
  run env "MAX_JOBS=${MAX_JOBS:-4}" "$python" -m pip install -c constraints.txt --no-build-isolation flash-attn || return 1
  run "$python" -c 'import flash_attn' || { detail="installed, cannot be imported"; return 1; }
}

xformers_package() {
  [ "$xformers" = yes ] || { skipped="not asked for"; return 0; }
  run "$python" -m pip install -c constraints.txt xformers || return 1
  run "$python" -c 'import xformers.ops' || { detail="installed, cannot be imported"; return 1; }
}

features() {
  run "$python" -m modeling_astrobio.training.features || return 1
  [ "$install_only" = no ] || { skipped="only installing"; return 0; }
  run "$python" -c 'import torch; assert torch.cuda.is_available(); torch.ones(1, device="cuda").item()' || {
    detail="torch cannot use the GPU"
    return 1
  }
}

communication() {
  [ "$install_only" = no ] || { skipped="only installing"; return 0; }
  local count=$gpus report=$venv/communication.json
  if [ "$dry_run" = yes ] && [ "$count" -eq 0 ]; then
    count=2
  elif [ "$count" -lt 2 ]; then
    skipped="one GPU"
    return 0
  fi
  run "$venv/bin/torchrun" --standalone --nproc-per-node "$count" recipes/hardware/check_communication.py \
    --device cuda --json "$report" || { detail="see above and $report"; return 1; }
  detail="$count GPUs, $report"
}

need driver driver
need disk disk
need python interpreter
need environment environment
need torch torch
need package package
check flash-attn flash_attention
check xformers xformers_package
check features features
check communication communication

printf '\n'
printf '%s\n' "${table[@]}"
[ "$failed" = no ] || exit 1
[ "$dry_run" = yes ] || printf '\nUse it with: . %s/bin/activate\n' "$venv"
