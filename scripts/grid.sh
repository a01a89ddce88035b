# shellcheck shell=bash
# Sourced by compare.sh and ablation.sh: rows of a grid, and the call that runs what is missing of it.

# shellcheck source=protocol.sh
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
DEMO_STUDENT=demo_vit # every method can train it

# grid_arguments PROTOCOL DATASETS SEEDS [KEY VALUE ...] -> variables, checked
grid_arguments() {
    local only_demo=yes
    PROTOCOL="$1" DATASETS="$2" SEEDS="$3"
    learnt_classes
    OUTPUT="${OUTPUT:-output}" SHOTS="${SHOTS:-$(default_shots)}"
    [ -n "${DATASETS// /}" ] || fail "expected data sets of $(names configs/datasets/*.yaml), found none; give some"
    for DATASET in $DATASETS; do
        check_dataset "$DATASET" "data sets"
        [ "$DATASET" != folder ] || [ "$DATASETS" = folder ] || [ -n "${IMAGES:-}" ] ||
            fail "IMAGES does not name the images for the data set folder; e.g. IMAGES=my_photos"
        is_demo "$DATASET" || only_demo=
        data_places
        [ "${DRY_RUN:-0}" != 0 ] || check_weights "${@:4}" # a plan lists what is missing
    done
    for NAME in "${CFG:-}" "${STUDENT:-}"; do
        [ -z "$NAME" ] || is_name "$NAME" || fail "expected the name of a file of configs/trainers as CFG or STUDENT, found '$NAME'; e.g. STUDENT=vit_b32"
    done
    JOBS="${JOBS:-${only_demo:+2}}" # the demo world's models are small
    make_environment requirements.txt
}

# DATASET after DATASET: what `$1` prints
for_each_dataset() {
    for DATASET in $DATASETS; do
        OWN_NAME=
        if [ "$DATASET" = folder ]; then
            OWN_NAME="$(own_images "$IMAGES")" || exit
            OWN_NAME="${OWN_NAME% *}"
        fi
        "$1"
    done
}

# row LABEL [KEY VALUE ...]: TRAINER on DATASET, as `fdbpl.runs compare` reads it
row() {
    local tested
    check_trainer
    tested="$(targets)" || exit
    [[ " $tested " != *" folder "* ]] || fail "a grid tests on no images of your own; run scripts/$PROTOCOL.sh for each trainer"
    printf '%s' "$DATASET${OWN_NAME:+:$OWN_NAME}"
    printf '\t%s' "$tested" "$1" "$TRAINER" "$FOLDER/${CFG:-$(default_config)}.yaml" "${@:2}"
    echo
}

# run_grid ROWS [KEY VALUE ...]
run_grid() {
    local flags=()
    [ "${DRY_RUN:-0}" = 0 ] || flags=(--dry-run)
    attached "$PYTHON" -m fdbpl.runs compare --protocol "$PROTOCOL" --output "$OUTPUT" --seeds="$SEEDS" --shots="$SHOTS" \
        --jobs="${JOBS:-1}" --launcher="${LAUNCHER:-}" --slurm="${SLURM:-}" --each="${EACH:-}" ${flags[@]+"${flags[@]}"} \
        "${@:2}" <<<"$1"
    [ ${#flags[@]} = 0 ] || cut -f 1,2 <<<"$1" | sed 's/:[^\t]*//' | tr '\t ' '\n' | sort -u | xargs "$PYTHON" -m datasets.missing --root "$DATA"
}
