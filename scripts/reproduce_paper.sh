#!/usr/bin/env bash
# The paper's whole grid: 11 data sets, seeds 1 2 3, each method with labels, with KDPL and with FDBPL, four protocols.
#
#   bash scripts/reproduce_paper.sh [PROTOCOLS] [DASSL OVERRIDES ...]
#   DRY_RUN=1 bash scripts/reproduce_paper.sh                          # the plan: commands, missing data and weights
#   STUDENT=rn50 LAUNCHER=slurm JOBS=16 SLURM="partition=gpu gpus_per_node=1" bash scripts/reproduce_paper.sh base2new
#
# PROTOCOLS: by default all four; cross_dataset and domain_generalization learn on imagenet. STUDENT: vit_b32 (default), vit_b16
# or rn50, for which those methods run that it has files for. TRAINERS, DATASETS and SEEDS narrow the grid; DATA, OUTPUT, JOBS,
# LAUNCHER, SLURM as in compare.sh. Interrupt it as you like: what is finished is not run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
PROTOCOLS="${1:-base2new few_shot cross_dataset domain_generalization}"
export STUDENT="${STUDENT:-vit_b32}"
SEEDS="${SEEDS:-1 2 3}"
SETS="${DATASETS:-imagenet caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101}"
WANTED="${TRAINERS:-ZeroshotCLIP CoOp CoOp_KDPL FDBPL CoCoOp CoCoOp_KDPL FDBPL_CoCoOp VPT VPT_KDPL FDBPL_VPT \
MaPLe MaPLe_KDPL FDBPL_MaPLe PromptSRC PromptSRC_KDPL FDBPL_PromptSRC}"

DATASET=imagenet PROTOCOL=base2new LIST=()
for TRAINER in $WANTED; do
    check_trainer
    [ ! -f "$FOLDER/$(default_config).yaml" ] || LIST+=("$TRAINER")
done
[ ${#LIST[@]} -gt 0 ] || fail "expected STUDENT to be one that configs/trainers has files for, found '$STUDENT'; e.g. vit_b32"

status=0
for PROTOCOL in $PROTOCOLS; do
    case "$PROTOCOL" in
        base2new | few_shot) sources="$SETS" ;;
        cross_dataset | domain_generalization) sources=imagenet ;;
        *) fail "expected protocols of base2new,few_shot,cross_dataset,domain_generalization, found '$PROTOCOL'; give some of these" ;;
    esac
    code=0
    bash scripts/compare.sh "$PROTOCOL" "$sources" "$SEEDS" "${LIST[*]}" "${@:2}" || code=$?
    [ "$code" -lt 128 ] || exit "$code" # interrupted
    [ "$code" = 0 ] || [ "$status" = 1 ] || status=$code # 2: your input alone
done
exit "$status"
