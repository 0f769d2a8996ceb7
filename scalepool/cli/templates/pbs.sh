#!/bin/bash
# A host for the scalepool cluster at {{address}}. Submitted once for each host.
#PBS -N {{name}}
#PBS -q {{queue}}
#PBS -A {{account}}
#PBS -l select=1{{?:ncpus=|cpus}}{{?:mem=|mem}}{{?:ngpus=|gpus}}
#PBS -l walltime={{time}}
#PBS -j oe
#PBS -o {{log}}
#PBS -{{option}}

{{prologue}}
{{environment}}
exec {{command}}
