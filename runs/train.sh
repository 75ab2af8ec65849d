# Sourced by the scripts that train.

# The views of a reader of lines. The widest strip stands first: position tables are as wide as it, and narrower strips
# take their beginning.
strip_views=64x768,64x64,64x128,64x192,64x256,64x320,64x384,64x448,64x512,64x640

# finished FOLDER STEPS tells whether a run has come so far, and says so.
finished() {
    local newest
    newest="$(find "$1" -maxdepth 1 -name 'step_*' 2>/dev/null | sort | tail -n 1 | sed 's/.*step_0*//' || true)"
    if [[ "${newest:-0}" -lt "$2" ]]; then
        return 1
    fi
    echo "$(basename "$0"): $(basename "$1") is at step $newest already" >&2
}

# train OUT NAME STEPS SCRIPT FLAGS...: the run OUT/NAME up to STEPS, from its newest checkpoint on, compiled where
# there is a compiler; PROCESSES=N shares every step among so many.
train() {
    local out="$1" name="$2" steps="$3" script="$4" compile=() launch=(-m)
    shift 4
    if finished "$out/$name" "$steps"; then
        return
    fi
    if command -v c++ >/dev/null; then
        compile=(--compile=True)
    fi
    if [[ "${PROCESSES:-1}" -gt 1 ]]; then
        launch=(-m torch.distributed.run --standalone "--nproc_per_node=$PROCESSES" -m)
    fi
    # OpenMP's threads wait for each other by spinning. Short spins leave the core to the process that draws cards.
    GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-20000}" .venv/bin/python "${launch[@]}" "$script" --run_name="$name" --out="$out" \
        --steps="$steps" --resume=True ${compile[@]+"${compile[@]}"} "$@"
}
