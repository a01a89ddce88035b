# shellcheck shell=bash
# Sourced by the protocols' scripts: arguments, folders and the calls of train.py that they share.

# shellcheck source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

DEMO_STUDENT=demo # the student's file on the demo world's data sets

# PROTOCOL DATASET SEED TRAINER [overrides] -> variables, checked. No Python yet: the protocol's first line is still to come.
protocol_arguments() {
    PROTOCOL="$1"
    DATASET="${2:-demo}"
    SEED="${3:-1}"
    TRAINER="${4:-FDBPL}"
    OVERRIDES=("${@:5}")
    OUTPUT="${OUTPUT:-output}"
    SHOTS="${SHOTS:-$(default_shots)}"
    learnt_classes
    check_dataset "$DATASET"
    check_trainer
    [[ "$SEED" =~ ^(0|[1-9][0-9]*)$ ]] || fail "expected a whole number without leading zeros as SEED, found '$SEED'; e.g. 1"
    [[ "$SHOTS" =~ ^((-1|[1-9][0-9]*)\ *)+$ && ("$PROTOCOL" = few_shot || ! "$SHOTS" = *\ *) ]] ||
        fail "expected $([ "$PROTOCOL" = few_shot ] && echo numbers || echo a number) of images as SHOTS (-1: all images), found '$SHOTS'; e.g. SHOTS='$(default_shots)'"
    [[ "${NPROC:-1}" =~ ^([1-9][0-9]*|gpu|cpu|auto)$ ]] || fail "expected a number of processes as NPROC, found '$NPROC'; e.g. NPROC=2"
    TARGETS="$(targets)"
    data_places
    check_weights ${OVERRIDES[@]+"${OVERRIDES[@]}"}
    CFG="${CFG:-$(default_config)}"
    is_name "$CFG" && [ -f "$FOLDER/$CFG.yaml" ] ||
        fail "expected CFG to be one of $(names "$FOLDER"/*.yaml), found '$CFG'; give one of these"
    TESTED_HALF="" EPOCH="" # of base2new_test.sh
}

# LEARN=all: base-to-new whose training sees all classes, as PromptKD's does; its folders and tables are its own.
learnt_classes() {
    case "$PROTOCOL:${LEARN:-}" in
        *: | base2new:base) ;;
        base2new:all) PROTOCOL=base2new_all ;;
        base2new:*) fail "expected LEARN to be base or all, found '$LEARN'; e.g. LEARN=all" ;;
        *) fail "expected no LEARN for $PROTOCOL, which learns all classes, found '$LEARN'; leave it out" ;;
    esac
}

# SHOTS in words
images() {
    local shots="${SHOTS//-1/all}"
    [ "$shots" = all ] || shots="up to $shots"
    echo "$shots images"
}

# plan_steps: makes the environment, checks what is asked for, and sets STEPS, the calls of train.py that the
# protocol consists of (see `python -m fdbpl.runs steps --help`)
plan_steps() {
    local name="" targets=" $TARGETS "
    make_environment requirements.txt
    OWN=() TARGET_OWN=()
    if [[ "$targets" = *" folder "* ]]; then
        find_own_images "$TARGET_IMAGES"
        TARGET_OWN=("${OWN[@]}") OWN=()
        targets="${targets// folder / folder:$OWN_NAME }"
    fi
    if [ "$DATASET" = folder ]; then
        find_own_images "$IMAGES"
        name="$OWN_NAME"
    fi
    STEPS="$("$PYTHON" -m fdbpl.runs steps --protocol "$PROTOCOL" --output="$OUTPUT" --seeds="$SEED" --shots="$SHOTS" \
        --dataset "$DATASET" --own-name="$name" --targets="$targets" --trainer "$TRAINER" \
        --config-file "$FOLDER/$CFG.yaml" --half="$TESTED_HALF" --epoch="$EPOCH" -- ${OVERRIDES[@]+"${OVERRIDES[@]}"})" || exit
}

# run_steps: the calls of STEPS. Sets RUNS, the folders of trainings and tests, and WITHOUT, the other data sets whose tests
# failed: they say why, and the rest goes on.
run_steps() {
    local lines line kind shots dataset classes folder trained code flags target own=(${OWN[@]+"${OWN[@]}"})
    mapfile -t lines <<<"$STEPS"
    RUNS=() WITHOUT=() STATUS=0
    for line in "${lines[@]}"; do
        IFS=$'\t' read -r kind shots dataset classes folder trained <<<"$line"
        code=0 flags=() target="" OWN=(${own[@]+"${own[@]}"})
        if [[ "$folder" =~ ^evaluation/([^/]+)/ ]]; then
            target="${BASH_REMATCH[1]}"
            [ "$dataset" != folder ] || OWN=("${TARGET_OWN[@]}")
        fi
        case "$kind" in
            bank) flags=(--generate-regions) ;;
            test) flags=(--eval-only --model-dir "$OUTPUT/$trained" ${EPOCH:+--load-epoch "$EPOCH"}) ;;
        esac
        train_py "$dataset" "$OUTPUT/$folder" "$classes" "$shots" ${flags[@]+"${flags[@]}"} || code=$?
        if [ "$code" = 0 ]; then
            [ "$kind" = bank ] || RUNS+=("$OUTPUT/$folder")
        elif [ "$code" -lt 128 ] && [ -n "$target" ]; then
            STATUS=$code WITHOUT+=("$target")
        else
            exit "$code" # interrupted, or nothing more can be done without it
        fi
    done
}

# Sets DATA, the root of the data sets; SYNTHETIC, that of the synthetic ones, in which nothing else lies; IMAGES, the user's
# images for the data set `folder` (DATA if that is not set); and TARGET_IMAGES, those for `folder` among TARGETS.
data_places() {
    SYNTHETIC="${SYNTHETIC:-$OUTPUT/synthetic}"
    if [ "$DATASET" = folder ]; then
        IMAGES="${IMAGES:-${DATA:-}}"
        [ -n "$IMAGES" ] || fail "IMAGES does not name your images, a folder with a sub-folder for each class or a CSV; e.g. IMAGES=my_photos"
    fi
    DATA="${DATA:-data}"
    [[ " ${TARGETS:-} " = *" folder "* ]] || return 0
    TARGET_IMAGES="${TARGET_IMAGES:-${IMAGES:-}}"
    [ -n "$TARGET_IMAGES" ] || fail "TARGETS contains folder, your own images, but IMAGES does not name them; e.g. IMAGES=my_photos"
    [ "$DATASET" != folder ] || [ "$(realpath -m -- "$TARGET_IMAGES")" != "$(realpath -m -- "$IMAGES")" ] ||
        fail "the target folder would be the source itself ($IMAGES); name other images in TARGET_IMAGES, or leave folder out of TARGETS"
}

# The folder below which a data set lies
root_of() { if is_demo "$1"; then echo "$SYNTHETIC"; else echo "$DATA"; fi; }

# The name of the images in a folder or CSV, a space, and the digest of what is there
own_images() { "$PYTHON" -m fdbpl.data.image_folder "$1"; }

# Sets OWN_NAME, the name of the images in a folder or CSV, and OWN, the overrides with their place and the digest
find_own_images() {
    local found
    found="$(own_images "$1")" || exit
    OWN_NAME="${found% *}"
    OWN=(DATASET.FOLDER "$(realpath -s -- "$1")" DATASET.FOLDER_DIGEST "${found##* }")
}

# A file's name, which leads nowhere else
is_name() { [[ "$1" =~ ^[A-Za-z0-9_][A-Za-z0-9_.+-]*$ ]]; }

check_dataset() {
    is_name "$1" && [ -f "configs/datasets/$1.yaml" ] ||
        fail "expected ${2:-a data set} of $(names configs/datasets/*.yaml), found '$1'; give one of these"
}

# Sets FOLDER, where the trainer's files lie
check_trainer() {
    FOLDER="configs/trainers/$(config_folder)"
    is_name "$TRAINER" && [ -d "$FOLDER" ] ||
        fail "expected a trainer of $(names configs/trainers/*), or such a one as <TRAINER>_KDPL or FDBPL_<TRAINER>, found '$TRAINER'; give one of these"
}

is_demo() { [[ "$1" =~ ^demo(_|$) ]]; }

default_shots() {
    if [ "$PROTOCOL" = few_shot ]; then echo "1 2 4 8 16"; else echo 16; fi
}

# The data sets that are tested on: TARGETS, or for the field's sources the field's; none where the protocol has none
targets() {
    local found="${TARGETS:-}" target protocol source defaults
    case "$PROTOCOL" in base2new* | few_shot) return ;; esac
    while read -r protocol source defaults; do
        [ "$protocol $source" != "$PROTOCOL $DATASET" ] || found="${found:-$defaults}"
    done <fdbpl/runs/targets.txt
    [ -n "${found// /}" ] ||
        fail "expected TARGETS, the data sets to test on (only the sources imagenet and demo have their own), found none for $DATASET; e.g. TARGETS='caltech101 dtd'"
    for target in $found; do check_dataset "$target" "TARGETS"; done
    echo "$found"
}

# A twin (MaPLe_KDPL, FDBPL_MaPLe) is configured by the files of the method it is a twin of, unless it has its own.
config_folder() {
    local method="${TRAINER%_KDPL}"
    if [ -d "configs/trainers/$TRAINER" ]; then echo "$TRAINER"; else echo "${method#FDBPL_}"; fi
}

# The method's file for the protocol and the student that STUDENT names (vit_b16, rn50, demo_vit ...)
default_config() {
    local student file wanted=()
    student="${STUDENT:-$(default_student)}"
    case "$PROTOCOL" in
        few_shot) wanted=("$FOLDER/${student}"_*few_shot.yaml "$FOLDER/$student.yaml") ;; # CoOp's: 16 random vectors
        cross_dataset | domain_generalization) wanted=("$FOLDER/${student}"_*cross_datasets.yaml) ;;
    esac
    for file in ${wanted[@]+"${wanted[@]}"}; do
        [ -f "$file" ] && basename "$file" .yaml && return
    done
    for file in "$FOLDER/${student}"_*ep*.yaml "$FOLDER/$student.yaml" "$FOLDER/$student"_*.yaml; do
        case "$file" in *_cross_datasets.yaml | *_few_shot.yaml) continue ;; esac
        [ -f "$file" ] && basename "$file" .yaml && return
    done
    echo "$student"
}

# The demo models for the demo's data sets; for all others CLIP's ViT-B/32, whose weights have to be here (`check_weights`)
default_student() {
    if is_demo "$DATASET"; then echo "$DEMO_STUDENT"; else echo vit_b32; fi
}

# check_weights [KEY VALUE ...]: where neither STUDENT nor CFG nor an override says which student, its weights are here
check_weights() {
    local weights="${FDBPL_CLIP_CACHE:-$HOME/.cache/clip}/ViT-B-32.pt"
    [ -z "${STUDENT:-}${CFG:-}" ] || return 0
    ! is_demo "$DATASET" && [ ! -f "$weights" ] || return 0
    case " $* " in *" MODEL.BACKBONE.NAME "*) return 0 ;; esac
    fail "the weights of CLIP ViT-B/32 are missing ($weights). STUDENT=vit_b32 downloads them (340 MB), or copy the file there; STUDENT=demo takes the embedded demo models, which know only 28 synthetic classes"
}

# train_py DATASET RUN_FOLDER CLASSES SHOTS [FLAGS ...]; NPROC processes share the work of one run; DETERMINISTIC=1: as the flag
train_py() {
    local launcher=()
    [ "${NPROC:-1}" = 1 ] || launcher=(-m fdbpl.torchrun --standalone --nproc_per_node "$NPROC")
    attached "$PYTHON" ${launcher[@]+"${launcher[@]}"} train.py \
        --root "$(root_of "$1")" \
        --seed "$SEED" \
        --trainer "$TRAINER" \
        --dataset-config-file "configs/datasets/$1.yaml" \
        --config-file "$FOLDER/$CFG.yaml" \
        --output-dir "$2" \
        ${DETERMINISTIC:+--deterministic} "${@:5}" \
        REGIONS.ROOT "$OUTPUT/regions" \
        TEST.FEATURE_CACHE_DIR "$OUTPUT/features" \
        DATASET.FEWSHOT_DIR "$OUTPUT/split_fewshot" \
        DATASET.NUM_SHOTS "$4" \
        DATASET.SUBSAMPLE_CLASSES "$3" \
        ${OWN[@]+"${OWN[@]}"} \
        ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

# Learn on all classes, then test on each of TARGETS
learn_and_transfer() {
    plan_steps
    run_steps
    "$PYTHON" -m fdbpl.runs transfer "${RUNS[@]}" ${WITHOUT[@]+--without "${WITHOUT[@]}"}
    exit "$STATUS"
}

# names PATH ... -> their names without folder and .yaml, separated by commas
names() {
    local list=()
    for path in "$@"; do list+=("$(basename "$path" .yaml)"); done
    (IFS=,; echo "${list[*]}")
}
