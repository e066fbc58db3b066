#!/bin/sh
# From nothing to metrics: render, split, cold start, GRPO, evaluate, report.
#
#   sh examples/pipeline.sh [CONFIG] [OUT] [SAMPLES]
#
# CONFIG is a training configuration with the blocks cold-start and grpo. Every command goes on
# where it was interrupted, so this script does too. TVR is the command, by default `tvr`.
set -eu

config=${1:-examples/train/tiny-cpu-two-stages.yaml}
out=${2:-runs/pipeline}
samples=${3:-64}
tvr=${TVR:-tvr}

$tvr render "$out/dataset" --config star --num-samples "$samples" \
    --set image.width=160 --set image.height=120
$tvr split "$out/dataset"

$tvr train grpo "$config" --set dataset="$out/dataset" --set output_dir="$out/train"

# Full training leaves models; LoRA leaves adapters, of which GRPO's knows its base.
set -- --model "$out/train/grpo"
if [ -f "$out/train/grpo/adapter_config.json" ]; then
    base=$(sed -n 's/.*"base_model_name_or_path": "\(.*\)",.*/\1/p' "$out/train/grpo/adapter_config.json")
    set -- --model "$base" --adapter "$out/train/grpo"
fi
for part in test_id test_ood; do
    $tvr evaluate "$out/dataset" --split "cross-view/$part" "$@" --out "$out/evaluate-$part"
done
$tvr report "$out"
