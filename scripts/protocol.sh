# Sourced by the protocols' scripts: arguments, folders and the call of train.py that they share.

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# DATASET SEED TRAINER [overrides] -> variables, the environment, and the folder names of the base-to-new protocol
protocol_arguments() {
    DATASET="${1:-demo}"
    SEED="${2:-1}"
    TRAINER="${3:-FDBPL}"
    OVERRIDES=("${@:4}")
    DATA="${DATA:-$(default_data)}"
    OUTPUT="${OUTPUT:-output}"
    SHOTS="${SHOTS:-16}"
    check_dataset
    FOLDER="configs/trainers/$(config_folder)"
    [ -d "$FOLDER" ] ||
        fail "expected a trainer of $(names configs/trainers/*), or such a one as <TRAINER>_KDPL or FDBPL_<TRAINER>, found '$TRAINER'; give one of these"
    [[ "$SEED" =~ ^[0-9]+$ ]] || fail "expected a whole number as SEED, found '$SEED'; e.g. 1"
    CFG="${CFG:-$(default_config)}"
    [ -f "$FOLDER/$CFG.yaml" ] ||
        fail "expected CFG to be one of $(names "$FOLDER"/*.yaml), found '$CFG'; give one of these"
    make_environment requirements.txt
    RUN="$DATASET/shots_$SHOTS/$TRAINER/$("$PYTHON" -m fdbpl.runs config-name "$CFG" ${OVERRIDES[@]+"${OVERRIDES[@]}"})/seed$SEED"
    folder_arguments
    BASE="$OUTPUT/base2new/train_base/$RUN"
    NEW="$OUTPUT/base2new/test_new/$RUN"
}

default_data() {
    [ "$DATASET" != folder ] || fail "expected your pictures as DATA (a folder with a sub-folder for each class, or a CSV), found none; e.g. DATA=my_photos"
    echo data
}

# folder: DATA is the pictures themselves. Their folder's name stands in the run's, what is in it in the run's identity.
folder_arguments() {
    OWN=()
    [ "$DATASET" = folder ] || return 0
    local found
    found="$("$PYTHON" -m datasets.own_pictures "$DATA")" || exit
    RUN="${found% *}/${RUN#*/}"
    OWN=(DATASET.FOLDER "$(realpath -s -- "$DATA")" DATASET.FOLDER_DIGEST "${found##* }")
}

check_dataset() {
    [ -f "configs/datasets/$DATASET.yaml" ] ||
        fail "expected a data set of $(names configs/datasets/*.yaml), found '$DATASET'; give one of these"
}

# A twin (MaPLe_KDPL, FDBPL_MaPLe) is configured by the files of the method it is a twin of, unless it has its own.
config_folder() {
    local method="${TRAINER%_KDPL}"
    if [ -d "configs/trainers/$TRAINER" ]; then echo "$TRAINER"; else echo "${method#FDBPL_}"; fi
}

# The method's base-to-new file for the student that STUDENT names (vit_b16, rn50, demo_vit ...).
default_config() {
    local student file
    student="${STUDENT:-$(default_student)}"
    for file in "$FOLDER/${student}"_*ep*.yaml "$FOLDER/$student.yaml" "$FOLDER/$student"_*.yaml; do
        case "$file" in *_cross_datasets.yaml | *_few_shot.yaml) continue ;; esac
        [ -f "$file" ] && basename "$file" .yaml && return
    done
    echo "$student"
}

# The embedded demo pair for the demo world, and wherever no weights of CLIP have been fetched yet; the latter is said aloud.
default_student() {
    if [ "$DATASET" = demo ]; then
        echo demo
    elif [ -f "${FDBPL_CLIP_CACHE:-$HOME/.cache/clip}/ViT-B-32.pt" ]; then
        echo vit_b32
    else
        echo "neither CFG nor STUDENT given and no weights of CLIP ViT-B/32 here: using the embedded demo pair (real CLIP: STUDENT=vit_b32)" >&2
        echo demo
    fi
}

# train_py RUN_FOLDER CLASSES [FLAGS ...]; NPROC processes share the work of one run
train_py() {
    local launcher=()
    [ "${NPROC:-1}" = 1 ] || launcher=(-m torch.distributed.run --standalone --nproc_per_node "$NPROC")
    "$PYTHON" ${launcher[@]+"${launcher[@]}"} train.py \
        --root "$DATA" \
        --seed "$SEED" \
        --trainer "$TRAINER" \
        --dataset-config-file "configs/datasets/$DATASET.yaml" \
        --config-file "$FOLDER/$CFG.yaml" \
        --output-dir "$1" \
        "${@:3}" \
        REGIONS.ROOT "$OUTPUT/regions" \
        FEATURES.ROOT "$OUTPUT/features" \
        DATASET.CACHE "$OUTPUT/split_fewshot" \
        DATASET.NUM_SHOTS "$SHOTS" \
        DATASET.SUBSAMPLE_CLASSES "$2" \
        ${OWN[@]+"${OWN[@]}"} \
        ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

# names PATH ... -> their names without folder and .yaml, separated by commas
names() {
    local list=()
    for path in "$@"; do list+=("$(basename "$path" .yaml)"); done
    (IFS=,; echo "${list[*]}")
}
