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
    check_dataset "$DATASET"
    check_trainer
    [[ "$SEED" =~ ^[0-9]+$ ]] || fail "expected a whole number as SEED, found '$SEED'; e.g. 1"
    [[ "$PROTOCOL" = few_shot || "$SHOTS" =~ ^-?[0-9]+$ ]] || fail "expected a whole number as SHOTS, found '$SHOTS'; e.g. SHOTS=16"
    [[ "${NPROC:-1}" =~ ^([1-9][0-9]*|gpu|cpu|auto)$ ]] || fail "expected a number of processes as NPROC, found '$NPROC'; e.g. NPROC=2"
    TARGETS="$(targets)"
    data_places
    CFG="${CFG:-$(default_config)}"
    is_name "$CFG" && [ -f "$FOLDER/$CFG.yaml" ] ||
        fail "expected CFG to be one of $(names "$FOLDER"/*.yaml), found '$CFG'; give one of these"
}

# The environment, and RUN, the part of the folders' names that says which run it is
name_run() {
    make_environment requirements.txt
    RUN="$DATASET/shots_$SHOTS/$TRAINER/$("$PYTHON" -m fdbpl.runs config-name "$CFG" ${OVERRIDES[@]+"${OVERRIDES[@]}"})/seed$SEED"
    folder_arguments
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
own_images() { "$PYTHON" -m datasets.own_pictures "$1"; }

# Sets OWN_NAME, the name of the images in a folder or CSV, and OWN, the overrides with their place and the digest
find_own_images() {
    local found
    found="$(own_images "$1")" || exit
    OWN_NAME="${found% *}"
    OWN=(DATASET.FOLDER "$(realpath -s -- "$1")" DATASET.FOLDER_DIGEST "${found##* }")
}

# For `folder` the name of the images stands in the run's name
folder_arguments() {
    OWN=()
    [ "$DATASET" = folder ] || return 0
    find_own_images "$IMAGES"
    RUN="$OWN_NAME/${RUN#*/}"
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
    local found="${TARGETS:-}" target protocol source defaults seen=" "
    case "$PROTOCOL" in base2new | few_shot) return ;; esac
    while read -r protocol source defaults; do
        [ "$protocol $source" != "$PROTOCOL $DATASET" ] || found="${found:-$defaults}"
    done <fdbpl/runs/targets.txt
    [ -n "${found// /}" ] ||
        fail "expected TARGETS, the data sets to test on (only the sources imagenet and demo have their own), found none for $DATASET; e.g. TARGETS='caltech101 dtd'"
    for target in $found; do
        check_dataset "$target" "TARGETS"
        [[ "$seen" != *" $target "* ]] || fail "TARGETS contains $target twice; name it once"
        [ "$target" != "$DATASET" ] || [ "$target" = folder ] ||
            fail "TARGETS contains $target, the data set that is learnt from; leave it out"
        seen="$seen$target "
    done
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

# The embedded demo pair for the demo world, and wherever no weights of CLIP have been fetched yet; the latter is said aloud.
default_student() {
    if is_demo "$DATASET"; then
        echo "$DEMO_STUDENT"
    elif [ -f "${FDBPL_CLIP_CACHE:-$HOME/.cache/clip}/ViT-B-32.pt" ]; then
        echo vit_b32
    else
        echo "neither CFG nor STUDENT given and no weights of CLIP ViT-B/32 here: using the embedded demo pair (real CLIP: STUDENT=vit_b32)" >&2
        echo demo
    fi
}

# train_py DATASET RUN_FOLDER CLASSES [FLAGS ...]; NPROC processes share the work of one run; DETERMINISTIC=1: as the flag
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
        ${DETERMINISTIC:+--deterministic} "${@:4}" \
        REGIONS.ROOT "$OUTPUT/regions" \
        FEATURES.ROOT "$OUTPUT/features" \
        DATASET.CACHE "$OUTPUT/split_fewshot" \
        DATASET.NUM_SHOTS "$SHOTS" \
        DATASET.SUBSAMPLE_CLASSES "$3" \
        ${OWN[@]+"${OWN[@]}"} \
        ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

# learn RUN_FOLDER CLASSES: the region bank where one is read, then the training
learn() {
    case "$TRAINER" in FDBPL*) [ -e "$1/done.json" ] || train_py "$DATASET" "$1" "$2" --generate-regions ;; esac
    train_py "$DATASET" "$1" "$2"
}

# Learn on all classes, then test on each of TARGETS. One that cannot be tested says why; the others are.
learn_and_transfer() {
    local source target name code status=0 tested=() without=() own
    name_run
    own=(${OWN[@]+"${OWN[@]}"})
    source="$OUTPUT/train_all/$RUN"
    learn "$source" all
    for target in $TARGETS; do
        code=0 name="$target" OWN=(${own[@]+"${own[@]}"})
        [ "$target" != folder ] || { find_own_images "$TARGET_IMAGES" && name="$OWN_NAME"; }
        train_py "$target" "$OUTPUT/evaluation/$name/$RUN" all --eval-only --model-dir "$source" || code=$?
        [ "$code" -lt 128 ] || exit "$code" # interrupted
        if [ "$code" = 0 ]; then tested+=("$OUTPUT/evaluation/$name/$RUN"); else status=$code without+=("$name"); fi
    done
    "$PYTHON" -m fdbpl.runs transfer "$source" ${tested[@]+"${tested[@]}"} ${without[@]+--without "${without[@]}"}
    exit "$status"
}

# names PATH ... -> their names without folder and .yaml, separated by commas
names() {
    local list=()
    for path in "$@"; do list+=("$(basename "$path" .yaml)"); done
    (IFS=,; echo "${list[*]}")
}
