#!/bin/bash
# {{nodes}} hosts for the scalepool cluster at {{address}}.
#SBATCH --job-name={{name}}
#SBATCH --partition={{queue}}
#SBATCH --nodes={{nodes}}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={{cpus}}
#SBATCH --mem={{mem}}
#SBATCH --time={{time}}
#SBATCH --account={{account}}
#SBATCH --gres=gpu:{{gpus}}
#SBATCH --output={{log}}
#SBATCH --{{option}}

{{prologue}}
{{environment}}
# srun does not take --cpus-per-task over from the job. A host that ends leaves the others alone.
exec srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} --kill-on-bad-exit=0 --wait=0 \
    {{command}}
