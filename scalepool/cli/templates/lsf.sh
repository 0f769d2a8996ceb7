#!/bin/bash
# A host for the scalepool cluster at {{address}}. Submitted once for each host.
#BSUB -J {{name}}
#BSUB -q {{queue}}
#BSUB -P {{account}}
#BSUB -n {{cpus}}
#BSUB -R "span[hosts=1]"
#BSUB -M {{mem}}
#BSUB -W {{time}}
#BSUB -gpu num={{gpus}}
#BSUB -o {{log}}
#BSUB -{{option}}

{{prologue}}
{{environment}}
exec {{command}}
